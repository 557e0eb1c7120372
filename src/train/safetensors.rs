//! The safetensors format: a writer that streams and a reader that trusts nothing, both of f32, f16 and
//! bf16.
//!
//! A file is the length of its header (u64, little-endian), the header (JSON, padded with spaces
//! so that the data begins at a multiple of 8) and the data. The header maps each tensor's name to
//! its type, its shape and its two offsets in the data, and `__metadata__` to a map of strings.
//! Written here: names sorted, data contiguous in that order, nothing but what the caller gives, so
//! that the same tensors give the same bytes. <https://github.com/huggingface/safetensors>

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The largest header that is read; the same as in the format's own reader.
const MAX_HEADER: u64 = 100_000_000;

/// How a number is kept.
///
/// ```
/// use twelvefold::train::safetensors::Dtype;
/// assert_eq!((Dtype::default(), Dtype::Bf16.name()), (Dtype::F32, "BF16"));
/// assert!(Dtype::Bf16.holds(1e30) && !Dtype::F16.holds(1e30));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 binary32, as it is computed.
    #[default]
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl Dtype {
    /// Its name in a file.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
        }
    }

    /// Whether a number, rounded to the nearest, is still one.
    pub fn holds(self, value: f32) -> bool {
        match self {
            Dtype::F32 => value.is_finite(),
            Dtype::F16 => f16::from_f32(value).is_finite(),
            Dtype::Bf16 => bf16::from_f32(value).is_finite(),
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().find(|dtype| dtype.name() == name)
    }

    fn bytes(self) -> u64 {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// The next values of a file. Every f16 and bf16 is an f32, so nothing is rounded.
    fn read(self, file: &mut impl Read, out: &mut [f32]) -> io::Result<()> {
        if self == Dtype::F32 {
            file.read_exact(bytemuck::cast_slice_mut(out))?;
            for value in out {
                *value = f32::from_bits(u32::from_le(value.to_bits()));
            }
            return Ok(());
        }
        let mut narrow = vec![0_u16; out.len().min(BLOCK)];
        for block in out.chunks_mut(BLOCK) {
            let narrow = &mut narrow[..block.len()];
            file.read_exact(bytemuck::cast_slice_mut(narrow))?;
            for (value, bits) in block.iter_mut().zip(narrow) {
                let bits = u16::from_le(*bits);
                *value = match self {
                    Dtype::Bf16 => bf16::from_bits(bits).to_f32(),
                    _ => f16::from_bits(bits).to_f32(),
                };
            }
        }
        Ok(())
    }
}

/// A tensor to write.
///
/// ```
/// use twelvefold::train::safetensors::TensorView;
///
/// let data = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let tensor = TensorView { name: "w".to_owned(), shape: vec![2, 3], data, transpose: true };
/// assert_eq!(tensor.file_shape(), [3, 2]);
/// ```
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape in memory.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub data: &'a [f32],
    /// For a matrix (R, C) in memory: (C, R) in the file. GPT-2 keeps its weights (in, out).
    pub transpose: bool,
}

impl TensorView<'_> {
    /// The shape in the file.
    pub fn file_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transpose {
            shape.reverse();
        }
        shape
    }
}

/// What [`write()`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of all bytes, in hexadecimal.
    pub sha256: String,
    /// How many they are.
    pub bytes: u64,
}

/// Writes a file, each number rounded to the nearest of `dtype`. `metadata` gets `"format": "pt"` added:
/// without it some readers refuse the file.
///
/// ```
/// use std::collections::BTreeMap;
/// use twelvefold::train::safetensors::{Dtype, Reader, TensorView, sha256_of_file, write};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("w.safetensors");
/// let (name, shape, data) = ("w".to_owned(), vec![2, 2], &[1.0, 2.0, 3.0, 4.0][..]);
/// let tensor = TensorView { name, shape, data, transpose: false };
/// let mut file = std::fs::File::create(&path)?;
/// let written = write(&mut file, &BTreeMap::new(), &[tensor], Dtype::F32)?;
/// assert_eq!(written.sha256, sha256_of_file(&path)?);
///
/// let mut reader = Reader::open(&path)?;
/// assert_eq!(reader.metadata()["format"], "pt");
/// let mut values = [0.0; 4];
/// reader.read("w", false, &mut values)?;
/// assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What `out` says; `InvalidInput` for a name used twice or `__metadata__`, a shape that does not
/// fit the data, or a transposed tensor that is not a matrix: found before anything is written.
pub fn write(
    out: &mut dyn Write,
    metadata: &BTreeMap<String, String>,
    tensors: &[TensorView<'_>],
    dtype: Dtype,
) -> io::Result<Written> {
    let mut sorted: Vec<&TensorView<'_>> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let header = header(metadata, &sorted, dtype)?;
    let mut out = Hashing { out, hash: Sha256::new(), bytes: 0 };
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut buffers = Buffers::default();
    for tensor in sorted {
        write_data(&mut out, tensor, dtype, &mut buffers)?;
    }
    Ok(Written { sha256: hex(&out.hash.finalize()), bytes: out.bytes })
}

/// One tensor's place in the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its type, for example `F32`.
    pub dtype: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// The first byte and the one after the last, counted from the end of the header.
    pub data_offsets: [u64; 2],
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum HeaderValue {
    Tensor(Entry),
    Metadata(BTreeMap<String, String>),
}

const METADATA: &str = "__metadata__";

fn header(
    metadata: &BTreeMap<String, String>,
    sorted: &[&TensorView<'_>],
    dtype: Dtype,
) -> io::Result<Vec<u8>> {
    let refuse = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let mut metadata = metadata.clone();
    metadata.insert("format".to_owned(), "pt".to_owned());
    let mut values = BTreeMap::from([(METADATA, HeaderValue::Metadata(metadata))]);
    let mut offset = 0;
    for tensor in sorted {
        let (name, shape) = (&tensor.name, &tensor.shape);
        if elements(shape) != Some(tensor.data.len() as u64) {
            return refuse(format!("{name} has {} values, not {shape:?}", tensor.data.len()));
        }
        if tensor.transpose && shape.len() != 2 {
            return refuse(format!("{name} {shape:?} is not a matrix to transpose"));
        }
        let end = offset + dtype.bytes() * tensor.data.len() as u64;
        let entry = Entry {
            dtype: dtype.name().to_owned(),
            shape: tensor.file_shape(),
            data_offsets: [offset, end],
        };
        if values.insert(name, HeaderValue::Tensor(entry)).is_some() {
            return refuse(format!("the name {name} is already taken"));
        }
        offset = end;
    }
    let mut header = serde_json::to_vec(&values)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Columns that are read together: 16 floats are a cache line.
const COLUMNS: usize = 16;
/// Floats that are converted together.
const BLOCK: usize = 16 * 1024;

/// What numbers pass through on their way out.
#[derive(Default)]
struct Buffers {
    columns: Vec<f32>,
    wide: Vec<u32>,
    narrow: Vec<u16>,
}

fn write_data(
    out: &mut impl Write,
    tensor: &TensorView<'_>,
    dtype: Dtype,
    buffers: &mut Buffers,
) -> io::Result<()> {
    let Buffers { columns: gathered, wide, narrow } = buffers;
    let mut write = |values: &[f32]| {
        values.chunks(BLOCK).try_for_each(|block| write_values(out, block, dtype, wide, narrow))
    };
    if !tensor.transpose {
        return write(tensor.data);
    }
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    for first in (0..columns).step_by(COLUMNS) {
        let count = COLUMNS.min(columns - first);
        gathered.clear();
        gathered.resize(count * rows, 0.0);
        for (r, row) in tensor.data.chunks_exact(columns).enumerate() {
            for (c, value) in row[first..first + count].iter().enumerate() {
                gathered[c * rows + r] = *value;
            }
        }
        write(gathered)?;
    }
    Ok(())
}

fn write_values(
    out: &mut impl Write,
    values: &[f32],
    dtype: Dtype,
    wide: &mut Vec<u32>,
    narrow: &mut Vec<u16>,
) -> io::Result<()> {
    let values = values.iter();
    narrow.clear();
    match dtype {
        Dtype::F32 => {
            wide.clear();
            wide.extend(values.map(|value| value.to_bits().to_le()));
            return out.write_all(bytemuck::cast_slice(wide));
        }
        Dtype::F16 => narrow.extend(values.map(|value| f16::from_f32(*value).to_bits().to_le())),
        Dtype::Bf16 => narrow.extend(values.map(|value| bf16::from_f32(*value).to_bits().to_le())),
    }
    out.write_all(bytemuck::cast_slice(narrow))
}

/// Hashes and counts what goes through.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// SHA-256 of bytes, in hexadecimal.
///
/// ```
/// use twelvefold::train::safetensors::sha256_hex;
///
/// assert!(sha256_hex(b"").starts_with("e3b0c442"));
/// ```
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // Writing to a String cannot fail.
        text
    })
}

/// SHA-256 of a file's bytes, in hexadecimal.
///
/// # Errors
/// [`Error::Io`].
pub fn sha256_of_file(path: impl AsRef<Path>) -> Result<String, Error> {
    let path = path.as_ref();
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut out = Hashing { out: &mut io::sink(), hash: Sha256::new(), bytes: 0 };
    io::copy(&mut file, &mut out).map_err(|e| Error::io("read", path, e))?;
    Ok(hex(&out.hash.finalize()))
}

/// The product, where it fits.
fn elements(shape: &[usize]) -> Option<u64> {
    shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64))
}

/// Bytes of a value of a type, where it is one that we know.
fn width(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => 1,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "F32" | "I32" | "U32" => 4,
        "F64" | "I64" | "U64" => 8,
        _ => return None,
    })
}

/// An open file whose header was checked.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    /// Where the data begins in the file.
    start: u64,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl Reader {
    /// Opens a file and checks its header: that it fits the file (nothing is allocated for one that
    /// claims more), and that the tensors cover the data exactly, without a gap or an overlap.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] for a file that is not sound.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let refuse = |what: String| {
            let what = format!("{} is not a sound safetensors file: {what}", path.display());
            Error::input(what, "it may be cut short: copy or write it again")
        };
        let failed = |e| Error::io("read", path, e);
        let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let len = file.metadata().map_err(failed)?.len();
        if len < 8 {
            return Err(refuse(format!("it has {len} bytes")));
        }
        let mut word = [0; 8];
        file.read_exact(&mut word).map_err(failed)?;
        let size = u64::from_le_bytes(word);
        if size > len - 8 || size > MAX_HEADER {
            return Err(refuse(format!("its header claims {size} bytes of {len}")));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(failed)?;
        let start = 8 + size;
        let (tensors, metadata) = parse(&header, len - start).map_err(refuse)?;
        Ok(Self { path: path.to_path_buf(), file, start, tensors, metadata })
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Entry> {
        &self.tensors
    }

    /// The strings of `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads a tensor of f32, f16 or bf16; `out` is as long as its shape says. `transpose` undoes that of
    /// [`TensorView`]: (C, R) in the file becomes (R, C) in `out`.
    ///
    /// # Errors
    /// [`Error::Input`] where it is not there, of another type or size; [`Error::Io`].
    pub fn read(&mut self, name: &str, transpose: bool, out: &mut [f32]) -> Result<(), Error> {
        let refuse =
            |path: &Path, what: String| Error::input(format!("{}: {what}", path.display()), "");
        let Some(entry) = self.tensors.get(name) else {
            return Err(refuse(&self.path, format!("there is no tensor {name}")));
        };
        let float = Dtype::of(&entry.dtype);
        let fits = elements(&entry.shape) == Some(out.len() as u64);
        let Some(float) = float.filter(|_| fits && (!transpose || entry.shape.len() == 2)) else {
            let found = format!("{} {:?}", entry.dtype, entry.shape);
            let what = format!("{name} is {found}, not {} values of F32, F16 or BF16", out.len());
            return Err(refuse(&self.path, what));
        };
        let failed = |e| Error::io("read", &self.path, e);
        self.file.seek(SeekFrom::Start(self.start + entry.data_offsets[0])).map_err(failed)?;
        if !transpose {
            return float.read(&mut self.file, out).map_err(failed);
        }
        let (columns, rows) = (entry.shape[0], entry.shape[1]);
        let mut column = vec![0.0; rows];
        for c in 0..columns {
            float.read(&mut self.file, &mut column).map_err(failed)?;
            for (r, value) in column.iter().enumerate() {
                out[r * columns + c] = *value;
            }
        }
        Ok(())
    }
}

type Parsed = (BTreeMap<String, Entry>, BTreeMap<String, String>);

fn parse(header: &[u8], data: u64) -> Result<Parsed, String> {
    let values: BTreeMap<String, HeaderValue> =
        serde_json::from_slice(header).map_err(|e| format!("its header cannot be read ({e})"))?;
    let (mut tensors, mut metadata) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in values {
        match value {
            HeaderValue::Metadata(map) if name == METADATA => metadata = map,
            HeaderValue::Tensor(entry) if name != METADATA => {
                tensors.insert(name, entry);
            }
            _ => return Err(format!("{name} is not what it should be")),
        }
    }
    let mut places: Vec<(&String, &Entry)> = tensors.iter().collect();
    places.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut covered = 0;
    for (name, entry) in places {
        let [from, to] = entry.data_offsets;
        if from != covered || to < from {
            return Err(format!("{name} lies at {from} to {to}, after {covered}"));
        }
        let size = width(&entry.dtype)
            .and_then(|w| elements(&entry.shape)?.checked_mul(w))
            .ok_or_else(|| format!("{name} is {} {:?}", entry.dtype, entry.shape))?;
        if size != to - from {
            return Err(format!("{name} takes {} bytes, its shape {size}", to - from));
        }
        covered = to;
    }
    if covered != data {
        return Err(format!("its tensors take {covered} bytes, its data {data}"));
    }
    Ok((tensors, metadata))
}
