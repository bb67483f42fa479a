//! Taking over a file descriptor that the parent process handed down.
#![allow(unsafe_code, reason = "a number from the parent becomes a file descriptor")]

use rustix::fs::FileType;
use rustix::io::{FdFlags, fcntl_setfd};
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Returns the pipe with this number, if it is one. Children of this process don't inherit it.
pub fn pipe(number: RawFd) -> Option<OwnedFd> {
    // The standard streams have owners already.
    if number <= 2 {
        return None;
    }
    // SAFETY: borrowed for two calls that fail with EBADF where there is no such file.
    let known = unsafe { BorrowedFd::borrow_raw(number) };
    let file = rustix::fs::fstat(known).ok()?;
    if FileType::from_raw_mode(file.st_mode) != FileType::Fifo {
        return None;
    }
    fcntl_setfd(known, FdFlags::CLOEXEC).ok()?;
    // SAFETY: the launcher left it open for this process alone, and this function is called once, at the start.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
