//! Text of foreign origin as people see it.
//!
//! Names of files and classes, hosts, notes, values of configurations and names of tensors come from anywhere. A
//! terminal obeys the control characters in them, and a line feed makes one line of ours two. Here they become escapes.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Whether a terminal may do something else than draw this character: control characters (C0, DEL and C1), line
/// separators, and the marks that turn the direction of writing.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns a text as one line that a terminal only draws: what it would obey is shown as an escape, like `\x1b`.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    text.chars().for_each(|c| push(&mut shown, c));
    Cow::Owned(shown)
}

/// Returns a text of JSON with the same meaning that a terminal only draws. Outside of strings JSON has none of these
/// characters, and in strings its own escapes stand for them.
pub fn json(text: String) -> String {
    if !text.contains(is_hostile) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_hostile(c) {
            let _ = write!(shown, "\\u{:04x}", u32::from(c)); // writing to a string can't fail
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A path as people see it, with escapes for what is no UTF-8 and for what a terminal would obey.
#[derive(Debug, Clone, Copy)]
pub struct ShownPath<'a>(&'a Path);

/// Returns a path as people see it.
pub fn path(path: &Path) -> ShownPath<'_> {
    ShownPath(path)
}

/// Returns a path as text for programs: as it is, with escapes only for bytes that are no UTF-8.
pub fn text(path: &Path) -> String {
    path.to_str().map_or_else(|| self::path(path).to_string(), str::to_owned)
}

impl Display for ShownPath<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            chunk.valid().chars().for_each(|c| push(&mut shown, c));
            for byte in chunk.invalid() {
                write!(shown, "\\x{byte:02x}")?;
            }
        }
        out.pad(&shown)
    }
}

fn push(shown: &mut String, c: char) {
    let written = match c {
        '\n' => write!(shown, "\\n"),
        '\r' => write!(shown, "\\r"),
        '\t' => write!(shown, "\\t"),
        '\0'..='\x1f' | '\x7f' => write!(shown, "\\x{:02x}", u32::from(c)),
        c if is_hostile(c) => write!(shown, "\\u{{{:x}}}", u32::from(c)),
        c => {
            shown.push(c);
            Ok(())
        }
    };
    let _ = written; // writing to a string can't fail
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    /// Characters that terminals obey, with their escapes for people and in JSON.
    const HOSTILE: [(char, &str, &str); 12] = [
        ('\n', "\\n", "\\u000a"),
        ('\r', "\\r", "\\u000d"),
        ('\t', "\\t", "\\u0009"),
        ('\0', "\\x00", "\\u0000"),
        ('\x1b', "\\x1b", "\\u001b"),
        ('\x7f', "\\x7f", "\\u007f"),
        ('\u{9b}', "\\u{9b}", "\\u009b"),
        ('\u{85}', "\\u{85}", "\\u0085"),
        ('\u{202e}', "\\u{202e}", "\\u202e"),
        ('\u{2066}', "\\u{2066}", "\\u2066"),
        ('\u{2069}', "\\u{2069}", "\\u2069"),
        ('\u{2028}', "\\u{2028}", "\\u2028"),
    ];

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_an_escape() {
        for (c, shown, escaped) in HOSTILE {
            assert_eq!(line(&format!("a{c}b")), format!("a{shown}b"));
            assert_eq!(json(format!("\"a{c}b\"")), format!("\"a{escaped}b\""));
            assert_eq!(line(shown), shown, "a shown text is shown as it is");
        }
        let harmless = "größe 写真 ± ✓ 'x' \\ é\u{301} שלום";
        assert!(matches!(line(harmless), Cow::Borrowed(text) if text == harmless));
    }

    #[test]
    fn bytes_that_are_no_utf8_are_shown_as_escapes() {
        let at = Path::new(OsStr::from_bytes(b"/tmp/caf\xe9/\x1b[31m\xe2\x82/ok\xc3\xa9"));
        assert_eq!(path(at).to_string(), "/tmp/caf\\xe9/\\x1b[31m\\xe2\\x82/oké");
        assert_eq!(text(Path::new("a\nb")), "a\nb", "programs get it as it is");
        assert_eq!(text(Path::new(OsStr::from_bytes(b"caf\xe9"))), "caf\\xe9");
        assert_eq!(format!("{:>4}", path(Path::new("a"))), "   a", "it can be padded");
    }
}
