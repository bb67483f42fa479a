//! Writes the encoder as a folder in the layout of the Hugging Face hub, which timm and transformers
//! (`TimmWrapperModel`) load.

use super::target::Destination;
use super::timm::{self, Recipe};
use crate::config::Config;
use crate::error::Error;
use crate::weights::locate::Weights;
use serde_json::{Value, json};

/// Writes `--format hf`.
///
/// # Errors
/// Returns an error if the folder can't be written.
pub(super) fn write(weights: &Weights, target: &Destination) -> Result<(), Error> {
    let recipe = Recipe::new(&weights.config);
    let output = |source| Error::Output { path: target.path().to_owned(), source };
    let files = [
        ("config.json", text(&config(&weights.config, &recipe))),
        ("model.safetensors", timm::bytes(weights, &recipe).map_err(output)?),
        ("preprocessor_config.json", text(&preprocessor(&weights.config))),
    ];
    target.replace_folder(&files)
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Returns `config.json` as timm writes it for its own models: `model_args` builds the model, and `pretrained_cfg` says
/// how images are prepared.
fn config(config: &Config, recipe: &Recipe) -> Value {
    let (model, data) = (&config.model, &config.data);
    json!({
        "architecture": recipe.architecture,
        "num_classes": 0,
        "num_features": model.embed_dim,
        "global_pool": "avg",
        "model_args": recipe.object(),
        "pretrained_cfg": {
            "tag": "simmim",
            "custom_load": false,
            "input_size": [3, model.image_size, model.image_size],
            "fixed_input_size": true,
            // Validation here does the same: it scales the short side to the size and cuts out the middle.
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": data.mean,
            "std": data.std,
            "num_classes": 0,
            "pool_size": null,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    })
}

/// Returns `preprocessor_config.json`, which states the preparation of images for readers without timm.
fn preprocessor(config: &Config) -> Value {
    let (side, data) = (config.model.image_size, &config.data);
    json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": true,
        "crop_size": {"height": side, "width": side},
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": data.mean,
        "image_std": data.std,
    })
}
