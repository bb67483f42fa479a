//! Reads a weights file: recognised and checked by its header first, then the numbers that are needed.

use super::ImportError;
use super::found::FoundModel;
use super::names::{Origin, RecognisedFile};
use crate::config::file;
use crate::files;
use crate::model::shapes::NamedShapes;
use crate::model::state::{HostTensor, NamedTensors};
use crate::model::tensors::{self, TensorFileError, TensorHeader};
use crate::weights::checkpoint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The tensors of a weights file, under our names. They are a whole encoder.
#[derive(Debug)]
pub struct ForeignWeights {
    pub path: PathBuf,
    /// What the file is, in words for people.
    pub kind: &'static str,
    pub tensors: NamedTensors,
    /// What was taken and what was left out, in words for people.
    pub notes: Vec<String>,
    /// The network that was asked for, if one was.
    pub network: Option<String>,
    /// The sizes of the model.
    pub found: FoundModel,
    /// Mean and standard deviation of the training pixels, if the file states them.
    pub pixels: Option<[[f32; 3]; 2]>,
}

impl ForeignWeights {
    /// Reads a file of any known kind. If it holds several networks, `network` says which one is meant.
    ///
    /// # Errors
    /// Returns an error if the file can't be read, is a PyTorch file, or holds no whole Vision Transformer of this kind.
    pub fn read(path: &Path, network: Option<&str>) -> Result<Self, ImportError> {
        if is_pytorch(path) {
            let to = path.with_extension("safetensors");
            return Err(ImportError::PyTorch { path: path.to_owned(), to });
        }
        let unusable = |reason| ImportError::Unusable { path: path.to_owned(), reason };
        let header = tensors::header(path)?;
        if header.metadata.contains_key("checkpoint") {
            return Self::checkpoint(path, network);
        }
        let mut recognised = RecognisedFile::of(&header.shapes, network).map_err(unusable)?;
        let HeaderFacts { heads, pixels } = HeaderFacts::of(&header.metadata);
        let found = FoundModel::of(&mut recognised, heads).map_err(unusable)?;
        let tensors = numbers(&header, &recognised)?;
        Self::whole(path, &recognised, tensors, found, pixels, network)
    }

    fn checkpoint(path: &Path, network: Option<&str>) -> Result<Self, ImportError> {
        let unusable = |reason| ImportError::Unusable { path: path.to_owned(), reason };
        let checkpoint = checkpoint::load(path)?;
        let metadata = BTreeMap::from([("config".to_owned(), checkpoint.meta.config)]);
        let HeaderFacts { heads, pixels } = HeaderFacts::of(&metadata);
        let mut tensors = checkpoint.engine.weights;
        let shapes: NamedShapes =
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
        let mut recognised = RecognisedFile::of(&shapes, None).map_err(unusable)?;
        recognised.kind = "a checkpoint";
        let found = FoundModel::of(&mut recognised, heads).map_err(unusable)?;
        tensors.retain(|name, _| recognised.shapes.contains_key(name));
        Self::whole(path, &recognised, tensors, found, pixels, network)
    }

    /// Puts the parts together, after what only the numbers can show has been looked at.
    fn whole(
        path: &Path,
        recognised: &RecognisedFile,
        tensors: NamedTensors,
        mut found: FoundModel,
        pixels: Option<[[f32; 3]; 2]>,
        network: Option<&str>,
    ) -> Result<Self, ImportError> {
        found
            .look_at(&tensors)
            .map_err(|reason| ImportError::Unusable { path: path.to_owned(), reason })?;
        let notes = recognised.notes();
        let network = network.map(str::to_owned);
        Ok(Self {
            path: path.to_owned(),
            kind: recognised.kind,
            tensors,
            notes,
            network,
            found,
            pixels,
        })
    }
}

/// Reads the numbers of all recognised tensors.
fn numbers(
    header: &TensorHeader,
    recognised: &RecognisedFile,
) -> Result<NamedTensors, TensorFileError> {
    let named = recognised.origins.iter().map(|(name, origin)| {
        let data = match origin {
            Origin::Tensor(theirs) => header.tensor(theirs)?.data,
            Origin::Biases { q, v } => {
                let (q, v) = (header.tensor(q)?.data, header.tensor(v)?.data);
                let zeros = vec![0.0; q.len()];
                [q, zeros, v].concat()
            }
        };
        let shape = recognised.shapes.get(name).cloned().unwrap_or_default();
        Ok((name.clone(), HostTensor { shape, data }))
    });
    named.collect()
}

/// Returns whether the file is a zip archive or a pickle, the two formats that `torch.save` writes.
fn is_pytorch(path: &Path) -> bool {
    let mut head = Vec::new();
    if !path.is_file() {
        return false; // opening a pipe would wait for its writer
    }
    // Reading the file as safetensors will report the error.
    let Ok(file) = files::open(path) else { return false };
    if file.take(9).read_to_end(&mut head).is_err() {
        return false;
    }
    // A safetensors file begins with the length of its header, which may be the same bytes. But byte 8 is a brace.
    let safetensors = head.ends_with(b"\0\0\0\0{");
    let pickle = matches!(head.as_slice(), [0x80, 2..=5, ..]);
    (head.starts_with(b"PK\x03\x04") || pickle) && !safetensors
}

/// Facts about the model that its tensors don't show but the file's header may state.
struct HeaderFacts {
    heads: Option<usize>,
    pixels: Option<[[f32; 3]; 2]>,
}

impl HeaderFacts {
    fn of<'a>(metadata: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut facts = Self { heads: None, pixels: None };
        for (key, text) in metadata {
            if key == "config"
                && let Ok(config) = file::parse(text, "in the file")
            {
                facts.heads = Some(config.model.heads);
                facts.pixels = Some([config.data.mean, config.data.std]);
            }
            if key == "timm_args"
                && let Ok(args) = serde_json::from_str::<Value>(text)
                && let Some(heads) = args["num_heads"].as_u64()
            {
                facts.heads = Some(heads as usize);
            }
        }
        facts
    }
}
