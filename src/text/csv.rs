//! What CSV asks for beside commas.

use std::borrow::Cow;

/// A text as a CSV field (RFC 4180).
pub fn field(text: &str) -> Cow<'_, str> {
    if text.contains(['"', ',', '\n', '\r']) {
        return Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")));
    }
    Cow::Borrowed(text)
}
