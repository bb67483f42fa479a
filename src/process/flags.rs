//! What a front end learns from signal handlers and from the watch over the terminal, which run on other threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Flags that other threads set and front ends read.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// A signal or a hangup asked for the end: nobody sits at the keyboard to leave the screen.
    pub unattended: Arc<AtomicBool>,
    /// The terminal is gone.
    pub hung_up: Arc<AtomicBool>,
    /// The process was stopped (Ctrl-Z) and has been continued.
    pub woken: Arc<AtomicBool>,
    /// A screen is up, which has to give the terminal back before the process leaves it.
    pub screen: Arc<AtomicBool>,
}
