//! Text that people paste at a shell's prompt.

use crate::shown;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Returns a path as it can be typed or pasted at a prompt: in quotes unless all its characters are harmless. Bytes
/// that a terminal can't show or would obey become escapes in `$'…'`, which bash, zsh and ksh read.
pub fn for_shell(path: &Path) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    match path.to_str() {
        Some(text) if text.chars().all(plain) => text.to_owned(),
        Some(text) if !text.contains(shown::is_hostile) => {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
        _ => escaped(path),
    }
}

fn escaped(path: &Path) -> String {
    let mut quoted = "$'".to_owned();
    let byte = |quoted: &mut String, byte: u8| {
        let _ = write!(quoted, "\\{byte:03o}"); // writing to a string can't fail
    };
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => quoted.extend(['\\', c]),
                c if shown::is_hostile(c) => {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| byte(&mut quoted, b));
                }
                c => quoted.push(c),
            }
        }
        chunk.invalid().iter().for_each(|&b| byte(&mut quoted, b));
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn only_paths_that_a_shell_would_read_otherwise_are_quoted() {
        let quoted = |text: &str| for_shell(Path::new(text));
        assert_eq!(quoted("runs/default-001"), "runs/default-001");
        assert_eq!(quoted("my runs/$x"), "'my runs/$x'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn bytes_that_cannot_be_shown_are_written_as_a_shell_reads_them() {
        let quoted = |bytes: &[u8]| for_shell(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(quoted(b"caf\xe9"), r"$'caf\351'");
        assert_eq!(quoted(b"a\n\x1b'\\\xc2\x9b1"), r"$'a\012\033\'\\\302\2331'");
    }
}
