//! Lengths that a configuration may give in epochs or in steps: of two keys one counts.

use super::{Config, ScheduleConfig, TrainConfig};
use toml::Table;

/// Section, key in epochs, key in steps, and what both say.
const PAIRS: [(&str, [&str; 2], &str); 3] = [
    ("train", ["epochs", "steps"], "how long the run is"),
    ("train", ["val_every", "val_every_steps"], "how often it is validated"),
    ("schedule", ["warmup_epochs", "warmup_steps"], "how long the warm-up is"),
];

/// Removes from `below` the keys in whose place `above` gives the other one of the pair.
pub(super) fn give_way(below: &mut Table, above: &Table) {
    for (section, keys, _) in PAIRS {
        for (key, other) in [(keys[0], keys[1]), (keys[1], keys[0])] {
            let Some(lower) = below.get_mut(section).and_then(toml::Value::as_table_mut) else {
                continue;
            };
            if has(above, section, key) {
                lower.remove(other);
            }
        }
    }
}

/// Returns what is wrong with a layer that gives both keys of a pair.
pub(super) fn both(layer: &Table) -> Option<String> {
    let given = |(section, keys, _): &(&str, [&str; 2], &str)| {
        keys.iter().all(|key| has(layer, section, key))
    };
    let (section, [epochs, steps], what) = PAIRS.into_iter().find(given)?;
    Some(format!(
        "{section}.{epochs} and {section}.{steps} both say {what}, in epochs and in steps: give one of them"
    ))
}

/// Unsets the lengths in epochs, which may be defaults, where there is one in steps.
pub(super) fn keep_one(config: &mut Config) {
    let Config { train, schedule, .. } = config;
    train.epochs.take_if(|_| train.steps.is_some());
    train.val_every.take_if(|_| train.val_every_steps.is_some());
    schedule.warmup_epochs.take_if(|_| schedule.warmup_steps.is_some());
}

/// Returns whether a layer gives a key.
pub(super) fn has(layer: &Table, section: &str, key: &str) -> bool {
    layer.get(section).is_some_and(|keys| keys.get(key).is_some())
}

impl TrainConfig {
    /// Returns the steps of the whole run, if an epoch has `steps_per_epoch`.
    pub fn total_steps(&self, steps_per_epoch: u64) -> u64 {
        in_steps(self.steps, self.epochs, steps_per_epoch)
    }

    /// Returns the steps between two validations.
    pub fn validation_period(&self, steps_per_epoch: u64) -> u64 {
        in_steps(self.val_every_steps, self.val_every, steps_per_epoch)
    }
}

impl ScheduleConfig {
    /// Returns the steps of the warm-up in a run that is long enough for it.
    pub fn warmup(&self, steps_per_epoch: u64) -> u64 {
        let epochs = self.warmup_epochs.unwrap_or(0.0);
        let steps = self.warmup_steps.map(|steps| steps as u64);
        steps.unwrap_or_else(|| (epochs * steps_per_epoch as f64).round() as u64)
    }
}

/// Returns a length in steps. A checked configuration has one of the two.
fn in_steps(steps: Option<usize>, epochs: Option<usize>, steps_per_epoch: u64) -> u64 {
    let epochs = epochs.unwrap_or(0) as u64;
    steps.map_or_else(|| epochs.saturating_mul(steps_per_epoch), |steps| steps as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::{Layer, load, override_with, parse, stack, to_toml};
    use std::path::Path;

    fn sets(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn steps_take_the_place_of_epochs_from_a_layer_below_and_the_other_way_round() {
        let file = Some(Path::new("vit_base_224"));
        let long = ["train.steps=1000", "train.val_every_steps=50", "schedule.warmup_steps=10"];
        let config = load(file, &sets(&long)).expect("valid");
        let TrainConfig { epochs, steps, val_every, val_every_steps, .. } = config.train;
        assert_eq!((epochs, steps, val_every, val_every_steps), (None, Some(1000), None, Some(50)));
        assert_eq!((config.train.total_steps(7), config.train.validation_period(7)), (1000, 50));
        assert_eq!(config.schedule.warmup(7), 10);
        let saved = to_toml(&config);
        assert!(!saved.contains("\nepochs") && saved.contains("\nsteps = 1000"), "{saved}");
        assert_eq!(parse(&saved, "saved").expect("valid"), config);
        let back = ["train.epochs=3", "train.val_every=2", "schedule.warmup_epochs=0.5"];
        let back = override_with(&config, &sets(&back)).expect("valid");
        assert_eq!((back.train.total_steps(7), back.train.validation_period(7)), (21, 14));
        assert_eq!((back.schedule.warmup(7), back.train.steps), (4, None));
        let steps = Layer::text("[train]\nsteps = 5", "above").expect("TOML");
        let recipe = Layer::file(Path::new("finetune")).expect("built in");
        let config = stack(vec![recipe.clone(), steps.clone()], &[]).expect("valid");
        assert_eq!((config.train.epochs, config.train.steps), (None, Some(5)));
        let config = stack(vec![steps, recipe], &[]).expect("valid");
        assert_eq!((config.train.epochs, config.train.steps), (Some(30), None));
    }

    #[test]
    fn two_lengths_at_once_are_one_line_that_names_both() {
        for (a, b, section) in [
            ("train.steps=5", "train.epochs=3", "train"),
            ("train.epochs=3", "train.steps=5", "train"),
            ("train.val_every=1", "train.val_every_steps=5", "train"),
            ("schedule.warmup_steps=0", "schedule.warmup_epochs=0", "schedule"),
        ] {
            let error = load(None, &sets(&[a, b])).expect_err("both").to_string();
            for part in [a, b].map(|set| set.split('=').next().unwrap_or_default()) {
                assert!(error.contains(part), "{part} is missing in: {error}");
            }
            assert!(error.starts_with(&format!("--set {b}: ")), "{error}");
            let line = |set: &str| set.split_once('.').expect("dotted").1.replace('=', " = ");
            let text = format!("[{section}]\n{}\n{}\n", line(a), line(b));
            let error = parse(&text, "x.toml").expect_err("both").to_string();
            assert!(error.starts_with("config x.toml: ") && error.contains("give one"), "{error}");
        }
        // The last text of one key wins, also if another key of the section is given between.
        let many = sets(&["train.steps=5", "train.batch_size=4", "train.steps=6"]);
        assert_eq!(load(None, &many).expect("valid").train.steps, Some(6));
        for wrong in ["train.steps=0", "train.val_every_steps=0", "schedule.warmup_steps=-1"] {
            let error = load(None, &sets(&[wrong])).expect_err(wrong).to_string();
            assert!(error.contains(wrong.split('=').next().unwrap_or_default()), "{error}");
        }
    }
}
