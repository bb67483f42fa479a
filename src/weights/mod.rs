//! What weights are on disk, and how to read and write them.
//!
//! ```text
//! RUN|CKPT ─ locate ─▶ Location ─ checkpoint ─▶ FoundCheckpoint, to continue training from
//!                  └─▶ Weights (the best checkpoint, read for its weights) ─▶ Pretrained, an engine, an export
//! FILE ─ foreign ─▶ FittedWeights: weights of other programs, for step 0 of a run
//! ```
//! [`checkpoint`] is the file format, with saving, finding and pruning. [`best`] decides which checkpoint of a run is
//! its best. Nothing here prints: errors and warnings go back to the command that asked.

pub(crate) mod best;
pub mod checkpoint;
pub(crate) mod foreign;
pub(crate) mod locate;
pub(crate) mod pretrained;
