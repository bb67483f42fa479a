//! Watching and steering a run over its socket, against a run without a trainer.

mod abuse;
mod fake;
mod following;
mod orders;
mod sockets;
