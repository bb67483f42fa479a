//! What signals and the terminal tell a front end, from other threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Flags that signal handlers and the watch over the terminal set, and front ends read.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// A signal asked for the end: whoever sent it doesn't sit at the keyboard.
    pub unattended: Arc<AtomicBool>,
    /// The terminal is gone.
    pub hung_up: Arc<AtomicBool>,
    /// The process was stopped and goes on.
    pub woken: Arc<AtomicBool>,
    /// There is a screen that has to leave the terminal first.
    pub screen: Arc<AtomicBool>,
}
