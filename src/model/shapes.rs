//! The names and shapes of a model's weights without the model. What a file claims is compared with what it holds before
//! anything is built, so that a small file can't order a large model.

use super::ModelShape;
use super::state::StateError;
use crate::config::Position;
use std::collections::BTreeMap;

/// The name of the table of relative positions.
pub const RELATIVE_TABLE: &str = "encoder.rel_pos_bias.relative_position_bias_table";

/// The shapes of tensors by their names.
pub type NamedShapes = BTreeMap<String, Vec<usize>>;

impl ModelShape {
    /// Returns the name and the shape of each weight as [`super::state::save`] would, block by block as they are asked
    /// for.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        let dim = self.dim;
        let first = linear("encoder.patch_embed.proj", vec![dim, 3, self.patch, self.patch]);
        let position = match self.position {
            Position::Learned | Position::Sincos => {
                ("encoder.pos_embed".to_owned(), vec![1, self.patches(), dim])
            }
            Position::Relative => {
                let [rows, columns] = self.grid.map(|side| 2 * side - 1);
                (RELATIVE_TABLE.to_owned(), vec![rows * columns, self.heads])
            }
        };
        let token = self.classes.is_none().then(|| ("mask_token".to_owned(), vec![1, 1, dim]));
        let blocks = (0..self.depth).flat_map(|number| self.block(number));
        let head = linear("head", vec![self.outputs(), dim]);
        let start = first.into_iter().chain([position]);
        start.chain(blocks).chain(norm("encoder.norm", dim)).chain(token).chain(head)
    }

    fn block(&self, number: usize) -> Vec<(String, Vec<usize>)> {
        let (dim, hidden) = (self.dim, self.hidden);
        let name = |part: &str| format!("encoder.blocks.{number}.{part}");
        let mut all = Vec::new();
        all.extend(norm(&name("norm1"), dim));
        all.extend(linear(&name("attn.qkv"), vec![3 * dim, dim]));
        all.extend(linear(&name("attn.proj"), vec![dim, dim]));
        all.extend(norm(&name("norm2"), dim));
        all.extend(linear(&name("mlp.fc1"), vec![hidden, dim]));
        all.extend(linear(&name("mlp.fc2"), vec![dim, hidden]));
        if self.layer_scale > 0.0 {
            all.extend(["ls1.gamma", "ls2.gamma"].map(|part| (name(part), vec![dim])));
        }
        all
    }

    /// Checks that the tensors of a file are exactly the weights of this model.
    ///
    /// # Errors
    /// Returns an error about the first tensor that is missing, has another shape or doesn't belong to the model.
    pub fn check(&self, found: &NamedShapes) -> Result<(), StateError> {
        let mut used = 0;
        for (name, expected) in self.tensors() {
            match found.get(&name) {
                None => return Err(StateError::Missing(name)),
                Some(shape) if *shape != expected => {
                    return Err(StateError::Shape { name, found: shape.clone(), expected });
                }
                Some(_) => used += 1,
            }
        }
        if used == found.len() {
            return Ok(());
        }
        let own: NamedShapes = self.tensors().collect();
        let surplus = found.keys().find(|name| !own.contains_key(*name));
        Err(StateError::Unknown(surplus.cloned().unwrap_or_default()))
    }
}

/// Returns the tensors of a linear layer, or of a convolution, by the shape of its weight.
fn linear(name: &str, shape: Vec<usize>) -> [(String, Vec<usize>); 2] {
    let bias = vec![shape[0]];
    [(format!("{name}.weight"), shape), (format!("{name}.bias"), bias)]
}

/// Returns the tensors of a layer norm.
fn norm(name: &str, dim: usize) -> [(String, Vec<usize>); 2] {
    ["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![dim]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SimMimVit, state};
    use burn::backend::Flex;

    #[test]
    fn names_and_shapes_are_those_of_the_built_model() {
        let cases: [(&[&str], Option<usize>); 4] = [
            (&[], None),
            (&["model.position=relative", "model.layer_scale=0.1"], None),
            (&["model.position=sincos", "model.mlp_ratio=2.5"], None),
            (&[], Some(3)),
        ];
        let small = ["model.image_size=16", "mask.unit=8", "model.embed_dim=12", "model.depth=2"];
        for (sets, classes) in cases {
            let all: Vec<_> = small.iter().chain(sets).map(|&set| set.to_owned()).collect();
            let config = crate::config::file::load(None, &all).expect("valid");
            let shape = ModelShape { classes, ..ModelShape::of(&config) };
            let built = state::save(&SimMimVit::<Flex>::zeros(&shape, &burn_flex::FlexDevice));
            let built: NamedShapes =
                built.into_iter().map(|(name, tensor)| (name, tensor.shape)).collect();
            assert_eq!(shape.tensors().collect::<NamedShapes>(), built, "{sets:?}");
            shape.check(&built).expect("its own weights fit");
            let mut other = built.clone();
            other.remove("encoder.blocks.1.mlp.fc2.bias");
            let error = shape.check(&other).expect_err("one is missing").to_string();
            assert!(error.contains("encoder.blocks.1.mlp.fc2.bias is missing"), "{error}");
            let mut other = built;
            other.insert("encoder.more".to_owned(), vec![1]);
            let error = shape.check(&other).expect_err("one too many").to_string();
            assert!(error.contains("encoder.more belongs to nothing"), "{error}");
        }
    }
}
