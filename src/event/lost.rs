//! What a resume loses.
//!
//! A process starts from a checkpoint, or from nothing. Whatever an earlier process did after that checkpoint was lost
//! with it: its events are still in the log, but the steps are done again. So whoever folds the events of a log drops,
//! at each [`Started`], everything it knows about steps that the event does not keep.

use super::Started;

impl Started {
    /// Returns the last step about which earlier events still hold.
    pub fn last_kept_step(&self) -> u64 {
        self.step
    }

    /// Returns whether what earlier events say about `step` still holds.
    pub fn keeps(&self, step: u64) -> bool {
        step <= self.last_kept_step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_keeps_its_own_step_and_loses_all_later_ones() {
        let resumed = Started::sample(3);
        assert!(resumed.keeps(0) && resumed.keeps(3) && !resumed.keeps(4));
        assert_eq!(resumed.last_kept_step(), 3);
    }

    #[test]
    fn a_start_from_nothing_loses_every_step_but_the_evaluation_before_the_first() {
        let fresh = Started::sample(0);
        assert!(fresh.keeps(0) && !fresh.keeps(1));
    }
}
