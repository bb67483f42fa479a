//! The sizes of a model, read off its tensors, and the configuration that fits them.

use super::file::ForeignWeights;
use super::grid::SquareGrid;
use super::names::RecognisedFile;
use super::{ImportError, some_of};
use crate::config::{Config, Position, path_text};
use crate::model::ModelShape;
use crate::model::position::sincos;
use crate::model::shapes::RELATIVE_TABLE;
use crate::model::state::NamedTensors;
use crate::shown;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Rows of a relative position table that belong to the class token.
const CLASS_ROWS: usize = 3;
/// How far stored positions may lie from the sine-cosine table and still count as that table.
const SAME: f32 = 1e-5;

/// The sizes of a model, as its tensors show them.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundModel {
    pub patch: usize,
    pub dim: usize,
    pub depth: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    /// `None` if neither the tensors nor the header show the number of heads.
    pub heads: Option<usize>,
    pub(super) grid: SquareGrid,
    pub position: Position,
    /// The first value of the first `LayerScale`, if the model has any.
    pub layer_scale: Option<f32>,
}

impl FoundModel {
    /// Reads the sizes off the shapes of the tensors, and checks that they are a whole model. Leaves out a head or mask
    /// token of another kind. `heads` is what the header says.
    ///
    /// # Errors
    /// Returns an error if a part that every Vision Transformer has is missing, has an unexpected shape, or belongs to
    /// nothing in this model.
    pub(super) fn of(file: &mut RecognisedFile, heads: Option<usize>) -> Result<Self, String> {
        let shape = |name: &str| file.shapes.get(name).map(Vec::as_slice);
        let projection = shape("encoder.patch_embed.proj.weight");
        let Some(&[dim, 3, patch, width]) = projection else {
            return Err(match projection {
                Some(other) => {
                    format!("patch_embed.proj.weight is {other:?}; it must be [D, 3, p, p]")
                }
                None => "patch_embed.proj.weight is missing".to_owned(),
            });
        };
        if patch != width || patch == 0 || dim == 0 {
            return Err(format!("patches of {patch}x{width} pixels; only squares can be read"));
        }
        let depth = depth(file)?;
        let Some(&[hidden, _]) = shape("encoder.blocks.0.mlp.fc1.weight") else {
            let own = file.shapes.keys().filter(|name| name.starts_with("encoder.blocks.0.mlp."));
            return Err(format!(
                "blocks.0.mlp.fc1.weight is missing: an MLP of another kind? There is {}",
                some_of(&own.cloned().collect::<Vec<_>>())
            ));
        };
        let layer_scale = shape("encoder.blocks.0.ls1.gamma").map(|_| 1.0);
        let FoundPositions { position, grid, heads } = FoundPositions::of(file, dim, heads)?;
        let found = Self { patch, dim, depth, hidden, heads, grid, position, layer_scale };
        found.leave_out(file);
        found.check_parts(file)?;
        Ok(found)
    }

    /// Leaves out what this program would train anew: a head that predicts something else, a mask token of another width.
    fn leave_out(&self, file: &mut RecognisedFile) {
        let outputs = 3 * self.patch * self.patch;
        let head = ["head.weight", "head.bias"].map(|name| file.shapes.get(name).cloned());
        if head != [Some(vec![outputs, self.dim]), Some(vec![outputs])] {
            file.drop("head.weight", "the classifier");
            file.drop("head.bias", "the classifier");
        }
        if let Some(shape) = file.shapes.get_mut("mask_token") {
            if shape.iter().product::<usize>() == self.dim {
                *shape = vec![1, 1, self.dim]; // DINOv2 has [1, D]
            } else {
                file.drop("mask_token", "a mask token of another width");
            }
        }
    }

    /// Checks that the file has all parts of a model of these sizes, and nothing else.
    fn check_parts(&self, file: &RecognisedFile) -> Result<(), String> {
        let model = ModelShape {
            grid: [self.grid.side; 2],
            patch: self.patch,
            dim: self.dim,
            depth: self.depth,
            heads: self.heads.unwrap_or(1),
            hidden: self.hidden,
            position: self.position,
            layer_scale: f64::from(self.scale()),
            classes: None,
        };
        let (mut missing, mut known) = (Vec::new(), BTreeSet::new());
        for (name, expected) in model.tensors() {
            let optional = ["mask_token", "head.weight", "head.bias"].contains(&name.as_str())
                || name.ends_with("attn.qkv.bias");
            // The rows of positions have been counted already, with those of other tokens.
            let counted = ["encoder.pos_embed", RELATIVE_TABLE].contains(&name.as_str());
            match file.shapes.get(&name) {
                None if optional => {}
                None => missing.push(name),
                Some(found) if *found != expected && !counted => {
                    return Err(format!(
                        "{name} has shape {found:?}, the model needs {expected:?}: its other tensors show {}",
                        self.summary()
                    ));
                }
                Some(_) => {
                    known.insert(name);
                }
            }
        }
        let surplus: Vec<_> =
            file.shapes.keys().filter(|name| !known.contains(*name)).cloned().collect();
        let mut told = Vec::new();
        if !missing.is_empty() {
            let verb = if missing.len() == 1 { "is" } else { "are" };
            told.push(format!("{} {verb} missing", some_of(&missing)));
        }
        if !surplus.is_empty() {
            told.push(format!("nothing in this model corresponds to {}", some_of(&surplus)));
        }
        if told.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{}: only plain pre-norm Vision Transformers can be read; there is {}",
            told.join(", and "),
            self.summary()
        ))
    }

    /// Returns what the file has, in words for people.
    fn summary(&self) -> String {
        let Self { depth, dim, patch, grid, .. } = self;
        let side = grid.side;
        format!(
            "a model of {depth} blocks, width {dim}, {side}x{side} patches of {patch}x{patch} pixels"
        )
    }

    /// Takes in what only the numbers show.
    ///
    /// # Errors
    /// Returns an error if a number is none, or if the positions are those of a grid that is no square.
    pub(super) fn look_at(&mut self, tensors: &NamedTensors) -> Result<(), String> {
        for (name, tensor) in tensors {
            if tensor.data.iter().any(|value| !value.is_finite()) {
                return Err(format!("{name} holds figures that are no numbers"));
            }
        }
        self.layer_scale = tensors
            .get("encoder.blocks.0.ls1.gamma")
            .map(|gamma| gamma.data.first().copied().unwrap_or_default());
        let Some(stored) = tensors.get("encoder.pos_embed") else { return Ok(()) };
        if self.is_sincos(&stored.data) {
            self.position = Position::Sincos;
            return Ok(());
        }
        self.grid.check(&stored.data, self.dim)
    }

    /// Returns whether the positions are the fixed table, as in MAE and this program's exports.
    fn is_sincos(&self, stored: &[f32]) -> bool {
        if self.position != Position::Learned || !self.dim.is_multiple_of(4) {
            return false;
        }
        let table = sincos([self.grid.side; 2], self.dim);
        let rows = &stored[self.prefix() * self.dim..];
        rows.len() == table.len() && rows.iter().zip(&table).all(|(a, b)| (a - b).abs() < SAME)
    }

    /// Returns the number of patches along a side of the image.
    pub(super) fn side(&self) -> usize {
        self.grid.side
    }

    /// Returns the number of rows of `pos_embed` before those of the patches.
    pub(super) fn prefix(&self) -> usize {
        self.grid.prefix
    }

    /// Returns the side of the image, in pixels.
    fn image(&self) -> usize {
        self.grid.side * self.patch
    }

    /// Returns `key=value` for each size in which a configuration differs, such that the result is valid.
    fn sets(&self, config: &Config) -> Vec<String> {
        let mut sets: Vec<_> = self
            .differences(config)
            .into_iter()
            .map(|(key, found, _)| format!("{key}={found}"))
            .collect();
        let model = &config.model;
        let image =
            if model.image_size.is_multiple_of(self.patch) && self.position != Position::Relative {
                model.image_size
            } else {
                self.image()
            };
        if image != model.image_size && !sets.iter().any(|set| set.starts_with("model.image_size="))
        {
            sets.push(format!("model.image_size={image}"));
        }
        if self.heads.is_none()
            && (model.embed_dim != self.dim || !self.dim.is_multiple_of(model.heads))
        {
            sets.push(format!("model.heads={}", self.usual_heads()));
        }
        let unit = config.mask.unit;
        if !unit_fits(unit, image, self.patch) {
            sets.push(format!("mask.unit={}", usual_unit(image, self.patch)));
        }
        sets
    }

    /// Returns `key=value` for everything that the file shows of the configuration.
    ///
    /// The number of heads comes from `config` if the file doesn't show it and the width is the same.
    pub fn own(&self, foreign: &ForeignWeights, config: &Config) -> Vec<String> {
        let model = &config.model;
        let configured = (self.dim == model.embed_dim).then_some(model.heads);
        let heads = self.heads.or(configured).unwrap_or_else(|| self.usual_heads());
        let mut sets = vec![
            format!("model.image_size={}", self.image()),
            format!("model.patch_size={}", self.patch),
            format!("model.embed_dim={}", self.dim),
            format!("model.depth={}", self.depth),
            format!("model.heads={heads}"),
            // Debug formatting writes the decimal point by which TOML knows a float.
            format!("model.mlp_ratio={:?}", self.ratio()),
            format!("model.position={}", name(self.position)),
            format!("model.layer_scale={:?}", self.scale()),
        ];
        let unit = config.mask.unit;
        if !unit_fits(unit, self.image(), self.patch) {
            sets.push(format!("mask.unit={}", usual_unit(self.image(), self.patch)));
        }
        if let Some([mean, std]) = foreign.pixels {
            sets.extend([format!("data.mean={mean:?}"), format!("data.std={std:?}")]);
        }
        sets
    }

    /// Returns `model.mlp_ratio`.
    fn ratio(&self) -> f64 {
        self.hidden as f64 / self.dim as f64
    }

    /// Returns a value for `model.layer_scale`.
    ///
    /// The file brings its own scales, so the value at which training would start them no longer matters. It must only
    /// differ from 0 if the model has them.
    fn scale(&self) -> f32 {
        self.layer_scale.map_or(0.0, |first| if first > 0.0 && first <= 1.0 { first } else { 0.1 })
    }

    /// Returns the number of heads of 64 channels, as nearly all Vision Transformers have them.
    fn usual_heads(&self) -> usize {
        if self.dim.is_multiple_of(64) { self.dim / 64 } else { 1 }
    }

    /// Returns (key, value in the file, configured value) of each size that differs.
    fn differences(&self, config: &Config) -> Vec<(&'static str, String, String)> {
        let model = &config.model;
        let mut all = Vec::new();
        let mut compare = |key, found: String, configured: String| {
            if found != configured {
                all.push((key, found, configured));
            }
        };
        compare("model.patch_size", self.patch.to_string(), model.patch_size.to_string());
        compare("model.embed_dim", self.dim.to_string(), model.embed_dim.to_string());
        compare("model.depth", self.depth.to_string(), model.depth.to_string());
        if (model.embed_dim as f64 * model.mlp_ratio) as usize != self.hidden
            && (self.dim as f64 * model.mlp_ratio) as usize != self.hidden
        {
            compare("model.mlp_ratio", self.ratio().to_string(), model.mlp_ratio.to_string());
        }
        if let Some(heads) = self.heads {
            compare("model.heads", heads.to_string(), model.heads.to_string());
        }
        // The fixed table is a valid start for learned positions.
        if self.position != Position::Sincos || model.position == Position::Relative {
            compare("model.position", name(self.position), name(model.position));
        }
        if self.position == Position::Relative {
            compare("model.image_size", self.image().to_string(), model.image_size.to_string());
        }
        match self.layer_scale {
            Some(_) if model.layer_scale == 0.0 => {
                compare("model.layer_scale", self.scale().to_string(), "0".to_owned());
            }
            None if model.layer_scale > 0.0 => {
                compare("model.layer_scale", "0".to_owned(), model.layer_scale.to_string());
            }
            _ => {}
        }
        all
    }

    /// Checks that the configuration has the sizes of the file.
    ///
    /// # Errors
    /// Returns [`ImportError::Differs`], with the settings that fit, if it has not.
    pub(super) fn check(
        &self,
        foreign: &ForeignWeights,
        config: &Config,
    ) -> Result<(), ImportError> {
        let differences = self.differences(config);
        if differences.is_empty() {
            return Ok(());
        }
        let told = differences.iter().map(|(key, found, configured)| match *key {
            "model.layer_scale" if configured == "0" => {
                "it has LayerScale (configured without)".to_owned()
            }
            "model.layer_scale" => "it has no LayerScale (configured with)".to_owned(),
            key => format!("{key} is {found} (configured {configured})"),
        });
        let sets = self.sets(config).into_iter().map(|set| format!("--set {set}"));
        Err(ImportError::Differs {
            path: foreign.path.clone(),
            differences: told.collect::<Vec<_>>().join(", "),
            sets: sets.collect::<Vec<_>>().join(" "),
        })
    }

    /// Returns a configuration file for a run that starts from the weights.
    pub fn toml(&self, foreign: &ForeignWeights) -> String {
        let weights: usize = foreign.tensors.values().map(|tensor| tensor.data.len()).sum();
        let mut out = format!("# {}, {:.1} million numbers", foreign.kind, weights as f64 / 1e6);
        for note in &foreign.notes {
            let _ = write!(out, "; {}", shown::line(note));
        }
        let heads = self.heads.unwrap_or_else(|| self.usual_heads());
        let guess = if self.heads.is_some() {
            ""
        } else {
            "  # not in the file: 64 channels each is usual"
        };
        let path = std::path::absolute(&foreign.path).unwrap_or_else(|_| foreign.path.clone());
        let _ = write!(
            out,
            "\n\n[model]\nimage_size = {}\npatch_size = {}\nembed_dim = {}\ndepth = {}\nheads = {heads}{guess}\n\
             mlp_ratio = {:?}\nposition = \"{}\"\nlayer_scale = {:?}\n\n[mask]\nunit = {}\n\n[train]\ninit = {}\n",
            self.image(),
            self.patch,
            self.dim,
            self.depth,
            self.ratio(),
            name(self.position),
            self.scale(),
            usual_unit(self.image(), self.patch),
            // A string of JSON is one of TOML too, and it is one line.
            shown::json(serde_json::Value::String(path_text::to_text(&path)).to_string()),
        );
        if let Some(network) = &foreign.network {
            let network = toml::Value::String(network.clone());
            let _ = writeln!(out, "init_network = {network}");
        }
        match foreign.pixels {
            Some([mean, std]) => {
                let _ = write!(out, "\n[data]\nmean = {mean:?}\nstd = {std:?}\n");
            }
            None => out.push_str(
                "\n# [data]\n# mean and std of the pixels are not in the file; many timm models have 0.5 for all.\n",
            ),
        }
        out
    }
}

/// Returns the number of blocks, whose tensors must be there from the first to the last.
fn depth(file: &RecognisedFile) -> Result<usize, String> {
    let number =
        |name: &String| name.strip_prefix("encoder.blocks.")?.split('.').next()?.parse().ok();
    let numbers: BTreeSet<usize> = file.shapes.keys().filter_map(number).collect();
    match numbers.iter().enumerate().find(|(place, number)| place != *number) {
        None => Ok(numbers.len()),
        Some((gap, _)) => {
            let there: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            Err(format!("encoder.blocks.{gap} is missing; there are blocks {}", some_of(&there)))
        }
    }
}

/// What the position tensors show of a model.
struct FoundPositions {
    position: Position,
    grid: SquareGrid,
    heads: Option<usize>,
}

impl FoundPositions {
    fn of(file: &RecognisedFile, dim: usize, heads: Option<usize>) -> Result<Self, String> {
        let shape = |name: &str| file.shapes.get(name).map(Vec::as_slice);
        match (shape(RELATIVE_TABLE), shape("encoder.pos_embed")) {
            (Some(&[rows, heads]), None) if heads > 0 => {
                let side = table_side(rows)
                    .filter(|side| {
                        let patches = side * side;
                        file.indexed.is_none_or(|index| [patches, patches + 1].contains(&index))
                    })
                    .ok_or_else(|| {
                        format!("a relative table of {rows} rows belongs to no square grid")
                    })?;
                let grid = SquareGrid::sure(side);
                Ok(Self { position: Position::Relative, grid, heads: Some(heads) })
            }
            (None, Some(&[1, rows, width])) if width == dim => {
                let grid = SquareGrid::of(rows, file.tokens)?;
                Ok(Self { position: Position::Learned, grid, heads })
            }
            (None, Some(other)) => {
                Err(format!("pos_embed has shape {other:?}; it must be [1, N, {dim}]"))
            }
            (Some(_), Some(_)) => {
                Err("it has both absolute and relative positions; this program takes either"
                    .to_owned())
            }
            (Some(other), None) => {
                Err(format!("the relative table has shape {other:?}; it must be [rows, heads]"))
            }
            (None, None) => {
                Err("it has neither pos_embed nor one shared relative_position_bias_table"
                    .to_owned())
            }
        }
    }
}

/// Returns the configuration's word for a kind of position.
fn name(position: Position) -> String {
    let name = match position {
        Position::Learned => "learned",
        Position::Sincos => "sincos",
        Position::Relative => "relative",
    };
    name.to_owned()
}

/// Returns whether the image divides into more than one mask unit of that side.
fn unit_fits(unit: usize, image: usize, patch: usize) -> bool {
    unit.is_multiple_of(patch) && image.is_multiple_of(unit) && image > unit
}

/// Returns the mask unit of the paper, 32 pixels, if it fits, or else one patch.
fn usual_unit(image: usize, patch: usize) -> usize {
    if image.is_multiple_of(32) && 32_usize.is_multiple_of(patch) && image > 64 {
        32
    } else {
        patch
    }
}

/// Returns the side s of the grid to which a table of (2s − 1)² rows belongs, with or without rows of a class token.
fn table_side(rows: usize) -> Option<usize> {
    [Some(rows), rows.checked_sub(CLASS_ROWS)].into_iter().flatten().find_map(|rows| {
        let width = rows.isqrt();
        (width * width == rows && width % 2 == 1).then_some(width.div_ceil(2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn square_grids_are_found_with_and_without_rows_of_a_class_token() {
        assert_eq!(table_side(27 * 27), Some(14));
        assert_eq!(table_side(27 * 27 + 3), Some(14));
        assert_eq!(table_side(28 * 28), None);
        assert_eq!(table_side(1), Some(1));
    }
}
