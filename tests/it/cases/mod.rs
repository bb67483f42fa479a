//! What people have on disk and what they bring along: one table for each area, one line for each case.

/// Weights of other programs, and files that are not what they say.
mod weights;
