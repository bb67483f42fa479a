//! Numbers the classes of all shards of a data set.

use super::super::DataError;
use super::index::{LabelText, NO_LABEL, ShardIndex};
use crate::shown;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The file with the names of the classes.
const FILE: &str = "classes.txt";

/// Which class a label stands for.
pub(super) struct Classes {
    /// Names by number.
    pub names: Vec<String>,
    /// The file that they come from.
    file: Option<PathBuf>,
    numbers: HashMap<String, u32>,
}

/// What labels turned out to be, and how often.
#[derive(Default)]
pub(super) struct LabelCounts {
    /// Labels that classes.txt doesn't have, with the first one.
    unknown: (usize, String),
    pub captions: usize,
}

impl Classes {
    /// Numbers the classes of all shards. `folders` are those in which classes.txt may lie.
    ///
    /// # Errors
    /// Returns an error if a classes.txt can't be read.
    pub fn of<'a>(
        shards: impl Iterator<Item = &'a ShardIndex>,
        folders: &[PathBuf],
    ) -> Result<Self, DataError> {
        for folder in folders {
            let file = folder.join(FILE);
            let text = match std::fs::read(&file) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(DataError::io(&file, error)),
            };
            let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
            let names: Vec<String> =
                lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
            return Ok(Self::new(names, Some(file)));
        }
        let texts: BTreeSet<&LabelText> = shards.flat_map(|shard| &shard.texts).collect();
        // A caption is a class only if it is a number.
        let class = |(text, caption): &&LabelText| match number(text) {
            Some(number) => number >= 0,
            None => !caption,
        };
        let texts: BTreeSet<&str> =
            texts.into_iter().filter(class).map(|text| text.0.as_str()).collect();
        let numbers: Option<BTreeSet<i64>> = texts.iter().map(|text| number(text)).collect();
        let names = match numbers {
            Some(numbers) => numbers.into_iter().map(|n| n.to_string()).collect(),
            None => texts.into_iter().map(str::to_owned).collect(),
        };
        Ok(Self::new(names, None))
    }

    fn new(names: Vec<String>, file: Option<PathBuf>) -> Self {
        let numbered = names.iter().enumerate().rev(); // of two equal names, the first one counts
        let numbers = numbered.map(|(number, name)| (name.clone(), number as u32)).collect();
        Self { names, file, numbers }
    }

    /// Replaces the labels of a shard by the numbers of their classes.
    pub fn apply(&self, shard: &mut ShardIndex, counts: &mut LabelCounts) {
        let classes: Vec<Result<u32, bool>> =
            shard.texts.iter().map(|text| self.class(text)).collect();
        for label in &mut shard.labels {
            let Some(class) = classes.get(*label as usize) else { continue };
            match class {
                Ok(class) => *label = *class,
                Err(caption) => {
                    if *caption {
                        counts.captions += 1;
                    } else if number(&shard.texts[*label as usize].0).is_none_or(|n| n >= 0) {
                        if counts.unknown.0 == 0 {
                            counts.unknown.1.clone_from(&shard.texts[*label as usize].0);
                        }
                        counts.unknown.0 += 1;
                    }
                    *label = NO_LABEL;
                }
            }
        }
    }

    /// Returns the number of a label's class, or whether the label is a caption.
    fn class(&self, (text, may_be_caption): &LabelText) -> Result<u32, bool> {
        let number = number(text);
        if self.file.is_some()
            && let Some(number) = number
        {
            let class = u32::try_from(number).ok().filter(|&n| (n as usize) < self.names.len());
            return class.ok_or(false);
        }
        let plain = number.map(|number| number.to_string());
        let class = self.numbers.get(plain.as_ref().unwrap_or(text)).or(self.numbers.get(text));
        class.copied().ok_or(*may_be_caption && number.is_none())
    }

    /// Says which labels are no classes.
    pub fn notes(&self, counts: &LabelCounts) -> Vec<String> {
        let mut notes = Vec::new();
        if let (count @ 1.., example) = &counts.unknown {
            let file = self.file.as_deref().unwrap_or(Path::new(FILE));
            notes.push(format!(
                "{count} images have a label that {} with its {} names doesn't have, for example {example}: they count as \
                 unlabelled",
                shown::path(file),
                self.names.len()
            ));
        }
        if counts.captions > 0 {
            notes.push(format!(
                "{} .txt members are captions and no classes: no number, and no name of {FILE}",
                counts.captions
            ));
        }
        notes
    }
}

/// Returns the number that a label is. A negative one means that there is none.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}
