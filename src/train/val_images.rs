//! Which of the validation images a validation passes through.
//!
//! Of many images a run validates on some, the same ones each time, so that its figures can be compared. The weights
//! that a run starts with are judged on few of these, and those at its end on all images.

use crate::config::ValConfig;
use crate::data::split::{Subset, balanced};
use crate::data::{self, Source};
use std::borrow::Cow;
use std::sync::Arc;

/// A set of more images than this is large: step 0 is judged on few of them.
const LARGE: usize = 5000;
/// The most images on which the weights at step 0 are judged, if the set is large or only a part of it is used.
const FIRST: usize = 512;

/// Some of the validation images.
#[derive(Clone)]
pub struct ValPart {
    pub source: Source,
    /// The number of each image in the whole set. Without it, the part is the whole set.
    numbers: Option<Arc<[usize]>>,
}

impl ValPart {
    /// Returns all images of a set as one part.
    pub fn whole(source: &Source) -> Self {
        Self { source: Source::clone(source), numbers: None }
    }

    /// Returns the images of `source` with these numbers, which ascend.
    fn of(source: &Source, numbers: Vec<usize>) -> Self {
        let numbers: Arc<[usize]> = numbers.into();
        let subset: Source = Arc::new(Subset::of(source, numbers.to_vec()));
        Self { source: subset, numbers: Some(numbers) }
    }

    /// Returns the numbers in the whole set of the images with these indices. Masks go by them, so that an image has the
    /// same one in each part.
    pub fn numbers<'a>(&self, indices: &'a [usize]) -> Cow<'a, [usize]> {
        match &self.numbers {
            None => Cow::Borrowed(indices),
            Some(numbers) => indices.iter().map(|&index| numbers[index]).collect(),
        }
    }
}

/// When a validation takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Before the first step.
    First,
    /// While the run goes on.
    Usual,
    /// After the last step.
    Last,
}

/// The validation images of a run.
pub(super) struct ValImages {
    all: Source,
    usual: ValPart,
    first: ValPart,
}

impl ValImages {
    /// Chooses the images. A choice of which no image can be read gives way to the larger one.
    pub(super) fn new(config: &ValConfig, all: &Source) -> Self {
        let choose = |count: usize, larger: &ValPart| {
            if larger.source.len() <= count {
                return larger.clone();
            }
            let part = ValPart::of(all, balanced(all, count));
            if data::check_readable(&part.source).is_ok() { part } else { larger.clone() }
        };
        let whole = ValPart::whole(all);
        let usual = if config.images == 0 { whole } else { choose(config.images, &whole) };
        let few = usual.numbers.is_some() || all.len() > LARGE;
        let first = if few { choose(FIRST, &usual) } else { usual.clone() };
        Self { all: Source::clone(all), usual, first }
    }

    /// Returns the parts that a validation passes through, one after the other. Of two, the first is the usual one.
    pub(super) fn parts(&self, occasion: Occasion) -> Vec<ValPart> {
        match occasion {
            Occasion::First => vec![self.first.clone()],
            Occasion::Usual => vec![self.usual.clone()],
            Occasion::Last => [self.usual.clone()].into_iter().chain(self.rest()).collect(),
        }
    }

    /// Returns the images on which a run is not usually validated, as far as one of them can be read.
    fn rest(&self) -> Option<ValPart> {
        let mut usual = self.usual.numbers.as_ref()?.iter().peekable();
        let others =
            (0..self.all.len()).filter(|index| usual.next_if(|number| *number == index).is_none());
        let rest = ValPart::of(&self.all, others.collect());
        data::check_readable(&rest.source).is_ok().then_some(rest)
    }

    /// Returns how many images there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns how many images a usual validation has if that is not all of them. Validations with different answers
    /// can't be compared.
    pub(super) fn some(&self) -> Option<u64> {
        self.usual.numbers.as_ref().map(|numbers| numbers.len() as u64)
    }

    pub(super) fn usual_len(&self) -> usize {
        self.usual.source.len()
    }

    /// Returns how many images the last validation has beyond the usual ones, as a multiple of these.
    pub(super) fn rest_share(&self) -> f64 {
        self.all.len() as f64 / self.usual.source.len().max(1) as f64 - 1.0
    }

    /// Says on what a run is validated, if that isn't simply all images.
    pub(super) fn text(&self) -> Option<String> {
        let (first, usual, all) = (self.first.source.len(), self.usual.source.len(), self.len());
        if first == all {
            return None;
        }
        let text = match self.some() {
            Some(_) => format!(
                "validations are on {usual} of {all} images, the same ones each time, and the last is on all \
                 (val.images)"
            ),
            None => format!("validations are on all {all} images"),
        };
        if first == usual {
            return Some(text);
        }
        Some(format!("{text}; the one before the first step is on {first}"))
    }
}

/// Says on which images a run would be validated, if that isn't simply all of them.
pub fn validation_note(config: &ValConfig, all: &Source) -> Option<String> {
    ValImages::new(config, all).text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::Numbered;

    fn images(limit: usize, count: usize, bad: &[usize]) -> ValImages {
        let all: Source = Arc::new(Numbered::new(count, bad));
        ValImages::new(&ValConfig { images: limit }, &all)
    }

    fn counts(images: &ValImages) -> [Vec<usize>; 3] {
        [Occasion::First, Occasion::Usual, Occasion::Last]
            .map(|occasion| images.parts(occasion).iter().map(|part| part.source.len()).collect())
    }

    #[test]
    fn a_small_set_is_used_whole_and_of_a_large_one_the_same_part() {
        assert_eq!(counts(&images(5000, 44, &[])), [vec![44], vec![44], vec![44]]);
        assert_eq!(counts(&images(5000, 5000, &[])), [vec![5000], vec![5000], vec![5000]]);
        assert_eq!(counts(&images(5000, 5001, &[])), [vec![512], vec![5000], vec![5000, 1]]);
        assert_eq!(counts(&images(0, 5001, &[])), [vec![512], vec![5001], vec![5001]]);
        assert_eq!(counts(&images(0, 5000, &[])), [vec![5000], vec![5000], vec![5000]]);
        assert_eq!(counts(&images(600, 1000, &[])), [vec![512], vec![600], vec![600, 400]]);
        assert_eq!(counts(&images(8, 44, &[])), [vec![8], vec![8], vec![8, 36]]);
        assert_eq!(images(5000, 44, &[]).text(), None);
        let text = images(600, 1000, &[]).text().unwrap_or_default();
        assert!(
            text.contains("on 600 of 1000") && text.ends_with("first step is on 512"),
            "{text}"
        );
    }

    #[test]
    fn the_parts_of_the_last_validation_are_all_images_once_by_their_numbers() {
        let images = images(7, 30, &[]);
        let mut numbers = Vec::new();
        for part in images.parts(Occasion::Last) {
            let indices: Vec<usize> = (0..part.source.len()).collect();
            let of_part = part.numbers(&indices);
            for (&index, &number) in indices.iter().zip(of_part.iter()) {
                assert_eq!(part.source.key(index), images.all.key(number));
            }
            numbers.extend_from_slice(&of_part);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..30).collect::<Vec<_>>());
        assert!((images.rest_share() - 23.0 / 7.0).abs() < 1e-12);
    }

    #[test]
    fn a_part_that_cannot_be_read_gives_way() {
        let bad: Vec<usize> = (0..30).filter(|&index| index != 17).collect();
        let one_good = images(3, 30, &bad);
        let readable = |part: &ValPart| (0..part.source.len()).any(|i| part.source.read(i).is_ok());
        for occasion in [Occasion::First, Occasion::Usual, Occasion::Last] {
            assert!(one_good.parts(occasion).iter().all(readable), "{occasion:?}");
        }
    }
}
