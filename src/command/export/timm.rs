//! Writes the encoder under timm's names, with the constructor call that builds the model for it.
//!
//! The features of this program are the mean over the tokens after the final norm. With `global_pool='avg'`, timm's
//! `VisionTransformer` would move the norm behind the pooling and call it `fc_norm`. `fc_norm=False` keeps it where it
//! was trained, with the name `norm`. `num_classes=0` leaves the classifier out. Models with a shared relative position
//! bias are timm's `VisionTransformerRelPos`.

use super::target::Destination;
use crate::config::{Config, Position};
use crate::error::Error;
use crate::model::state::NamedTensors;
use crate::model::tensors;
use crate::weights::locate::Weights;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// How timm builds the encoder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recipe {
    /// The module below `timm.models`, and the class in it.
    class: (&'static str, &'static str),
    /// A registered model of that class, for `timm.create_model`.
    pub architecture: &'static str,
    /// Arguments of the constructor, in the order in which they are printed. `num_classes` is not among them.
    args: Vec<(&'static str, Value)>,
}

impl Recipe {
    pub fn new(config: &Config) -> Self {
        let model = &config.model;
        let relative = model.position == Position::Relative;
        let mut args = vec![
            ("img_size", json!(model.image_size)),
            ("patch_size", json!(model.patch_size)),
            ("embed_dim", json!(model.embed_dim)),
            ("depth", json!(model.depth)),
            ("num_heads", json!(model.heads)),
            ("mlp_ratio", json!(model.mlp_ratio)),
            ("qkv_bias", json!(true)),
            ("class_token", json!(false)),
            ("global_pool", json!("avg")),
            ("fc_norm", json!(false)),
        ];
        if relative {
            args.extend([("rel_pos_type", json!("bias")), ("shared_rel_pos", json!(true))]);
        }
        // The value matters only for training from scratch. `VisionTransformerRelPos` has LayerScale by default, and 0
        // turns it off.
        if model.layer_scale > 0.0 || relative {
            args.push(("init_values", json!(model.layer_scale)));
        }
        if relative {
            let class = ("vision_transformer_relpos", "VisionTransformerRelPos");
            Self { class, architecture: "vit_relpos_base_patch16_224", args }
        } else {
            let class = ("vision_transformer", "VisionTransformer");
            Self { class, architecture: "vit_base_patch16_224", args }
        }
    }

    /// Returns the arguments as a JSON object.
    pub fn object(&self) -> Map<String, Value> {
        self.args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    /// Returns the constructor call in Python.
    fn call(&self) -> String {
        let args: Vec<_> =
            self.args.iter().map(|(name, value)| format!("{name}={}", python(value))).collect();
        format!("{}({}, num_classes=0)", self.class.1, args.join(", "))
    }

    /// Returns lines of Python that load the file.
    pub fn python(&self, file: &Path) -> String {
        format!(
            "  from safetensors.torch import load_file\n  \
               from timm.models.{} import {}\n  \
               model = {}.eval()\n  \
               model.load_state_dict(load_file({}), strict=True)",
            self.class.0,
            self.class.1,
            self.call(),
            quoted(file)
        )
    }

    /// Returns lines of Python that load a Hugging Face folder.
    pub fn of_folder(folder: &Path) -> String {
        let timm = quoted(Path::new(&format!("local-dir:{}", folder.display())));
        format!(
            "  model = timm.create_model({timm}, pretrained=True).eval()\n  \
             or\n  \
             model = transformers.AutoModel.from_pretrained({}).eval()  # pooler_output",
            quoted(folder)
        )
    }
}

/// Returns a value as a Python literal.
fn python(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    }
}

/// Returns a path as a Python string literal. JSON's string literals are also Python's.
fn quoted(path: &Path) -> String {
    Value::String(path.display().to_string()).to_string()
}

/// Returns the encoder's tensors under timm's names.
fn encoder(weights: &NamedTensors) -> NamedTensors {
    let named = weights.iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix("encoder.")?;
        let name = match name.strip_prefix("rel_pos_bias.") {
            Some(rest) => format!("shared_rel_pos.{rest}"),
            None => name.to_owned(),
        };
        Some((name, tensor.clone()))
    });
    named.collect()
}

/// Returns the texts in the header of every export of weights.
pub(super) fn about(weights: &Weights) -> BTreeMap<String, String> {
    let data = &weights.config.data;
    let texts = [
        // PyTorch writes this key, and some readers insist on it.
        ("format", "pt".to_owned()),
        ("producer", format!("simmim-tui {}", env!("CARGO_PKG_VERSION"))),
        ("step", weights.checkpoint.meta.step.to_string()),
        ("config", weights.checkpoint.meta.config.clone()),
        ("mean", json!(data.mean).to_string()),
        ("std", json!(data.std).to_string()),
    ];
    texts.map(|(key, text)| (key.to_owned(), text)).into()
}

/// Returns the encoder as the bytes of a safetensors file, with the recipe in the header.
///
/// # Errors
/// Returns an error in the same cases as [`tensors::to_bytes`].
pub(super) fn bytes(weights: &Weights, recipe: &Recipe) -> std::io::Result<Vec<u8>> {
    let mut about = about(weights);
    about.insert(
        "timm_class".to_owned(),
        format!("timm.models.{}.{}", recipe.class.0, recipe.class.1),
    );
    about.insert("timm_args".to_owned(), Value::Object(recipe.object()).to_string());
    about.insert("timm_call".to_owned(), recipe.call());
    tensors::to_bytes(&encoder(&weights.checkpoint.engine.weights), &about)
}

/// Writes `--format timm`. Returns how timm builds the model.
///
/// # Errors
/// Returns an error if the file can't be written.
pub(super) fn write(weights: &Weights, target: &Destination) -> Result<Recipe, Error> {
    let recipe = Recipe::new(&weights.config);
    target.write(|out| std::io::Write::write_all(out, &bytes(weights, &recipe)?))?;
    Ok(recipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::HostTensor;

    #[test]
    fn the_call_says_what_timm_would_do_otherwise() {
        let mut config = Config::default();
        assert_eq!(
            Recipe::new(&config).call(),
            "VisionTransformer(img_size=64, patch_size=8, embed_dim=192, depth=6, num_heads=3, mlp_ratio=4.0, \
             qkv_bias=True, class_token=False, global_pool='avg', fc_norm=False, num_classes=0)"
        );
        config.model.layer_scale = 0.1;
        assert!(Recipe::new(&config).call().contains("init_values=0.1"));
        config.model.layer_scale = 0.0;
        config.model.position = Position::Relative;
        let call = Recipe::new(&config).call();
        assert!(call.starts_with("VisionTransformerRelPos("), "{call}");
        for part in ["rel_pos_type='bias'", "shared_rel_pos=True", "init_values=0.0"] {
            assert!(call.contains(part), "{call}");
        }
    }

    #[test]
    fn only_the_encoder_goes_to_timm() {
        let tensor = HostTensor { shape: vec![1], data: vec![1.0] };
        let names = [
            "encoder.norm.weight",
            "encoder.rel_pos_bias.relative_position_bias_table",
            "head.weight",
            "mask_token",
        ];
        let all = names.map(|name| (name.to_owned(), tensor.clone())).into();
        let kept: Vec<_> = encoder(&all).into_keys().collect();
        assert_eq!(kept, ["norm.weight", "shared_rel_pos.relative_position_bias_table"]);
    }
}
