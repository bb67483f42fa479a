//! Patterns in braces for many paths, as shells and `WebDataset` write them: `train-{000000..000146}.tar`, `{a,b}.tar`.

use super::DataError;
use crate::shown;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The most paths that a pattern may stand for.
const MOST: usize = 1 << 20;
/// Files that a message names.
const NAMED: usize = 5;

/// Returns the paths that a pattern stands for, in its order and each once, or `None` if the path is no pattern.
///
/// # Errors
/// Returns an error if a pattern stands for too many paths.
pub(super) fn expand(path: &Path) -> Result<Option<Vec<PathBuf>>, DataError> {
    let pattern = path.as_os_str().as_bytes();
    if first_group(pattern).is_none() {
        return Ok(None);
    }
    let mut seen = std::collections::HashSet::new();
    let Some(mut all) = all(pattern) else {
        let problem = format!("the pattern stands for more than {MOST} shards");
        return Err(DataError::Content { path: path.to_owned(), problem });
    };
    all.retain(|bytes| seen.insert(bytes.clone()));
    Ok(Some(all.into_iter().map(|bytes| PathBuf::from(OsString::from_vec(bytes))).collect()))
}

/// Checks that there is something at each path that a pattern stands for.
///
/// # Errors
/// Returns an error that names what is missing.
pub(super) fn check_there(pattern: &Path, paths: &[PathBuf]) -> Result<(), DataError> {
    let mut missing = Vec::new();
    for path in paths {
        match std::fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                missing.push(path.clone());
            }
            Err(error) => return Err(DataError::io(path, error)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(DataError::MissingShards {
        pattern: pattern.to_owned(),
        missing: missing.len(),
        all: paths.len(),
        names: named(&missing),
    })
}

/// Names some of these files, and counts the others.
pub(super) fn named(paths: &[PathBuf]) -> String {
    let mut names: Vec<String> =
        paths.iter().take(NAMED).map(|path| shown::path(path).to_string()).collect();
    if paths.len() > NAMED {
        names.push(format!("{} more", paths.len() - NAMED));
    }
    names.join(", ")
}

/// Returns the folder above the first component with braces of a pattern.
pub(super) fn folder_above(path: &Path) -> PathBuf {
    let plain =
        |part: &std::path::Component<'_>| first_group(part.as_os_str().as_bytes()).is_none();
    let mut above: PathBuf = path.components().take_while(plain).collect();
    // A list may hold slashes, so that no component alone is a pattern.
    while first_group(path.as_os_str().as_bytes())
        .is_some_and(|(open, ..)| above.as_os_str().len() > open)
    {
        above.pop();
    }
    above
}

/// Returns all texts that a pattern stands for, or `None` if there are too many.
fn all(pattern: &[u8]) -> Option<Vec<Vec<u8>>> {
    let Some((open, close, choices)) = first_group(pattern) else {
        return Some(vec![pattern.to_vec()]);
    };
    let choices = match choices {
        Choices::List(parts) => {
            let mut list = Vec::new();
            for part in parts {
                list.extend(all(part)?);
            }
            list
        }
        Choices::Range(range) => range.texts()?,
    };
    let rest = all(&pattern[close + 1..])?;
    if choices.len().saturating_mul(rest.len()) > MOST {
        return None;
    }
    let joined = |choice: &Vec<u8>| {
        let before = [&pattern[..open], choice].concat();
        rest.iter().map(move |rest| [before.as_slice(), rest].concat()).collect::<Vec<_>>()
    };
    Some(choices.iter().flat_map(joined).collect())
}

/// What stands between two braces.
enum Choices<'a> {
    List(Vec<&'a [u8]>),
    Range(Range),
}

/// Returns the first pair of braces that is a range or a list, with the positions of the braces. As in a shell, any other
/// brace is a character like others.
fn first_group(pattern: &[u8]) -> Option<(usize, usize, Choices<'_>)> {
    let mut opens = (0..pattern.len()).filter(|&at| pattern[at] == b'{');
    opens.find_map(|open| group_at(pattern, open))
}

fn group_at(pattern: &[u8], open: usize) -> Option<(usize, usize, Choices<'_>)> {
    let (mut depth, mut from, mut parts) = (0_usize, open + 1, Vec::new());
    for (at, &byte) in pattern.iter().enumerate().skip(open + 1) {
        match byte {
            b'{' => depth += 1,
            b',' if depth == 0 => {
                parts.push(&pattern[from..at]);
                from = at + 1;
            }
            b'}' if depth > 0 => depth -= 1,
            b'}' => {
                let last = &pattern[from..at];
                if parts.is_empty() {
                    return Some((open, at, Choices::Range(Range::parse(last)?)));
                }
                parts.push(last);
                return Some((open, at, Choices::List(parts)));
            }
            _ => {}
        }
    }
    None
}

/// `from..to` or `from..to..step`, of numbers or letters.
struct Range {
    from: i64,
    to: i64,
    step: u64,
    /// Least number of digits, with the sign; 0 for letters.
    width: usize,
}

impl Range {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let parts: Vec<&str> = text.split("..").collect();
        let (from, to, step) = match parts.as_slice() {
            [from, to] => (*from, *to, 1),
            [from, to, step] => (*from, *to, step.parse::<i64>().ok()?.unsigned_abs().max(1)),
            _ => return None,
        };
        if let ([from], [to]) = (from.as_bytes(), to.as_bytes())
            && from.is_ascii_alphabetic()
            && to.is_ascii_alphabetic()
        {
            return Some(Self { from: (*from).into(), to: (*to).into(), step, width: 0 });
        }
        let digits = |text: &str| text.trim_start_matches('-').to_owned();
        let padded = |text: &str| digits(text).len() > 1 && digits(text).starts_with('0');
        let width = if padded(from) || padded(to) { from.len().max(to.len()) } else { 1 };
        let number = |text: &str| text.parse::<i64>().ok().filter(|_| !text.starts_with('+'));
        Some(Self { from: number(from)?, to: number(to)?, step, width })
    }

    /// Returns the texts, or `None` if there are too many.
    fn texts(&self) -> Option<Vec<Vec<u8>>> {
        let count = usize::try_from(self.from.abs_diff(self.to) / self.step).ok()?;
        if count >= MOST {
            return None;
        }
        let text = |place: usize| {
            let moved = place as u64 * self.step;
            let number = if self.from <= self.to {
                self.from.saturating_add_unsigned(moved)
            } else {
                self.from.saturating_sub_unsigned(moved)
            };
            match self.width {
                0 => vec![number as u8], // a letter, as both ends are
                width => format!("{number:0width$}").into_bytes(),
            }
        };
        Some((0..=count).map(text).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str) -> Option<Vec<String>> {
        let paths = expand(Path::new(pattern)).unwrap()?;
        Some(paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn patterns_stand_for_what_a_shell_makes_of_them() {
        for (pattern, expected) in [
            ("t-{08..11}.tar", "t-08.tar t-09.tar t-10.tar t-11.tar"),
            ("t-{8..11}.tar", "t-8.tar t-9.tar t-10.tar t-11.tar"),
            ("{1..0}/{a,b}", "1/a 1/b 0/a 0/b"),
            ("/d/{x,y}/t-{00..1}", "/d/x/t-00 /d/x/t-01 /d/y/t-00 /d/y/t-01"),
            ("{a..c}{1..5..2}", "a1 a3 a5 b1 b3 b5 c1 c3 c5"),
            ("{a,b{0..1}}", "a b0 b1"),
            ("t{,-x}.tar", "t.tar t-x.tar"),
            ("{a,a,b}", "a b"),
            ("{x}{0..1}", "{x}0 {x}1"),
            ("{x{0..1}", "{x0 {x1"),
            ("{-01..1}", "-01 000 001"),
        ] {
            let found = of(pattern).unwrap_or_else(|| panic!("{pattern} is a pattern"));
            assert_eq!(found.join(" "), expected, "{pattern}");
        }
    }

    #[test]
    fn other_braces_are_characters_like_others() {
        for path in ["a.tar", "{a}.tar", "{}", "{0..}", "{..}", "}{", "{0...9}", "{a..10}", "{0..9"]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn endless_patterns_are_refused_at_once() {
        for pattern in ["{0..99999999999999}", "{0..9999}{0..9999}", "{-9223372036854775808..9}"] {
            let error = expand(Path::new(pattern)).unwrap_err().to_string();
            assert!(error.contains(pattern) && error.contains("more than"), "{error}");
        }
    }

    #[test]
    fn the_folder_above_a_pattern_has_no_braces() {
        for (pattern, folder) in [
            ("/d/s/t-{0..9}.tar", "/d/s"),
            ("/d/{a,b}/t-{0..9}.tar", "/d"),
            ("t-{0..9}.tar", ""),
            ("/d/{x/a,y/b}.tar", "/d"),
        ] {
            assert_eq!(folder_above(Path::new(pattern)), Path::new(folder), "{pattern}");
        }
    }
}
