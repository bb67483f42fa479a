//! The settings of Burn. They come from this program and from Burn's environment variables alone.
//!
//! Left to itself, Burn obeys a `burn.toml` in the working directory or in any directory above it, and CubeCL a
//! `cubecl.toml`. Such a file can name a log file, which is then overwritten, and on a shared machine anybody can put one
//! into `/tmp`. A file that is not valid TOML makes the library panic.

use burn_std::config::{BurnConfig, RuntimeConfig as _};
use std::sync::Once;

/// Fixes Burn's settings before Burn looks for a file. The first call must come before anything is computed; further
/// calls change nothing.
pub fn fix_library_settings() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| BurnConfig::set(BurnConfig::default().override_from_env()));
}
