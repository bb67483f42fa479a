//! What weights are on disk: checkpoints, the best one, the weights of others, and what `RUN|CKPT` means.

pub mod best;
pub mod checkpoint;
pub mod foreign;
pub mod locate;
pub mod pretrained;
