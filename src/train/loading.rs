//! Whether the loader keeps up with the steps: the number of its threads, and what its cache is worth.

use super::error::TrainError;
use super::meter::Rate;
use super::trainer::Trainer;
use crate::data::CacheBudget;
use crate::data::loader::LoadPeriod;
use crate::event::Level;

/// A period that has so many times the batches that are made ahead tells how fast they come even if it was interrupted,
/// and the loader went on alone meanwhile.
const LONG: f64 = 16.0;

impl Trainer {
    /// Judges the loader by a log period: changes the number of its threads if that is left to the run, and tells once
    /// if the cache holds few of the images.
    pub(super) fn judge_loader(&mut self, rate: &Rate) -> Result<(), TrainError> {
        if let Some(shortage) = self.cache.as_ref().and_then(CacheBudget::shortage) {
            self.cache = None;
            self.comms.log(Level::Info, shortage)?;
        }
        let Some(tuning) = &mut self.tuning else { return Ok(()) };
        let images = rate.images_per_s * rate.seconds;
        let ahead = (self.config.data.prefetch * self.config.train.batch_size) as f64;
        if rate.interrupted && images < LONG * ahead {
            return Ok(());
        }
        let waited = rate.data_wait * rate.seconds;
        let Some(change) = tuning.judge(LoadPeriod { seconds: rate.seconds, waited, images })
        else {
            return Ok(());
        };
        let given = self.loader.set_workers(change.workers);
        if given < change.workers {
            tuning.limit(given);
        }
        // Validations take the same number.
        self.loader_config.workers = given;
        self.comms.log(Level::Info, change.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Job, Start};
    use super::*;
    use crate::config::file;
    use crate::data::loader::WorkerTuning;
    use crate::data::{self, ListedData};
    use crate::engine::device::{self, Device};
    use crate::engine::learner::LearnerConfig;
    use crate::event::{Event, Stamped};
    use crate::run_dir::RunDir;
    use crossbeam_channel::{Receiver, unbounded};
    use std::path::Path;

    fn trainer(root: &Path, extra: &[&str]) -> (Trainer, Receiver<Stamped>) {
        let tiny = [
            "model.image_size=16",
            "mask.unit=8",
            "model.embed_dim=16",
            "model.depth=1",
            "model.heads=2",
            "train.epochs=2",
            "train.device=cpu",
        ];
        let sets: Vec<String> = tiny.iter().chain(extra).map(|&set| set.to_owned()).collect();
        let config = file::load(None, &sets).expect("valid");
        let data = data::open(&config.data).expect("the photos are inside");
        let learner = LearnerConfig::new(&config);
        let job = Job {
            images: ListedData::of(&data).fingerprint(),
            config,
            device: Device::Cpu,
            engine: Box::new(move || device::engine(&Device::Cpu, learner)),
            data,
            run: RunDir::create(root).expect("a new run"),
            eval: None,
            start: Start::Fresh,
            notices: Vec::new(),
        };
        let ((sender, events), (_, inbox)) = (unbounded(), unbounded());
        (Trainer::new(job, vec![Box::new(sender)], inbox).expect("it is built"), events)
    }

    fn told(events: &Receiver<Stamped>, about: &str) -> Vec<String> {
        let logs = events.try_iter().filter_map(|stamped| match stamped.event {
            Event::Log { message, .. } => Some(message),
            _ => None,
        });
        logs.filter(|message| message.contains(about)).collect()
    }

    #[test]
    fn a_run_that_waits_starts_threads_and_sends_those_away_that_gain_nothing() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (mut trainer, events) = trainer(&temp.path().join("run"), &["train.log_every=1000"]);
        trainer.tuning = WorkerTuning::new(&trainer.config, 8, true);
        let mut judge = |images_per_s: f64, interrupted: bool| {
            let rate = Rate { images_per_s, data_wait: 0.5, seconds: 2.0, interrupted };
            trainer.judge_loader(&rate).expect("the log can be written");
            trainer.micro_step().expect("a good step");
            (trainer.loader.workers(), trainer.loader_config.workers)
        };
        assert_eq!(judge(100.0, true), (1, 1), "a short period with a validation tells nothing");
        assert_eq!(judge(100.0, false), (2, 2));
        assert_eq!(judge(100.0, false), (2, 2), "it has batches of before");
        assert_eq!(judge(150.0, false), (4, 4));
        judge(150.0, false);
        assert_eq!(judge(150.0, false), (2, 2));
        let expected = [
            "2 loader workers: steps waited 50 % of the time",
            "4 loader workers: steps waited 50 % of the time",
            "2 loader workers again: steps came no faster with 4",
        ];
        assert_eq!(told(&events, "loader worker"), expected);
    }

    #[test]
    fn a_number_that_is_given_stays() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (mut trainer, _events) = trainer(&temp.path().join("run"), &["data.workers=3"]);
        let rate = Rate { images_per_s: 9.0, data_wait: 0.9, seconds: 9.0, interrupted: false };
        trainer.judge_loader(&rate).expect("the log can be written");
        assert_eq!((trainer.loader.workers(), trainer.loader_config.workers), (3, 3));
    }

    #[test]
    fn a_cache_that_holds_few_images_is_told_of_once() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (trainer, events) = trainer(&temp.path().join("run"), &["data.cache_mib=1"]);
        trainer.run().expect("it trains to the end");
        let told = told(&events, "the cache of decoded images");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("of 215)") && told[0].contains("data.cache_mib is 1"), "{told:?}");
    }
}
