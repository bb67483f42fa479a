//! Text that people paste at a shell's prompt.

use std::path::Path;

/// Returns a path as it can be typed or pasted at a prompt: in quotes unless all its characters are harmless.
pub fn for_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_a_shell_would_read_otherwise_are_quoted() {
        let quoted = |text: &str| for_shell(Path::new(text));
        assert_eq!(quoted("runs/default-001"), "runs/default-001");
        assert_eq!(quoted("my runs/$x"), "'my runs/$x'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
