//! How the loss has gone in this session, for the advice at the end of a run whose figures are no numbers any more.

use std::collections::VecDeque;

/// Steps whose mean is the level of the loss.
const LEVEL: usize = 8;
/// The factor above the lowest level from which on a loss has risen.
const RISEN: f64 = 1.2;

/// The losses of a session, as far as advice needs them.
#[derive(Debug)]
pub(super) struct Course {
    recent: VecDeque<f64>,
    /// The lowest level so far, with its step.
    lowest: Option<(u64, f64)>,
    /// The last step whose weights had a loss near the lowest level.
    good: u64,
    /// The highest loss since then, with its step.
    highest: Option<(u64, f64)>,
}

impl Course {
    /// Starts after `step`, up to which nothing is known.
    pub(super) fn new(step: u64) -> Self {
        Self { recent: VecDeque::new(), lowest: None, good: step, highest: None }
    }

    /// Takes in the loss of a step. A loss that is no number is passed over.
    pub(super) fn push(&mut self, step: u64, loss: f32) {
        let loss = f64::from(loss);
        if !loss.is_finite() {
            return;
        }
        if self.recent.len() == LEVEL {
            self.recent.pop_front();
        }
        self.recent.push_back(loss);
        let level = self.recent.iter().sum::<f64>() / self.recent.len() as f64;
        if self.lowest.is_none_or(|(_, lowest)| level < lowest) {
            self.lowest = Some((step, level));
        }
        if self.lowest.is_some_and(|(_, lowest)| loss <= RISEN * lowest) {
            // A step has the loss of the weights before it.
            (self.good, self.highest) = (step - 1, None);
        } else if self.highest.is_none_or(|(_, highest)| loss > highest) {
            self.highest = Some((step, loss));
        }
    }

    /// Returns the last step whose weights are known to be from before the rise, if the loss has risen.
    pub(super) fn before_rise(&self) -> Option<u64> {
        self.highest.map(|_| self.good)
    }

    /// Returns how far the loss had risen, as a part of a sentence.
    pub(super) fn text(&self) -> String {
        match (self.lowest, self.highest) {
            (Some((from, lowest)), Some((step, highest))) => format!(
                "the loss had risen from {} at step {from} to {} at step {step}",
                figure(lowest),
                figure(highest)
            ),
            (Some((_, lowest)), None) => {
                format!("the loss had not risen before, it was {}", figure(lowest))
            }
            (None, _) => "no step before it had a loss that is a number".to_owned(),
        }
    }
}

fn figure(loss: f64) -> String {
    if loss < 1e4 { format!("{loss:.4}") } else { format!("{loss:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(losses: &[f32]) -> Course {
        let mut course = Course::new(100);
        for (step, &loss) in (101..).zip(losses) {
            course.push(step, loss);
        }
        course
    }

    #[test]
    fn a_rise_is_told_from_the_lowest_level_on() {
        let falling: Vec<f32> = (0..50).map(|step| 1.0 - 0.01 * step as f32).collect();
        let usual = course(&falling);
        assert_eq!(usual.before_rise(), None);
        assert!(
            usual.text().starts_with("the loss had not risen before, it was 0.54"),
            "{}",
            usual.text()
        );
        let risen = course(&[&falling[..], &[0.9, 4.0, 1e6, 2e5, f32::NAN]].concat());
        assert_eq!(risen.before_rise(), Some(149));
        assert_eq!(risen.text(), "the loss had risen from 0.5450 at step 150 to 1.0e6 at step 153");
    }

    #[test]
    fn one_high_loss_is_forgotten_once_the_loss_is_usual_again() {
        let course = course(&[0.5, 0.5, 0.5, 3.0, 0.5, 0.55]);
        assert_eq!((course.before_rise(), course.good), (None, 105));
    }

    #[test]
    fn a_session_that_begins_with_the_rise_began_with_the_last_good_weights() {
        let course = course(&[0.8, 7.0, 90.0]);
        assert_eq!(course.before_rise(), Some(100));
        assert_eq!(Course::new(7).before_rise(), None);
        assert!(Course::new(7).text().starts_with("no step before it"));
    }
}
