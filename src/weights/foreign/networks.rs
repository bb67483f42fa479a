//! Finds the Vision Transformers in a file by the names of its tensors. Training scripts wrap a model in other modules and
//! save it beside others, so that any names may stand before its own: `module._orig_mod.teacher.backbone.blocks.0.…`

use super::some_of;
use std::collections::BTreeSet;

/// What ends the name of the patch projection in every Vision Transformer of this kind.
const PROJECTION: &str = "patch_embed.proj.weight";

/// How training scripts call the network that follows the trained one as a moving average. It has the better features.
const AVERAGED: [&str; 22] = [
    "teacher",
    "teacher_backbone",
    "teacher_encoder",
    "teacher_model",
    "target",
    "target_backbone",
    "target_encoder",
    "target_model",
    "target_network",
    "momentum_backbone",
    "momentum_encoder",
    "momentum_model",
    "ema",
    "ema_backbone",
    "ema_encoder",
    "ema_model",
    "ema_network",
    "model_ema",
    "state_dict_ema",
    "averaged_model",
    "encoder_k",
    "key_encoder",
];

/// The network of a file whose weights are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChosenNetwork {
    /// What stands before the names of its tensors: empty, or ending in a dot.
    pub root: String,
    /// The other networks, and which one was taken, in words for people.
    pub note: Option<String>,
}

impl ChosenNetwork {
    /// Chooses the network that is asked for, or else the averaged one, or else the only one.
    ///
    /// # Errors
    /// Returns an error if there is no Vision Transformer, or not the one that is asked for, or several of one rank.
    pub fn of<'a>(
        names: impl Iterator<Item = &'a String> + Clone,
        wanted: Option<&str>,
    ) -> Result<Self, String> {
        let roots = roots(names.clone());
        if roots.is_empty() {
            return Err(nothing(names));
        }
        let list = roots.iter().map(|root| shown(root)).collect::<Vec<_>>();
        let pick = |test: &dyn Fn(&str) -> bool| {
            let mut found = roots.iter().filter(|root| test(root));
            found.next().filter(|_| found.next().is_none()).cloned()
        };
        let root = match wanted {
            Some(wanted) => pick(&|root| shown(root) == wanted)
                .or_else(|| pick(&|root| root.split('.').any(|part| part == wanted)))
                .ok_or_else(|| {
                    format!("{wanted} names none of its networks, or several: {}", list.join(", "))
                })?,
            None => pick(&|_| true).or_else(|| pick(&is_averaged)).ok_or_else(|| {
                format!(
                    "it holds several networks: {}; take one with --network {}",
                    list.join(", "),
                    list[0]
                )
            })?,
        };
        let note = (roots.len() > 1).then(|| {
            let others = list.iter().filter(|other| **other != shown(&root)).cloned();
            let others = others.collect::<Vec<_>>().join(", ");
            format!("its network {} is taken; --network takes {others}", shown(&root))
        });
        Ok(Self { root, note })
    }
}

fn is_averaged(root: &str) -> bool {
    root.split('.').any(|part| AVERAGED.contains(&part))
}

/// Returns the name of a network for people.
fn shown(root: &str) -> String {
    if root.is_empty() {
        "(without a prefix)".to_owned()
    } else {
        root.trim_end_matches('.').to_owned()
    }
}

/// Returns what stands before the names of each Vision Transformer: it has a patch projection, and blocks.
///
/// Where no network has both, one that has blocks alone is returned: its own check says what is missing.
fn roots<'a>(names: impl Iterator<Item = &'a String> + Clone) -> Vec<String> {
    let of_blocks: BTreeSet<&str> = names.clone().filter_map(|name| before_blocks(name)).collect();
    let of_patches: BTreeSet<&str> = names
        .filter_map(|name| name.strip_suffix(PROJECTION))
        .filter(|root| root.is_empty() || root.ends_with('.'))
        .collect();
    let both: Vec<_> = of_blocks.intersection(&of_patches).map(|&root| root.to_owned()).collect();
    // In a convolutional network the blocks lie in numbered stages.
    let plain = |root: &&str| root.split('.').all(|part| part.parse::<usize>().is_err());
    if both.is_empty() {
        return of_blocks.into_iter().filter(plain).map(str::to_owned).collect();
    }
    both
}

/// Returns what stands before `blocks.N.` in a name.
fn before_blocks(name: &str) -> Option<&str> {
    let at = name.match_indices("blocks.").map(|(at, _)| at).find(|&at| {
        let number = name[at + "blocks.".len()..].split('.').next().unwrap_or_default();
        (at == 0 || name[..at].ends_with('.')) && number.parse::<usize>().is_ok()
    })?;
    Some(&name[..at])
}

/// Returns what is there in place of a Vision Transformer.
fn nothing<'a>(names: impl Iterator<Item = &'a String> + Clone) -> String {
    let has = |part: &str| {
        names.clone().any(|name| name.starts_with(part) || name.contains(&format!(".{part}")))
    };
    if has("layers.0.blocks.") {
        return "this is a Swin Transformer; only plain Vision Transformers can be read".to_owned();
    }
    if has("encoder.layer.") {
        return "names of transformers' ViTModel; take the timm weights of the same model instead"
            .to_owned();
    }
    let all: Vec<_> = names.cloned().collect();
    format!(
        "no blocks.N.* or encoder.blocks.N.* among its tensors: no Vision Transformer of timm or SimMIM; it holds {}",
        if all.is_empty() { "no tensors".to_owned() } else { some_of(&all) }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(roots: &[&str], wanted: Option<&str>) -> Result<String, String> {
        let parts = ["patch_embed.proj.weight", "blocks.0.norm1.weight"];
        let names: Vec<_> = roots
            .iter()
            .flat_map(|root| parts.map(|part| format!("{root}{part}")))
            .chain(["predictor.predictor_blocks.0.norm1.weight".to_owned()])
            .collect();
        ChosenNetwork::of(names.iter(), wanted).map(|chosen| chosen.root)
    }

    #[test]
    fn any_stack_of_prefixes_is_found_and_the_averaged_network_goes_first() {
        for root in ["", "encoder.", "module._orig_mod.model.backbone.encoder.", "visual.trunk."] {
            assert_eq!(chosen(&[root], None).as_deref(), Ok(root));
        }
        for (roots, averaged) in [
            (["student.backbone.", "teacher.backbone."], "teacher.backbone."),
            (["encoder.module.", "target_encoder.module."], "target_encoder.module."),
            (["module.base_encoder.", "module.momentum_encoder."], "module.momentum_encoder."),
            (["model.", "ema_model.module."], "ema_model.module."),
        ] {
            assert_eq!(chosen(&roots, None).as_deref(), Ok(averaged));
        }
        let both = ["student.backbone.", "teacher.backbone."];
        assert_eq!(chosen(&both, Some("student")).as_deref(), Ok("student.backbone."));
        assert_eq!(chosen(&both, Some("student.backbone")).as_deref(), Ok("student.backbone."));
        let told = chosen(&both, Some("backbone")).expect_err("both have it");
        assert!(told.contains("student.backbone, teacher.backbone"), "{told}");
        let told = chosen(&["a.", "b."], None).expect_err("neither goes first");
        assert!(told.contains("several networks: a, b; take one with --network a"), "{told}");
    }
}
