//! Gives a training and a validation set that were opened separately one numbering of classes.

use super::{ImageError, ImageSource, Part, Source};
use image::RgbImage;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Returns both sources, with labels that are indices of the returned class names, and these names. Sets
/// with the same classes keep their order. Otherwise the classes are the sorted union of both, by number if both are.
pub(crate) fn unify(train: Part, val: Part) -> (Source, Source, Vec<String>) {
    if train.classes == val.classes {
        return (train.source, val.source, train.classes);
    }
    let all: BTreeSet<String> = train.classes.iter().chain(&val.classes).cloned().collect();
    let mut classes: Vec<String> = all.into_iter().collect();
    if [&train.classes, &val.classes].into_iter().all(|names| are_ascending_numbers(names)) {
        classes.sort_by_key(|name| name.parse::<u64>().ok());
    }
    let numbers: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    let renumber = |part: Part| -> Source {
        let map = part.classes.iter().map(|name| numbers.get(name.as_str()).copied()).collect();
        Arc::new(Relabelled { source: part.source, map })
    };
    let (train, val) = (renumber(train), renumber(val));
    (train, val, classes)
}

/// Returns whether classes are called by whole numbers, in their order.
fn are_ascending_numbers(names: &[String]) -> bool {
    let numbers: Option<Vec<u64>> = names.iter().map(|name| name.parse().ok()).collect();
    numbers.is_some_and(|numbers| numbers.is_sorted())
}

/// Names the classes of validation images that no training image has.
pub(crate) fn unseen(train: &Source, val: &Source, classes: &[String]) -> Option<String> {
    const NAMED: usize = 10;
    let present = |source: &Source| {
        let mut present = vec![false; classes.len()];
        for label in (0..source.len()).filter_map(|index| source.label(index)) {
            if let Some(present) = present.get_mut(label as usize) {
                *present = true;
            }
        }
        present
    };
    let (trained, validated) = (present(train), present(val));
    // Training images without any label learn no classes at all.
    if !trained.contains(&true) {
        return None;
    }
    let unseen = classes.iter().zip(trained.iter().zip(validated));
    let unseen = unseen.filter(|(_, (trained, validated))| *validated && !**trained);
    let mut names: Vec<&str> = unseen.map(|(name, _)| name.as_str()).collect();
    let count = names.len();
    names.truncate(NAMED);
    let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
    let what = if count == 1 { "class" } else { "classes" };
    (count > 0).then(|| {
        format!(
            "{count} {what} of the validation images have no training image: {}{more}",
            names.join(", ")
        )
    })
}

/// A source with other class numbers.
struct Relabelled {
    source: Source,
    /// The new number of each old one.
    map: Vec<Option<u32>>,
}

impl ImageSource for Relabelled {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.map.get(self.source.label(index)? as usize).copied().flatten()
    }

    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
        self.source.read(index)
    }

    fn encoded(&self, index: usize) -> Option<Result<Vec<u8>, ImageError>> {
        self.source.encoded(index)
    }

    fn flaw(&self, index: usize) -> Option<ImageError> {
        self.source.flaw(index)
    }

    fn key(&self, index: usize) -> String {
        self.source.key(index)
    }

    fn bytes(&self, index: usize) -> u64 {
        self.source.bytes(index)
    }

    fn origin(&self) -> String {
        self.source.origin()
    }

    fn shards(&self) -> Vec<usize> {
        self.source.shards()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::Numbered;

    fn part(classes: [&str; 3]) -> Part {
        let classes = classes.map(str::to_owned).to_vec();
        Part { source: Arc::new(Numbered::new(3, &[])), classes }
    }

    #[test]
    fn different_classes_are_merged_by_name() {
        let (train, val, classes) = unify(part(["ant", "cat", "dog"]), part(["ant", "bee", "dog"]));
        assert_eq!(classes, ["ant", "bee", "cat", "dog"]);
        let labels = |source: &Source| (0..3).map(|i| source.label(i).unwrap()).collect::<Vec<_>>();
        assert_eq!((labels(&train), labels(&val)), (vec![0, 2, 3], vec![0, 1, 3]));
    }

    #[test]
    fn numbers_are_merged_by_number() {
        let (.., classes) = unify(part(["2", "3", "10"]), part(["3", "9", "10"]));
        assert_eq!(classes, ["2", "3", "9", "10"]);
        let (.., classes) = unify(part(["10", "2", "3"]), part(["10", "3", "9"]));
        assert_eq!(classes, ["10", "2", "3", "9"], "names of folders stay as they were");
    }

    #[test]
    fn equal_classes_keep_their_order() {
        let (.., classes) = unify(part(["z", "a", "m"]), part(["z", "a", "m"]));
        assert_eq!(classes, ["z", "a", "m"]);
    }
}
