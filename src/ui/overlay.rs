//! Earlier runs behind the live one in the loss chart.

use super::chart_view::Extent;
use super::series::{Point, Series, XAxis, extent};
use crate::event::{Event, Stamped};

/// The losses of an earlier run.
#[derive(Debug, Clone)]
pub struct Overlay {
    pub name: String,
    pub train: Series,
    pub val: Series,
}

impl Overlay {
    /// Collects the losses from all events of a run's log, without the steps that a resumed run had lost.
    pub fn from_events<'a>(
        name: impl Into<String>,
        events: impl IntoIterator<Item = &'a Stamped>,
    ) -> Self {
        let (mut train, mut val) = (Series::new(), Series::new());
        for stamped in events {
            match &stamped.event {
                Event::Started(started) => {
                    train.truncate_after(started.last_kept_step() as f64);
                    val.truncate_after(started.last_kept_step() as f64);
                }
                Event::Step(report) => train.push_losses(report),
                Event::Validated(validation) => val.push(Point {
                    step: validation.step as f64,
                    time: train.last().map_or(0.0, |point| point.time),
                    value: validation.comparable_loss(),
                }),
                _ => {}
            }
        }
        Self { name: name.into(), train, val }
    }

    /// Returns where the run ends on `axis`, as far as it is known.
    pub fn end(&self, axis: XAxis) -> f64 {
        extent(&[&self.train, &self.val], axis).1
    }
}

/// Returns what a chart covers of a live run and the earlier ones behind it.
pub fn extent_with(live: &[&Series], overlays: &[Overlay], axis: XAxis) -> Extent {
    let (start, newest) = extent(live, axis);
    let end = overlays.iter().map(|overlay| overlay.end(axis)).fold(newest, f64::max);
    Extent { start, newest, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Started, StepReport, Validation};

    fn started(step: u64) -> Event {
        Event::Started(Started::sample(step))
    }

    fn report(step: u64, losses: &[f32], elapsed_s: f64) -> Event {
        Event::Step(StepReport { losses: losses.to_vec(), elapsed_s, ..StepReport::sample(step) })
    }

    fn validated(step: u64, val_loss: f64) -> Event {
        let (psnr, ssim, accuracy, of, usual) = (None, None, None, None, None);
        let (epoch, images, best, seconds) = (0.0, 1, false, 1.0);
        Event::Validated(Validation {
            step,
            epoch,
            val_loss,
            psnr,
            ssim,
            accuracy,
            images,
            of,
            usual,
            best,
            seconds,
        })
    }

    #[test]
    fn what_a_killed_process_had_done_after_its_checkpoint_is_left_out() {
        let events = [
            started(0),
            report(2, &[4.0, 3.0], 2.0),
            validated(2, 3.5),
            report(5, &[2.0, 9.0, 9.0], 5.0),
            validated(5, 9.5),
            started(3),
            report(4, &[1.0], 4.0),
        ];
        let events = events.map(|event| Stamped { time: 1.0, event });
        let run = Overlay::from_events("a", &events);
        let of = |series: &Series| -> Vec<_> {
            series.points().iter().map(|point| (point.step, point.time, point.value)).collect()
        };
        let train = [(1.0, 1.0, 4.0), (2.0, 2.0, 3.0), (3.0, 3.0, 2.0), (4.0, 4.0, 1.0)].to_vec();
        assert_eq!((of(&run.train), of(&run.val)), (train, vec![(2.0, 2.0, 3.5)]));
        let killed_again = Overlay::from_events("a", &events[..6]);
        assert_eq!(killed_again.train.points(), &run.train.points()[..3]);
        assert_eq!((run.name.as_str(), run.end(XAxis::Step)), ("a", 4.0));
    }

    #[test]
    fn the_longest_run_ends_the_chart_and_the_live_one_is_the_newest() {
        let events =
            [started(0), report(9, &[1.0; 9], 9.0)].map(|event| Stamped { time: 1.0, event });
        let live = Overlay::from_events("live", &events[..1]);
        let earlier = [Overlay::from_events("earlier", &events)];
        let found = extent_with(&[&live.train, &live.val], &earlier, XAxis::Step);
        assert_eq!(found, Extent { start: 0.0, newest: 1.0, end: 9.0 });
    }
}
