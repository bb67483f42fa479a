//! Reads and writes named tensors as safetensors files.

use crate::files;
use crate::model::shapes::NamedShapes;
use crate::model::state::{HostTensor, NamedTensors};
use crate::shown;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Headers hold some hundred names and a few texts. A longer one would take more memory than a small model does.
const LARGEST_HEADER: u64 = 8 << 20;

/// Bytes of the longest header that the format allows.
const LONGEST_HEADER: usize = 100_000_000;

/// Why a tensor file can't be read.
#[derive(Debug, Error)]
pub enum TensorFileError {
    #[error("cannot read {path}: {source}", path = shown::path(.path))]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is no valid safetensors file: {reason}", path = shown::path(.path))]
    Format { path: PathBuf, reason: String },
    #[error("{path} has no tensor {name}", path = shown::path(.path))]
    Missing { path: PathBuf, name: String },
    #[error("{path}: tensor {name} has type {dtype}, which isn't supported", path = shown::path(.path))]
    Type { path: PathBuf, name: String, dtype: String },
}

/// A tensor file in memory. All numbers are converted to f32.
#[derive(Debug)]
pub struct TensorFile {
    /// Where the file is, for errors.
    pub path: PathBuf,
    /// The texts of its header.
    pub metadata: HashMap<String, String>,
    pub tensors: NamedTensors,
}

/// The header of a file. The numbers are still on disk, so that a file can be refused before it takes memory.
#[derive(Debug)]
pub struct TensorHeader {
    /// Where the file is, for errors.
    pub path: PathBuf,
    /// The texts of the header.
    pub metadata: HashMap<String, String>,
    /// The shapes of the tensors. The file holds as many numbers as they say.
    pub shapes: NamedShapes,
    file: File,
    /// Where the data begin.
    start: u64,
    infos: Metadata,
}

/// Reads a file.
///
/// # Errors
/// Returns an error if the file can't be read, if it isn't a safetensors file, or if a tensor has a type other than F64,
/// F32, F16, BF16, I64, I32, U8 or BOOL.
pub fn read(path: &Path) -> Result<TensorFile, TensorFileError> {
    header(path)?.all()
}

/// Reads the header of a file, and checks it against the size of the file.
///
/// # Errors
/// Returns an error if the file can't be read, or if it isn't a whole safetensors file.
pub fn header(path: &Path) -> Result<TensorHeader, TensorFileError> {
    let unread = |source| TensorFileError::Read { path: path.to_owned(), source };
    let bad = |reason: String| TensorFileError::Format { path: path.to_owned(), reason };
    let mut file = files::open(path).map_err(unread)?;
    let length = file.metadata().map_err(unread)?.len();
    if length == 0 {
        return Err(bad("it is empty".to_owned()));
    }
    let Some(data) = length.checked_sub(8) else {
        return Err(bad(format!("it has {length} bytes")));
    };
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(unread)?;
    let size = u64::from_le_bytes(size);
    if size > data {
        return Err(bad(format!("a header of {size} bytes is announced in {length} bytes")));
    }
    if size > LARGEST_HEADER {
        return Err(bad(format!("a header of {size} bytes is more than any model needs")));
    }
    let mut text = vec![0; size as usize];
    file.read_exact(&mut text).map_err(unread)?;
    let infos: Metadata = serde_json::from_slice(&text)
        .map_err(|error| bad(format!("its header can't be read: {error}")))?;
    check_sizes(&infos, data - size).map_err(bad)?;
    let metadata = infos.metadata().clone().unwrap_or_default();
    let shapes =
        infos.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect();
    Ok(TensorHeader { path: path.to_owned(), metadata, shapes, file, start: 8 + size, infos })
}

/// Checks that the tensors fill `length` bytes without gaps, each with as many bytes as its shape says.
fn check_sizes(infos: &Metadata, length: u64) -> Result<(), String> {
    let mut end = 0;
    for name in infos.offset_keys() {
        let Some(info) = infos.info(&name) else { continue };
        let bits = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |product, &side| product.checked_mul(side));
        let (from, to) = info.data_offsets;
        let bytes = to.checked_sub(from).filter(|_| from == end);
        if bits.is_none() || bytes.and_then(|bytes| bytes.checked_mul(8)) != bits {
            return Err(format!("tensor {name} of shape {:?} doesn't fit its bytes", info.shape));
        }
        end = to;
    }
    if end as u64 == length {
        return Ok(());
    }
    Err(format!("its tensors take {end} bytes, {length} are there; is the file complete?"))
}

impl TensorHeader {
    /// Returns the shapes of all tensors whose names start with `prefix`, which is removed from the names.
    pub fn shapes_with_prefix(&self, prefix: &str) -> NamedShapes {
        let named = self.shapes.iter();
        let named = named.filter_map(|(name, shape)| Some((name.strip_prefix(prefix)?, shape)));
        named.map(|(name, shape)| (name.to_owned(), shape.clone())).collect()
    }

    /// Reads the numbers of one tensor.
    ///
    /// # Errors
    /// Returns an error if there is no such tensor, if its type isn't supported, or if it can't be read.
    pub fn tensor(&self, name: &str) -> Result<HostTensor, TensorFileError> {
        let path = || self.path.clone();
        let unread = |source| TensorFileError::Read { path: path(), source };
        let info = self
            .infos
            .info(name)
            .ok_or_else(|| TensorFileError::Missing { path: path(), name: name.to_owned() })?;
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + from as u64)).map_err(unread)?;
        file.read_exact(&mut bytes).map_err(unread)?;
        let data = numbers(info.dtype, &bytes).ok_or_else(|| TensorFileError::Type {
            path: path(),
            name: name.to_owned(),
            dtype: info.dtype.to_string(),
        })?;
        Ok(HostTensor { shape: info.shape.clone(), data })
    }

    /// Reads the numbers of all tensors.
    ///
    /// # Errors
    /// Returns an error if a type isn't supported, or if the file can't be read.
    pub fn all(self) -> Result<TensorFile, TensorFileError> {
        let named = self.shapes.keys().map(|name| Ok((name.clone(), self.tensor(name)?)));
        let tensors = named.collect::<Result<_, TensorFileError>>()?;
        Ok(TensorFile { path: self.path, metadata: self.metadata, tensors })
    }
}

/// Parses the bytes of a file. Errors call it `path`.
///
/// # Errors
/// Returns the errors of [`read`].
pub fn parse(bytes: &[u8], path: &Path) -> Result<TensorFile, TensorFileError> {
    let format = |error: safetensors::SafeTensorError| TensorFileError::Format {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let views = SafeTensors::deserialize(bytes).map_err(format)?;
    let mut tensors = NamedTensors::new();
    for (name, view) in views.iter() {
        let data = numbers(view.dtype(), view.data()).ok_or_else(|| TensorFileError::Type {
            path: path.to_owned(),
            name: name.to_owned(),
            dtype: view.dtype().to_string(),
        })?;
        tensors.insert(name.to_owned(), HostTensor { shape: view.shape().to_vec(), data });
    }
    Ok(TensorFile { path: path.to_owned(), metadata, tensors })
}

/// Returns the bytes of a file of 32-bit floats with some texts in its header. The same tensors and texts give the same
/// bytes.
///
/// # Errors
/// Returns an error if the data of a tensor doesn't fit its shape, or if the header is too long.
pub fn to_bytes(
    tensors: &NamedTensors,
    metadata: &BTreeMap<String, String>,
) -> io::Result<Vec<u8>> {
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(&tensor.data);
            Ok((name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?))
        })
        .collect();
    let views = views.map_err(|error: safetensors::SafeTensorError| io::Error::other(error))?;
    serialize(views, metadata)
}

/// Returns the bytes of a file with these texts in its header, in their order. The library has them in another order
/// each time.
///
/// # Errors
/// Returns an error if the header is too long.
pub fn serialize<'a>(
    views: impl IntoIterator<Item = (&'a str, TensorView<'a>)>,
    metadata: &BTreeMap<String, String>,
) -> io::Result<Vec<u8>> {
    const SIZE: usize = 8;
    let mut bytes = safetensors::serialize(views, None).map_err(io::Error::other)?;
    let length = bytes.first_chunk().map_or(0, |size| u64::from_le_bytes(*size) as usize);
    let header = bytes.get(SIZE..SIZE + length).unwrap_or_default();
    let tensors = header.trim_ascii().strip_prefix(b"{").unwrap_or_default();
    let texts = serde_json::to_string(metadata)?;
    let comma = if tensors == b"}" { "" } else { "," };
    let mut new = format!("{{\"__metadata__\":{texts}{comma}").into_bytes();
    new.extend_from_slice(tensors);
    new.resize(new.len().next_multiple_of(SIZE), b' '); // the numbers behind it are aligned
    if new.len() > LONGEST_HEADER {
        return Err(io::Error::other("the texts are too long for a header"));
    }
    let size = (new.len() as u64).to_le_bytes();
    bytes.splice(..SIZE + length, size.into_iter().chain(new));
    Ok(bytes)
}

/// Converts the bytes of a tensor to numbers. Returns `None` for an unknown type.
fn numbers(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    // bf16 is the upper half of an f32.
    let bf16 = |b: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
    Some(match dtype {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::F64 => bytes
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
            .collect(),
        Dtype::F16 => {
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        // Files of other programs hold indices, which lose digits if they are too large.
        Dtype::I64 => bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
            .collect(),
        Dtype::I32 => bytes
            .chunks_exact(4)
            .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32)
            .collect(),
        Dtype::BF16 => bytes.chunks_exact(2).map(bf16).collect(),
        Dtype::U8 | Dtype::BOOL => bytes.iter().map(|&byte| f32::from(byte)).collect(),
        _ => return None,
    })
}

impl TensorFile {
    /// Returns a tensor by name.
    ///
    /// # Errors
    /// Returns [`TensorFileError::Missing`] if there is none.
    pub fn get(&self, name: &str) -> Result<&HostTensor, TensorFileError> {
        self.tensors.get(name).ok_or_else(|| TensorFileError::Missing {
            path: self.path.clone(),
            name: name.to_owned(),
        })
    }

    /// Returns all tensors whose names start with `prefix`, which is removed from the names.
    pub fn with_prefix(&self, prefix: &str) -> NamedTensors {
        let named = self.tensors.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
        });
        named.collect()
    }
}
