//! Recognises a weights file by its header, and says which of its tensors become which of ours.
//!
//! The shapes of the head are `[P, D]` here and `[P, D, 1, 1]` in `SimMIM`, whose decoder is a convolution before a
//! pixel shuffle. Both order the P outputs as (colour, row, column).
//!
//! | here | timm | official `SimMIM`, BEiT | DINOv2 |
//! |---|---|---|---|
//! | `encoder.*` | `*` | `encoder.*` | `*`, also `blocks.CHUNK.N.*` |
//! | `attn.qkv.bias` | the same | `attn.q_bias`, `attn.v_bias`; keys have none | the same |
//! | `ls1.gamma`, `ls2.gamma` | the same | `gamma_1`, `gamma_2` | the same |
//! | `rel_pos_bias.…table` | `shared_rel_pos.…table` | with three more rows for the class token | – |
//! | `mask_token` | – | `encoder.mask_token` | `mask_token` of shape `[1, D]` |
//! | `head.*` | – | `decoder.0.*` | – |
//! | left out | `reg_token` | – | `register_tokens` |

use super::grid::OtherTokens;
use super::networks::ChosenNetwork;
use super::some_of;
use crate::model::shapes::{NamedShapes, RELATIVE_TABLE};
use std::collections::{BTreeMap, BTreeSet};

/// timm's name of the relative position table that all blocks share.
const TIMM_TABLE: &str = "encoder.shared_rel_pos.relative_position_bias_table";

/// Parts of a network beside its encoder, by how their names begin, and what they are in words for people.
const BESIDE: [(&str, &str); 15] = [
    ("head", "the classifier"),
    ("pre_logits", "the classifier"),
    ("classifier.", "the classifier"),
    ("fc.", "the classifier"),
    ("attn_pool.", "the attention pooling"),
    ("decoder_", MAE_DECODER),
    ("decoder.", "the decoder"),
    ("predictor", "the predictor"),
    ("projection_head.", "the projection head"),
    ("projector.", "the projection head"),
    ("proj_head.", "the projection head"),
    ("mlp_head.", "the projection head"),
    ("dino_head.", "the projection head"),
    ("ibot_head.", "the projection head"),
    ("contrastive_head.", "the projection head"),
];
const MAE_DECODER: &str = "MAE's decoder";

/// Where the numbers of one of our tensors are in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Tensor(String),
    /// The bias of queries and that of values. The one of keys is zero.
    Biases {
        q: String,
        v: String,
    },
}

/// What a file holds, as its header shows it.
#[derive(Debug, Default)]
pub(super) struct RecognisedFile {
    /// What the file is, in words for people.
    pub kind: &'static str,
    /// Our tensors.
    pub origins: BTreeMap<String, Origin>,
    /// Their shapes. They differ from those in the file where these have other dimensions of the same numbers.
    pub shapes: NamedShapes,
    /// What was left out, in words for people.
    dropped: BTreeSet<&'static str>,
    /// What else is in the file, by the names of its parts.
    others: BTreeSet<String>,
    /// Which network was taken.
    note: Option<String>,
    pub tokens: OtherTokens,
    /// The number of tokens to which the index of relative positions belongs.
    pub indexed: Option<usize>,
}

impl RecognisedFile {
    /// Recognises a file by the names and shapes of its tensors. `wanted` is the network that is asked for.
    ///
    /// # Errors
    /// Returns an error if the names are none of a Vision Transformer of a known kind.
    pub fn of(shapes: &NamedShapes, wanted: Option<&str>) -> Result<Self, String> {
        let ChosenNetwork { root, note } = ChosenNetwork::of(shapes.keys(), wanted)?;
        // In SimMIM and here the head lies beside an `encoder`.
        let around =
            root.strip_suffix("encoder.").filter(|rest| rest.is_empty() || rest.ends_with('.'));
        let beside = |part: &str| {
            around.is_some_and(|around| shapes.contains_key(&format!("{around}{part}")))
        };
        let kind = match (around, beside("decoder.0.weight"), beside("head.weight")) {
            (Some(_), true, _) => "official SimMIM weights",
            (Some(_), false, true) => "weights of this program",
            (Some(_), false, false) => "encoder weights",
            (None, ..) => "timm ViT weights",
        };
        let mut taken =
            TakenTensors { file: Self { kind, note, ..Self::default() }, ..Default::default() };
        for (name, shape) in shapes {
            let own = name.strip_prefix(&root).map(|rest| format!("encoder.{rest}"));
            let head = around.and_then(|around| name.strip_prefix(around)).filter(|rest| {
                matches!(*rest, "mask_token" | "head.weight" | "head.bias")
                    || rest.starts_with("decoder.0.")
            });
            match own.or_else(|| head.map(str::to_owned)) {
                Some(ours) => taken.take(&flat(&ours), name, shape),
                None => taken.file.beside(name, &root),
            }
        }
        taken.finish()
    }

    /// Notes a tensor that isn't in the network, by the part of the file that it belongs to.
    fn beside(&mut self, name: &str, root: &str) {
        let same = name.split('.').zip(root.split('.')).take_while(|(a, b)| a == b).count();
        let part: Vec<_> = name.split('.').take(same + 1).collect();
        self.others.insert(part.join("."));
    }

    /// Leaves out one of our tensors.
    pub fn drop(&mut self, name: &str, what: &'static str) {
        if self.shapes.remove(name).is_some() {
            self.origins.remove(name);
            self.dropped.insert(what);
        }
    }

    /// Returns what was taken and what was left out, in words for people.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<_> = self.note.iter().cloned().collect();
        let mut out: Vec<_> = self.dropped.iter().map(|&what| what.to_owned()).collect();
        if !self.others.is_empty() {
            out.push(some_of(&self.others.iter().cloned().collect::<Vec<_>>()));
        }
        if !out.is_empty() {
            notes.push(format!("without {}", out.join(", ")));
        }
        notes
    }
}

/// Tensors that are being recognised: taken one by one by `take`, put together by `finish`.
#[derive(Default)]
struct TakenTensors {
    file: RecognisedFile,
    /// Name and width of `q_bias` and `v_bias`, by the prefix of their block. `finish` makes them one `qkv.bias`.
    biases: BTreeMap<String, [Option<(String, usize)>; 2]>,
    /// Whether a block has a relative position table of its own.
    own_table: bool,
}

impl TakenTensors {
    /// Takes in a tensor: its name with `encoder.` before it if it belongs to the encoder, and the name in the file.
    fn take(&mut self, name: &str, theirs: &str, shape: &[usize]) {
        let inner = name.strip_prefix("encoder.").unwrap_or_default();
        let count: usize = shape.iter().product(); // as large as the file
        let dropped = match inner {
            "cls_token" => {
                self.file.tokens.class = true;
                Some("the class token")
            }
            "dist_token" => {
                self.file.tokens.distillation = true;
                Some("the distillation token")
            }
            "reg_token" | "register_tokens" | "registers" | "storage_tokens" => {
                let width = shape.last().copied().unwrap_or(0).max(1);
                self.file.tokens.registers = count / width;
                Some("register tokens")
            }
            _ => BESIDE.iter().find(|(start, _)| inner.starts_with(start)).map(|&(_, what)| what),
        };
        if let Some(what) = dropped {
            self.file.dropped.insert(what);
        } else if name.ends_with("relative_position_index") {
            self.file.indexed = shape.first().copied();
        } else if name.ends_with("attn.k_bias") {
            // A bias of zeros.
        } else if let Some(block) = name.strip_suffix("attn.q_bias") {
            self.biases.entry(block.to_owned()).or_default()[0] = Some((theirs.to_owned(), count));
        } else if let Some(block) = name.strip_suffix("attn.v_bias") {
            self.biases.entry(block.to_owned()).or_default()[1] = Some((theirs.to_owned(), count));
        } else if name.contains("blocks.") && name.ends_with("relative_position_bias_table") {
            self.own_table = true;
        } else {
            let ours = ours(name);
            self.file.shapes.insert(ours.clone(), shape.to_vec());
            self.file.origins.insert(ours, Origin::Tensor(theirs.to_owned()));
        }
    }

    fn finish(mut self) -> Result<RecognisedFile, String> {
        if self.own_table {
            return Err("each block has a relative position bias of its own; this program knows one that all \
                blocks share (official SimMIM pre-training has it, its fine-tuned models don't)"
                .to_owned());
        }
        for (block, [q, v]) in std::mem::take(&mut self.biases) {
            let (Some((q, width)), Some((v, other))) = (q, v) else {
                return Err(format!("{block}attn has one of q_bias and v_bias without the other"));
            };
            if width != other {
                return Err(format!("{block}attn has a q_bias of {width} and a v_bias of {other}"));
            }
            let name = format!("{block}attn.qkv.bias");
            self.file.shapes.insert(name.clone(), vec![3 * width]);
            self.file.origins.insert(name, Origin::Biases { q, v });
        }
        if self.file.dropped.contains(MAE_DECODER) {
            // The mask token of an MAE belongs to its decoder.
            self.file.drop("mask_token", MAE_DECODER);
        }
        self.file.rename_pooled_norm();
        if let Some(shape) = self.file.shapes.get_mut("head.weight")
            && shape.ends_with(&[1, 1])
        {
            shape.truncate(2);
        }
        Ok(self.file)
    }
}

impl RecognisedFile {
    /// Renames `fc_norm`, as timm calls the final norm of a model that pools before it.
    fn rename_pooled_norm(&mut self) {
        for part in ["weight", "bias"] {
            let (theirs, ours) =
                (format!("encoder.fc_norm.{part}"), format!("encoder.norm.{part}"));
            if let (Some(shape), Some(origin)) =
                (self.shapes.remove(&theirs), self.origins.remove(&theirs))
            {
                self.shapes.entry(ours.clone()).or_insert(shape);
                self.origins.entry(ours).or_insert(origin);
            }
        }
    }
}

/// Returns a name without the chunk of blocks in which `DINOv2` trains: `blocks.1.7.x` is block 7.
fn flat(name: &str) -> String {
    let Some(rest) = name.strip_prefix("encoder.blocks.") else { return name.to_owned() };
    let mut parts = rest.splitn(3, '.');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<usize>().is_ok());
    match (parts.next(), parts.next(), parts.next()) {
        (chunk, number @ Some(block), Some(part)) if is_number(chunk) && is_number(number) => {
            format!("encoder.blocks.{block}.{part}")
        }
        _ => name.to_owned(),
    }
}

/// Returns our name of a tensor.
fn ours(name: &str) -> String {
    if name == TIMM_TABLE {
        return RELATIVE_TABLE.to_owned();
    }
    // iBOT calls it `masked_embed`.
    if ["encoder.mask_token", "encoder.masked_embed"].contains(&name) {
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
