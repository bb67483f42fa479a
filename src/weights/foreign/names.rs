//! Recognises a weights file, and renames its tensors to our names.
//!
//! The shapes of the head are `[P, D]` here and `[P, D, 1, 1]` in `SimMIM`, whose decoder is a convolution before a
//! pixel shuffle. Both order the P outputs as (colour, row, column).
//!
//! | here | timm | official `SimMIM`, BEiT |
//! |---|---|---|
//! | `encoder.*` | `*` | `encoder.*` |
//! | `attn.qkv.bias` | the same | `attn.q_bias`, `attn.v_bias`; keys have none |
//! | `ls1.gamma`, `ls2.gamma` | the same | `gamma_1`, `gamma_2` |
//! | `rel_pos_bias.…table` | `shared_rel_pos.…table` | with three more rows for the class token |
//! | `mask_token` | – | `encoder.mask_token` |
//! | `head.*` | – | `decoder.0.*` |

use super::ImportError;
use crate::config::file;
use crate::model::state::{HostTensor, NamedTensors};
use crate::model::tensors::{self, TensorFile};
use crate::weights::checkpoint;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Our name and timm's name of the relative position table that all blocks share.
const TABLES: [&str; 2] = [
    "encoder.rel_pos_bias.relative_position_bias_table",
    "encoder.shared_rel_pos.relative_position_bias_table",
];

/// The tensors of a weights file, under our names.
#[derive(Debug)]
pub struct ForeignWeights {
    pub path: PathBuf,
    /// What the file is, in words for people.
    pub kind: &'static str,
    pub tensors: NamedTensors,
    /// Which tensors were left out, in words for people.
    pub notes: Vec<String>,
    /// Attention heads, if the file states them.
    pub heads: Option<usize>,
    /// Mean and standard deviation of the training pixels, if the file states them.
    pub pixels: Option<[[f32; 3]; 2]>,
}

impl ForeignWeights {
    /// Reads a file of any known kind.
    ///
    /// # Errors
    /// Returns an error if the file can't be read, is a PyTorch file, or holds no known names.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        if is_pytorch(path) {
            let to = path.with_extension("safetensors");
            return Err(ImportError::PyTorch { path: path.to_owned(), to });
        }
        let file = tensors::read(path)?;
        if file.metadata.contains_key("checkpoint") {
            return Self::checkpoint(path);
        }
        let HeaderFacts { heads, pixels } = HeaderFacts::of(&file.metadata);
        let TensorFile { tensors, .. } = file;
        let tensors = without_prefixes(tensors);
        let has = |start: &str| tensors.keys().any(|name| name.starts_with(start));
        let unusable = |reason: &str| {
            Err(ImportError::Unusable { path: path.to_owned(), reason: reason.to_owned() })
        };
        if has("encoder.layers.") || has("layers.0.blocks.") {
            return unusable(
                "this is a Swin Transformer; only plain Vision Transformers can be read",
            );
        }
        if has("encoder.layer.") || has("vit.encoder.layer.") {
            return unusable(
                "names of transformers' ViTModel; take the timm weights of the same model instead",
            );
        }
        let inside = has("encoder.blocks.");
        if !inside && !has("blocks.") {
            return unusable(
                "no blocks.N.* or encoder.blocks.N.* among its tensors: no Vision Transformer of timm or SimMIM",
            );
        }
        let kind = match (inside, has("decoder.0."), has("head.")) {
            (true, true, _) => "official SimMIM weights",
            (true, false, true) => "weights of this program",
            (true, false, false) => "encoder weights",
            (false, ..) => "timm ViT weights",
        };
        let mut renamed = RenamedTensors::default();
        for (name, tensor) in tensors {
            let name = if inside { name } else { format!("encoder.{name}") };
            renamed.take(&name, tensor);
        }
        let (tensors, notes) = renamed
            .finish(inside)
            .map_err(|reason| ImportError::Unusable { path: path.to_owned(), reason })?;
        Ok(Self { path: path.to_owned(), kind, tensors, notes, heads, pixels })
    }

    fn checkpoint(path: &Path) -> Result<Self, ImportError> {
        let checkpoint = checkpoint::load(path)?;
        let metadata = BTreeMap::from([("config".to_owned(), checkpoint.meta.config)]);
        let HeaderFacts { heads, pixels } = HeaderFacts::of(&metadata);
        Ok(Self {
            path: path.to_owned(),
            kind: "a checkpoint",
            tensors: checkpoint.engine.weights,
            notes: Vec::new(),
            heads,
            pixels,
        })
    }
}

/// Returns whether the file is a zip archive or a pickle, the two formats that `torch.save` writes.
fn is_pytorch(path: &Path) -> bool {
    let mut head = Vec::new();
    let Ok(file) = File::open(path) else { return false };
    if file.take(9).read_to_end(&mut head).is_err() {
        return false; // reading it as safetensors will report the error
    }
    // A safetensors file begins with the length of its header, which may be the same bytes. But byte 8 is a brace.
    let safetensors = head.ends_with(b"\0\0\0\0{");
    let pickle = matches!(head.as_slice(), [0x80, 2..=5, ..]);
    (head.starts_with(b"PK\x03\x04") || pickle) && !safetensors
}

/// Removes the prefixes that wrapping modules put before every name.
fn without_prefixes(mut tensors: NamedTensors) -> NamedTensors {
    for prefix in ["module.", "timm_model.", "model.", "backbone."] {
        if !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(prefix)) {
            let renamed = tensors.into_iter().map(|(name, tensor)| {
                (name.strip_prefix(prefix).unwrap_or(&name).to_owned(), tensor)
            });
            tensors = renamed.collect();
        }
    }
    tensors
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

/// Tensors that are being renamed: collected one by one by `take`, put together by `finish`.
#[derive(Default)]
struct RenamedTensors {
    tensors: NamedTensors,
    /// What was left out, in words for people.
    dropped: BTreeSet<&'static str>,
    /// `q_bias` and `v_bias`, by the prefix of their block. `finish` makes them one `qkv.bias`.
    biases: BTreeMap<String, [Option<HostTensor>; 2]>,
    /// Whether a block has a relative position table of its own.
    own_table: bool,
}

impl RenamedTensors {
    /// Takes in a tensor, whose name begins with `encoder.` if it belongs to the encoder.
    fn take(&mut self, name: &str, tensor: HostTensor) {
        let dropped = match name {
            "encoder.cls_token" => Some("the class token"),
            "encoder.dist_token" => Some("the distillation token"),
            "encoder.reg_token" => Some("register tokens"),
            _ if name.starts_with("encoder.head") || name.starts_with("encoder.pre_logits") => {
                Some("the classifier")
            }
            _ if name.starts_with("encoder.decoder_") => Some("the decoder"),
            _ => None,
        };
        if let Some(what) = dropped {
            self.dropped.insert(what);
        } else if name.ends_with("relative_position_index") || name.ends_with("attn.k_bias") {
            // These tensors are constants of the model: indices, and a bias of zeros.
        } else if let Some(block) = name.strip_suffix("attn.q_bias") {
            self.biases.entry(block.to_owned()).or_default()[0] = Some(tensor);
        } else if let Some(block) = name.strip_suffix("attn.v_bias") {
            self.biases.entry(block.to_owned()).or_default()[1] = Some(tensor);
        } else if name.contains("blocks.") && name.ends_with("relative_position_bias_table") {
            self.own_table = true;
        } else {
            self.tensors.insert(ours(name), tensor);
        }
    }

    /// Returns the tensors under our names, and notes on what was left out.
    ///
    /// `inside` says that the file's own names began with `encoder.`.
    fn finish(mut self, inside: bool) -> Result<(NamedTensors, Vec<String>), String> {
        if self.own_table {
            return Err("each block has a relative position bias of its own; this program knows one that all \
                blocks share (official SimMIM pre-training has it, its fine-tuned models don't)"
                .to_owned());
        }
        for (block, [q, v]) in std::mem::take(&mut self.biases) {
            let (Some(q), Some(v)) = (q, v) else {
                return Err(format!("{block}attn has one of q_bias and v_bias without the other"));
            };
            let zeros = vec![0.0; q.data.len()];
            let data = [q.data, zeros, v.data].concat();
            let shape = vec![data.len()];
            self.tensors.insert(format!("{block}attn.qkv.bias"), HostTensor { shape, data });
        }
        if self.dropped.contains("the decoder") {
            // The file is an MAE, whose mask token belongs to its decoder.
            self.tensors.remove("mask_token");
        }
        if !inside {
            self.rename_pooled_norm();
        }
        if let Some(head) = self.tensors.get_mut("head.weight")
            && head.shape.ends_with(&[1, 1])
        {
            head.shape.truncate(2);
        }
        let list: Vec<_> = self.dropped.into_iter().collect();
        let notes =
            if list.is_empty() { Vec::new() } else { vec![format!("without {}", list.join(", "))] };
        Ok((self.tensors, notes))
    }

    /// Renames `fc_norm`, as timm calls the final norm of a model that pools before it.
    fn rename_pooled_norm(&mut self) {
        for part in ["weight", "bias"] {
            if let Some(tensor) = self.tensors.remove(&format!("encoder.fc_norm.{part}")) {
                self.tensors.entry(format!("encoder.norm.{part}")).or_insert(tensor);
            }
        }
    }
}

/// Returns our name of a tensor.
fn ours(name: &str) -> String {
    if TABLES.contains(&name) {
        return TABLES[0].to_owned();
    }
    if name == "encoder.mask_token" {
        return "mask_token".to_owned();
    }
    if let Some(part) = name.strip_prefix("decoder.0.") {
        return format!("head.{part}");
    }
    for (theirs, ours) in [("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")] {
        if let Some(block) = name.strip_suffix(theirs) {
            return format!("{block}{ours}");
        }
    }
    name.to_owned()
}
