#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions that each x86-64 processor has")
)]
//! The classes of 64 bytes at a time, a bit for each.

/// How many bytes are looked at together: a bit in a word for each.
pub(super) const WINDOW: usize = 64;

/// The classes of the bytes from the start of a piece on; what stands behind the first that is no
/// ASCII means nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) bytes: &'a [u8; WINDOW],
    pub(super) letters: u64,
    pub(super) numbers: u64,
    /// White space.
    pub(super) spaces: u64,
    /// U+0020.
    pub(super) blanks: u64,
    pub(super) apostrophes: u64,
    /// Where what the next byte is is known, too; not the first.
    pub(super) sure: u64,
}

/// None where fewer bytes are left, or one of the first two is no ASCII.
#[inline]
pub(super) fn window(text: &[u8], at: usize) -> Option<Window<'_>> {
    let bytes = text.get(at..)?.first_chunk::<WINDOW>()?;
    if (bytes[0] | bytes[1]) >= 0x80 {
        return None;
    }
    let mut window =
        Window { bytes, letters: 0, numbers: 0, spaces: 0, blanks: 0, apostrophes: 0, sure: 0 };
    let (groups, _) = bytes.as_chunks::<LANES>();
    let mut wide = 0;
    for (at, group) in groups.iter().enumerate() {
        let shift = at * LANES;
        let [letters, numbers, spaces, blanks, apostrophes, others] = classes(*group);
        window.letters |= letters << shift;
        window.numbers |= numbers << shift;
        window.spaces |= spaces << shift;
        window.blanks |= blanks << shift;
        window.apostrophes |= apostrophes << shift;
        wide |= others << shift;
    }
    // The bits below that of the last one known, which is before the first wide one.
    let last = (wide | 1 << 63).trailing_zeros() - u32::from(wide != 0);
    window.sure = (1 << last) - 2;
    Some(window)
}

#[cfg(target_arch = "x86_64")]
use sse2::LANES;
#[cfg(not(target_arch = "x86_64"))]
use words::{LANES, classes};

#[cfg(target_arch = "x86_64")]
#[inline]
fn classes(bytes: [u8; LANES]) -> Bits {
    // SAFETY: it asks for SSE2, which is part of x86-64: each processor of this kind has it.
    unsafe { sse2::classes(bytes) }
}

/// Letters, numbers, white space, U+0020, apostrophes, and what is no ASCII.
type Bits = [u64; 6];

/// Eight bytes in a word.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod words {
    use super::Bits;

    pub(super) const LANES: usize = 8;

    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;

    #[inline]
    pub(super) fn classes(bytes: [u8; LANES]) -> Bits {
        let word = u64::from_le_bytes(bytes);
        let (low, wide) = (word & !HIGH, word & HIGH);
        let blanks = within(low, b' ', b' ');
        [
            within(low | (0x20 * ONES), b'a', b'z'),
            within(low, b'0', b'9'),
            within(low, b'\t', b'\r') | blanks,
            blanks,
            within(low, b'\'', b'\''),
            wide,
        ]
        .map(|found| ((found & HIGH) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56)
    }

    /// The highest bit of each byte that is within these two; all must be below 0x80.
    fn within(word: u64, from: u8, to: u8) -> u64 {
        // No byte carries into the next: each sum is below 256.
        let not_below = word + u64::from(0x80 - from) * ONES;
        let above = word + u64::from(0x7F - to) * ONES;
        not_below & !above
    }
}

/// Sixteen bytes in a register: each x86-64 processor has these.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set_epi64x, _mm_set1_epi8,
    };

    use super::Bits;

    pub(super) const LANES: usize = 16;

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn classes(bytes: [u8; LANES]) -> Bits {
        let word = u128::from_le_bytes(bytes);
        let word = _mm_set_epi64x((word >> 64) as i64, word as i64);
        let blanks = _mm_cmpeq_epi8(word, _mm_set1_epi8(b' ' as i8));
        [
            within(_mm_or_si128(word, _mm_set1_epi8(0x20)), b'a', b'z'),
            within(word, b'0', b'9'),
            _mm_or_si128(within(word, b'\t', b'\r'), blanks),
            blanks,
            _mm_cmpeq_epi8(word, _mm_set1_epi8(b'\'' as i8)),
            word,
        ]
        .map(|found| u64::from(_mm_movemask_epi8(found) as u16))
    }

    /// All bits of each byte that is within these two.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn within(word: __m128i, from: u8, to: u8) -> __m128i {
        // The first goes to the lowest number there is, so that one comparison tells.
        let moved = _mm_add_epi8(word, _mm_set1_epi8((0x80 - from) as i8));
        let after = 0x81 + (to - from);
        _mm_cmplt_epi8(moved, _mm_set1_epi8(after as i8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tests::Rng;

    #[test]
    fn each_byte_is_of_its_class_in_every_lane() {
        let mut rng = Rng(8);
        for _ in 0..3000 {
            let bytes: [u8; 16] = std::array::from_fn(|_| rng.below(256) as u8);
            let plain = |is: fn(&u8) -> bool| {
                (0..16).map(|at| u64::from(is(&bytes[at])) << at).fold(0, |all, bit| all | bit)
            };
            let expected = [
                plain(u8::is_ascii_alphabetic),
                plain(u8::is_ascii_digit),
                plain(|&byte| byte == 0x0B || byte.is_ascii_whitespace()),
                plain(|&byte| byte == b' '),
                plain(|&byte| byte == b'\''),
                plain(|&byte| byte >= 0x80),
            ];
            // A wide byte may be of any class, too: it is where the others end.
            let ascii = !expected[5];
            let mut found = [0; 6];
            for (at, half) in bytes.as_chunks::<8>().0.iter().enumerate() {
                let half = words::classes(*half);
                found = std::array::from_fn(|class| found[class] | half[class] << (8 * at));
            }
            let agree = |found: Bits| {
                let same = (0..5).all(|class| found[class] & ascii == expected[class] & ascii);
                same && found[5] == expected[5]
            };
            assert!(agree(found), "{bytes:?}");
            #[cfg(target_arch = "x86_64")]
            assert!(agree(classes(bytes)), "{bytes:?}");
        }
    }
}
