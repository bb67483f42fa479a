//! Cases from other people's trouble: one table for each area, one line for each case.

mod advice;
