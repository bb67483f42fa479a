//! What people have on disk and what they bring along: one table for each area, one line for each case.

/// Advice that works, and what a resume and an evaluation know of their data.
mod advice;
/// Foreign text, output that can't be written, exit codes, and what a machine has.
mod bounds;
/// Images in columns: Parquet files and lists.
mod columns;
/// Data sets as they come: folders of every spelling, files of every kind, broken ones among them.
mod data;
/// The list of a large folder is kept, and is never wrong.
mod lists;
/// Tar shards: what `plan` says of them, and that a run on them is the run on their images.
mod shards;
/// Weights of other programs, and files that are not what they say.
mod weights;
