//! What must be said beside the figures of an evaluation on few images.

use super::NEIGHBOURS;
use super::score::wilson;
use std::collections::{BTreeMap, BTreeSet};

/// Labelled test images from which on an evaluation tells something.
pub(crate) const ENOUGH: usize = 200;
/// Most classes that are named.
const NAMED: usize = 10;

/// Returns what the numbers and classes of the images mean for the figures, one sentence each.
pub(crate) fn of_images(train: &[u32], test: &[u32], classes: &[String]) -> Vec<String> {
    untaught(train, test, classes).into_iter().chain(few(test.len())).collect()
}

/// Says which classes of the test images no training image shows.
fn untaught(train: &[u32], test: &[u32], classes: &[String]) -> Option<String> {
    let taught: BTreeSet<u32> = train.iter().copied().collect();
    let mut missing: BTreeMap<u32, usize> = BTreeMap::new();
    for label in test.iter().filter(|label| !taught.contains(label)) {
        *missing.entry(*label).or_default() += 1;
    }
    if missing.is_empty() {
        return None;
    }
    let named = missing.keys().filter_map(|&label| classes.get(label as usize)).take(NAMED);
    let mut shown: Vec<&str> = named.map(String::as_str).collect();
    let more = format!("{} more", missing.len() - shown.len());
    if shown.len() < missing.len() {
        shown.push(&more);
    }
    let class = if missing.len() == 1 { "class" } else { "classes" };
    let images: usize = missing.values().sum();
    Some(format!(
        "no training image shows the {class} {}: {images} of the {} test images can only be wrong",
        shown.join(", "),
        test.len()
    ))
}

/// Says how little a few test images tell.
fn few(test: usize) -> Option<String> {
    let [low, high] = wilson(test / 2, test);
    (test < ENOUGH).then(|| {
        format!(
            "{test} test images are few: an accuracy near 50 % is known to ± {:.0} points",
            50.0 * (high - low)
        )
    })
}

/// Says which nearest neighbours of a full evaluation are left out because there are only `train` images.
pub(crate) fn of_neighbours(train: usize) -> Option<String> {
    let left_out = NEIGHBOURS.into_iter().filter(|&k| k >= train);
    let left_out: Vec<String> = left_out.map(|k| k.to_string()).collect();
    (!left_out.is_empty()).then(|| {
        let images = if train == 1 { "image" } else { "images" };
        format!(
            "no k-NN with {} neighbours: there are {train} training {images}, so all would vote each time",
            left_out.join(" and ")
        )
    })
}

/// Returns how many of `asked` neighbours may vote among `train` images, and what is to be said if that is fewer.
pub(crate) fn fitting_neighbours(asked: usize, train: usize) -> (usize, Option<String>) {
    if asked < train {
        return (asked, None);
    }
    let fitting = NEIGHBOURS.into_iter().rfind(|&k| k < train).unwrap_or(1);
    let text = format!(
        "eval.neighbours is {asked}, but all {train} training images would vote then: k-NN {fitting} is taken"
    );
    (fitting, Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_and_classes_without_any_are_told() {
        let classes: Vec<String> = (0..30).map(|class| format!("c{class}")).collect();
        let told = of_images(&[0, 0, 1, 1], &[1, 1, 2, 2, 2], &classes);
        let expected = [
            "no training image shows the class c2: 3 of the 5 test images can only be wrong",
            "5 test images are few: an accuracy near 50 % is known to ± 33 points",
        ];
        assert_eq!(told, expected);
        let all: Vec<u32> = (0..30).collect();
        assert_eq!(of_images(&all, &all.repeat(7), &classes), Vec::<String>::new());
        let told = of_images(&[0], &all.repeat(7), &classes).concat();
        assert!(told.contains("classes c1, c2") && told.contains("c10, 19 more"), "{told}");
    }

    #[test]
    fn neighbours_are_fewer_than_images() {
        assert_eq!(of_neighbours(21), None);
        let told = of_neighbours(8).expect("two are too many");
        assert!(
            told.contains("10 and 20 neighbours") && told.contains("8 training images"),
            "{told}"
        );
        assert_eq!(fitting_neighbours(20, 21), (20, None));
        assert_eq!(fitting_neighbours(20, 20).0, 10);
        assert_eq!(fitting_neighbours(20, 5).0, 1);
    }
}
