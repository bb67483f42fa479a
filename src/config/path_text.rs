//! Paths as text, whatever bytes they have: TOML and `--set` hold text, and the names on old disks needn't be UTF-8.
//!
//! A path that is UTF-8 is its own text. Any other is `file:` with `%XX` for each byte that isn't plain, as in a URL.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

const PREFIX: &str = "file:";

/// Returns the text of a path, from which [`from_text`] makes the same path.
pub(crate) fn to_text(path: &Path) -> String {
    match path.to_str() {
        // A path that looks like an encoded one is encoded, too.
        Some(text) if !text.starts_with(PREFIX) => text.to_owned(),
        _ => path.as_os_str().as_bytes().iter().fold(PREFIX.to_owned(), |mut text, &byte| {
            if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}"); // a String takes every text
            }
            text
        }),
    }
}

/// Returns the path of a text. What isn't an encoded path is taken as it is.
pub(crate) fn from_text(text: &str) -> PathBuf {
    let Some(encoded) = text.strip_prefix(PREFIX) else { return PathBuf::from(text) };
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code =
            code.filter(|_| first == b'%').and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// For `#[serde(with = …)]` of an optional path.
pub(super) mod optional {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::path::PathBuf;

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, out: S) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => out.serialize_some(&super::to_text(path)),
            None => out.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        Ok(text.map(|text| super::from_text(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_comes_back_from_its_text() {
        let paths: [&[u8]; 7] =
            [b"/a b/c", b"caf\xe9", b"/x/\xff%20\n", b"file:x", "café".as_bytes(), b"%41", b""];
        for bytes in paths {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(from_text(&to_text(path)), path, "{}", to_text(path));
        }
        assert_eq!(to_text(Path::new(OsStr::from_bytes(b"/tmp/caf\xe9"))), "file:/tmp/caf%E9");
        assert_eq!(to_text(Path::new("/tmp/café")), "/tmp/café");
        assert_eq!(from_text("file:/a%2"), Path::new("/a%2"));
    }
}
