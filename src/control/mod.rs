//! Watching and steering a run from other processes.
//!
//! The process that trains serves `RUN/control.sock` ([`server`]); others reach it through a [`client`], or through a
//! [`follow::Follower`], which also reads the log and outlives the process. [`protocol`] is what they say, [`ctl`] one
//! order and its effect.

pub mod client;
pub mod follow;
pub mod lines;
pub mod order;
pub mod protocol;
pub mod server;
pub mod socket;

/// What a viewer knows of the process behind a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Connected: events come as they happen and orders are taken.
    Steerable,
    /// It lives but takes no orders from here, for this reason; events come from its log.
    WatchOnly(String),
    /// The connection broke and is tried again.
    Lost,
    /// It is gone without having said so, as after a kill or a power cut; with what is known about it.
    Dead(String),
    /// It ended in order, or failed and said so.
    Over,
}
