//! Watches and steers a run from other processes.
//!
//! The process that trains serves `RUN/control.sock` ([`server`]). Other processes reach it through a [`client`], or
//! through a [`follow::Follower`], which also reads the log and so works without the process too. [`protocol`] defines
//! the messages; [`order`] gives one order and waits for its effect.

pub mod client;
pub mod follow;
mod lines;
pub mod order;
pub mod progress;
pub mod protocol;
pub mod server;
pub(crate) mod socket;

/// What a viewer knows about the process behind a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The viewer is connected: events arrive as they happen, and the process takes orders.
    Steerable,
    /// The process is running but takes no orders from this viewer. Events come from its log. The text says why.
    WatchOnly(String),
    /// The connection broke, and the viewer tries to connect again.
    Lost,
    /// The process is gone without having logged an end, as after a kill or a power cut. The text says what is known.
    Gone(String),
    /// The process has ended in order, or has failed and logged why.
    Over,
}
