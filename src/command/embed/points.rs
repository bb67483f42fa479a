//! Points in the plane with their classes, for both ways of drawing them.

/// Points with their classes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Points {
    /// Coordinates across and up, in no particular unit, `[n]`.
    pub places: Vec<[f64; 2]>,
    /// Class numbers, `[n]`.
    pub labels: Vec<Option<u32>>,
    /// Names of the classes, by number.
    pub classes: Vec<String>,
}

impl Points {
    /// Returns the points with coordinates of 0..1 across and down. Each axis is scaled so that the points fill the
    /// square. Coordinates that are all equal or not a number become 0.5.
    pub fn scaled(&self) -> Vec<[f64; 2]> {
        let finite = |axis: usize| {
            self.places.iter().map(move |place| place[axis]).filter(|value| value.is_finite())
        };
        let bounds = [0, 1].map(|axis| {
            let start = (f64::INFINITY, f64::NEG_INFINITY);
            finite(axis).fold(start, |(low, high), value| (low.min(value), high.max(value)))
        });
        let share = |value: f64, (low, high): (f64, f64)| {
            let share = (value - low) / (high - low);
            if share.is_finite() { share } else { 0.5 }
        };
        let place =
            |place: &[f64; 2]| [share(place[0], bounds[0]), 1.0 - share(place[1], bounds[1])];
        self.places.iter().map(place).collect()
    }

    /// Returns the numbers of the classes that have points, each with the number of its points.
    pub fn counts(&self) -> Vec<(usize, usize)> {
        let mut counts = vec![0; self.classes.len()];
        for label in self.labels.iter().flatten() {
            if let Some(count) = counts.get_mut(*label as usize) {
                *count += 1;
            }
        }
        counts.into_iter().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_fill_the_square_and_the_first_axis_goes_up() {
        let places = vec![[-2.0, 10.0], [0.0, 30.0], [2.0, 20.0], [f64::NAN, 20.0]];
        let points = Points { places, ..Points::default() };
        assert_eq!(points.scaled(), [[0.0, 1.0], [0.5, 0.0], [1.0, 0.5], [0.5, 0.5]]);
        let lone = Points { places: vec![[7.0, 7.0]], ..Points::default() };
        assert_eq!(lone.scaled(), [[0.5, 0.5]]);
    }
}
