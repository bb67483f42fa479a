//! Passes orders on to the trainer, no more than it can take and its log can hold.

use crate::event::Order;
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::time::Instant;

/// How many orders a user can give at once, however many connections they come by. Orders wait in the trainer's memory.
const AT_ONCE: f64 = 100.0;
/// How many orders a user can give each second in the long run. Each is a line of the log.
const PER_SECOND: f64 = 10.0;

/// The way to the trainer, and how much each user may still send along it.
#[derive(Debug)]
pub struct Inlet {
    orders: Sender<Order>,
    /// By user: when the last order came, and how many were left then. Only the run's own user and root are served.
    left: BTreeMap<u32, (Instant, f64)>,
}

/// Why an order doesn't reach the trainer.
#[derive(Debug, PartialEq, Eq)]
pub enum NotPassedOn {
    /// The user gives too many.
    TooMany,
    RunOver,
}

impl Inlet {
    pub fn new(orders: Sender<Order>) -> Self {
        Self { orders, left: BTreeMap::new() }
    }

    /// Passes on an order of a user.
    ///
    /// # Errors
    /// If the user has given too many, or if nobody takes orders any more.
    pub fn pass_on(&mut self, user: u32, order: Order) -> Result<(), NotPassedOn> {
        self.pass_on_at(Instant::now(), user, order)
    }

    fn pass_on_at(&mut self, now: Instant, user: u32, order: Order) -> Result<(), NotPassedOn> {
        let (last, left) = self.left.entry(user).or_insert((now, AT_ONCE));
        let gained = now.saturating_duration_since(*last).as_secs_f64() * PER_SECOND;
        (*last, *left) = (now, AT_ONCE.min(*left + gained));
        if *left < 1.0 {
            return Err(NotPassedOn::TooMany);
        }
        *left -= 1.0;
        self.orders.send(order).map_err(|_| NotPassedOn::RunOver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Command;
    use crossbeam_channel::unbounded;
    use std::time::Duration;

    #[test]
    fn a_user_has_a_share_that_grows_again_and_takes_nothing_from_others() {
        let (sender, receiver) = unbounded();
        let mut inlet = Inlet::new(sender);
        let start = Instant::now();
        let mut passed = |after_ms: u64, user: u32| {
            let now = start + Duration::from_millis(after_ms);
            let mut given =
                || inlet.pass_on_at(now, user, Order::new(Command::Checkpoint, "the test"));
            (0..1000).filter(|_| given().is_ok()).count()
        };
        assert_eq!(passed(0, 1), 100);
        assert_eq!(passed(0, 2), 100, "another user");
        assert_eq!(passed(50, 1), 0);
        assert_eq!(passed(1000, 1), 10);
        assert_eq!(passed(1_000_000, 1), 100, "no more than at first");
        assert_eq!(receiver.len(), 310);
        drop(receiver);
        let order = Order::new(Command::Checkpoint, "the test");
        assert_eq!(Inlet::pass_on(&mut inlet, 3, order), Err(NotPassedOn::RunOver));
    }
}
