//! A buffer of f32 that begins on a cache line, and on huge pages where it is large and the system
//! has them: the processor finds a page of 2 MiB faster than 512 of 4 KiB.

#![forbid(unsafe_code)]

use memmap2::MmapMut;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Bytes from which a buffer is worth pages of its own.
const LARGE: usize = 1 << 20;
/// Bytes of a cache line.
const LINE: usize = 64;

/// A fixed number of f32, at first 0.
///
/// ```
/// use twelvefold::model::Floats;
/// let mut x = Floats::new(3);
/// x[1] = 5.0;
/// assert_eq!(x[..], [0.0, 5.0, 0.0]);
/// ```
pub struct Floats {
    memory: Memory,
    len: usize,
}

enum Memory {
    /// The f32 begin at `from`, on a line.
    Heap { all: Vec<f32>, from: usize },
    /// Pages of the system, of whole f32.
    Pages(MmapMut),
}

impl Floats {
    /// `len` zeros. Pages are not touched until they are written to.
    pub fn new(len: usize) -> Floats {
        let pages = if len * 4 >= LARGE { MmapMut::map_anon(len * 4).ok() } else { None };
        let memory = match pages {
            Some(map) => {
                // A system without huge pages gives small ones.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Memory::Pages(map)
            }
            None => {
                let all = vec![0.0f32; len + LINE / 4];
                let from = all.as_ptr().align_offset(LINE).min(LINE / 4);
                Memory::Heap { all, from }
            }
        };
        Floats { memory, len }
    }
}

impl From<&[f32]> for Floats {
    fn from(values: &[f32]) -> Floats {
        let mut floats = Floats::new(values.len());
        floats.copy_from_slice(values);
        floats
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.memory {
            Memory::Heap { all, from } => &all[*from..][..self.len],
            Memory::Pages(map) => bytemuck::cast_slice(map),
        }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        match &mut self.memory {
            Memory::Heap { all, from } => &mut all[*from..][..self.len],
            Memory::Pages(map) => bytemuck::cast_slice_mut(map),
        }
    }
}

impl fmt::Debug for Floats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floats").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zero_of_its_length_and_begins_on_a_line() {
        for len in [0, 1, 15, 16, 1000, LARGE / 4 - 1, LARGE / 4, LARGE] {
            let mut x = Floats::new(len);
            assert_eq!(x.len(), len);
            assert!(x.iter().all(|&x| x == 0.0));
            assert!(len == 0 || x.as_ptr().addr().is_multiple_of(LINE), "{len}");
            x.fill(1.0);
            assert_eq!(Floats::from(&x[..]).iter().sum::<f32>(), len as f32);
        }
    }
}
