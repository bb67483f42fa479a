//! Reads and writes named tensors as safetensors files.

use crate::model::state::{HostTensor, NamedTensors};
use crate::shown;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

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

/// Reads a file.
///
/// # Errors
/// Returns an error if the file can't be read, if it isn't a safetensors file, or if a tensor has a type other than F64,
/// F32, F16, BF16, I64, I32, U8 or BOOL.
pub fn read(path: &Path) -> Result<TensorFile, TensorFileError> {
    let bytes = std::fs::read(path)
        .map_err(|source| TensorFileError::Read { path: path.to_owned(), source })?;
    parse(&bytes, path)
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

/// Returns the bytes of a file of 32-bit floats with some texts in its header.
///
/// # Errors
/// Returns an error if the data of a tensor doesn't fit its shape, or if the header is too long.
pub fn to_bytes(tensors: &NamedTensors, metadata: BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(&tensor.data);
            Ok((name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?))
        })
        .collect();
    let views = views.map_err(|error: safetensors::SafeTensorError| io::Error::other(error))?;
    safetensors::serialize(views, Some(metadata.into_iter().collect())).map_err(io::Error::other)
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
