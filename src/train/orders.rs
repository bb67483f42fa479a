//! The orders that a run has got and not yet carried out.

use crate::event::{Command, Order};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Orders in the order of their arrival. Those that come while they can't be carried out, as during a validation, wait
/// in a queue in front of the channel.
pub(super) struct Orders {
    receiver: Receiver<Order>,
    queue: VecDeque<Order>,
    /// A stop was carried out: the run ends after the current step.
    stopping: bool,
}

impl Orders {
    pub(super) fn new(receiver: Receiver<Order>) -> Self {
        Self { receiver, queue: VecDeque::new(), stopping: false }
    }

    /// Takes the next order that is there. A front end that left is as one that has no wishes.
    pub(super) fn take(&mut self) -> Option<Order> {
        self.queue.pop_front().or_else(|| self.receiver.try_recv().ok())
    }

    /// Takes all orders that are there.
    pub(super) fn take_all(&mut self) -> Vec<Order> {
        self.queue.extend(self.receiver.try_iter());
        self.queue.drain(..).collect()
    }

    /// Waits for the next order. Returns `None` if nobody is left who could give one.
    pub(super) fn wait(&mut self) -> Option<Order> {
        self.queue.pop_front().or_else(|| self.receiver.recv().ok())
    }

    /// Waits until it is time to try again what failed: for `time` at most, or until someone says Resume or Stop. A
    /// Resume is used up by that; other orders stay in the queue.
    pub(super) fn wait_to_retry(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            match self.receiver.recv_deadline(end) {
                Ok(order) if order.command == Command::Resume => return,
                Ok(order) => {
                    let stop = order.command == Command::Stop;
                    self.queue.push_back(order);
                    if stop {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(end.saturating_duration_since(Instant::now()));
                    return;
                }
            }
        }
    }

    /// Returns whether a Stop has arrived that is not carried out yet. Other orders stay in the queue.
    pub(super) fn stop_asked(&mut self) -> bool {
        self.queue.extend(self.receiver.try_iter());
        self.stop_queued()
    }

    /// Returns whether a Stop was carried out, or is known to wait for it; doesn't look into the channel.
    pub(super) fn stop_known(&self) -> bool {
        self.stopping || self.stop_queued()
    }

    fn stop_queued(&self) -> bool {
        self.queue.iter().any(|order| order.command == Command::Stop)
    }

    /// Notes that the run is to end after the current step.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Returns whether the run is to end after the current step.
    pub(super) fn stopping(&self) -> bool {
        self.stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Sender, unbounded};

    fn orders(commands: &[Command]) -> (Sender<Order>, Orders) {
        let (sender, receiver) = unbounded();
        for &command in commands {
            sender.send(Order::new(command, "the test")).expect("the receiver is there");
        }
        (sender, Orders::new(receiver))
    }

    fn commands(orders: Vec<Order>) -> Vec<Command> {
        orders.into_iter().map(|order| order.command).collect()
    }

    #[test]
    fn asking_for_a_stop_keeps_the_order_of_orders() {
        let (_sender, mut orders) = orders(&[Command::Pause, Command::Checkpoint, Command::Stop]);
        assert!(!orders.stop_known(), "it is still in the channel");
        assert!(orders.stop_asked() && orders.stop_asked() && orders.stop_known());
        assert!(!orders.stopping(), "it is asked for, not carried out");
        let first = orders.take().expect("a pause").command;
        assert_eq!(first, Command::Pause);
        assert_eq!(orders.wait().expect("a checkpoint").command, Command::Checkpoint);
        assert_eq!(commands(orders.take_all()), [Command::Stop]);
        assert_eq!(orders.take(), None);
    }

    #[test]
    fn a_resume_ends_a_wait_and_is_used_up() {
        let all = [Command::Checkpoint, Command::Resume, Command::Pause];
        let (_sender, mut orders) = orders(&all);
        orders.wait_to_retry(Duration::from_mins(10));
        assert_eq!(commands(orders.take_all()), [Command::Checkpoint, Command::Pause]);
    }

    #[test]
    fn a_stop_ends_a_wait_and_stays() {
        let (_sender, mut orders) = orders(&[Command::Stop]);
        orders.wait_to_retry(Duration::from_mins(10));
        assert!(orders.stop_known());
        assert_eq!(commands(orders.take_all()), [Command::Stop]);
    }

    #[test]
    fn nobody_to_wait_for_is_no_order() {
        let (sender, mut orders) = orders(&[Command::Pause]);
        drop(sender);
        assert_eq!(orders.wait().expect("sent before").command, Command::Pause);
        assert_eq!(orders.wait(), None);
        let start = Instant::now();
        orders.wait_to_retry(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20), "a lonely run waits all the same");
    }
}
