//! Quoting for CSV files.

use std::borrow::Cow;

/// Returns a text as a CSV field (RFC 4180), quoted if it has to be.
pub fn field(text: &str) -> Cow<'_, str> {
    if text.contains(['"', ',', '\n', '\r']) {
        return Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")));
    }
    Cow::Borrowed(text)
}
