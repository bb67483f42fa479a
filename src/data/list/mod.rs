//! Reads images that a list names: a text file with a path in each line, or a table with a header.

mod parse;
#[cfg(test)]
mod tests;

use super::encoded::{Decoding, EncodedImages};
use super::parquet::{NO_LABEL, sorted};
use super::parts::{self, Role};
use super::{DataError, Opened, Part, decode};
use crate::config::TruncatedImages;
use crate::shown;
use parse::Listed;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// Endings of lists.
const ENDINGS: [&str; 5] = ["txt", "lst", "list", "csv", "tsv"];
/// The file beside a list that names its classes, one a line.
const NAMES: &str = "classes.txt";
/// Bytes that tell text from other files.
const GLANCE: u64 = 1 << 16;
/// How long the files of a list are looked for, and how many between two looks at the clock.
const SEARCH: Duration = Duration::from_millis(500);
const BLOCK: usize = 4096;

/// Returns whether a file is a list by its name.
pub(super) fn is_file_of(path: &Path) -> bool {
    let known = |ending: &OsStr| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    path.extension().is_some_and(known) && path.is_file()
}

/// Opens a list. Paths are relative to its folder. A column `split` divides it into parts. Classes are names, or numbers
/// that the lines of a `classes.txt` beside the list name.
///
/// # Errors
/// Returns an error if the list can't be read, is no text, has a line that can't be understood or no path at all, or if
/// none of its files is there.
pub(crate) fn open(path: &Path, truncated: TruncatedImages) -> Result<Opened, DataError> {
    let content = |problem| DataError::Content { path: path.to_owned(), problem };
    let text = read(path)?;
    let mut paths = ListedPaths::new(path);
    let mut notes: Vec<String> = parse::parse(path, &text, |listed| paths.push(&listed))
        .map_err(content)?
        .into_iter()
        .collect();
    drop(text);
    if paths.folders_of.is_empty() {
        return Err(DataError::empty(
            path,
            "paths of images, one a line, or a table with a column path",
        ));
    }
    paths.finish();
    let classes = paths.take_classes(path)?;
    notes.extend(paths.repeated());
    notes.extend(paths.missing().map_err(content)?);
    let splits = paths.splits(&mut notes);
    let paths = Arc::new(paths);
    let part = |indices: Option<Vec<u32>>| {
        let images = ListedImages { paths: Arc::clone(&paths), indices };
        Part { source: Arc::new(Decoding::new(images, truncated)), classes: classes.clone() }
    };
    let (train, val) = match splits {
        None => (part(None), None),
        Some((train, val)) => (part(Some(train)), val.map(|val| part(Some(val)))),
    };
    Ok(Opened { train, val, kind: "images of a list", decodes: true, notes })
}

/// Reads a text file.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let io = |error| DataError::io(path, error);
    let content = |problem: &str| {
        Err(DataError::Content { path: path.to_owned(), problem: problem.to_owned() })
    };
    let mut file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        return content("a list of images is a file, this is a folder");
    }
    let mut text = Vec::new();
    file.by_ref().take(GLANCE).read_to_end(&mut text).map_err(io)?;
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return content("it is text in UTF-16: save it as UTF-8");
    }
    if text.contains(&0) {
        return content("it is no text, so no list of images");
    }
    file.read_to_end(&mut text).map_err(io)?;
    Ok(text)
}

/// The paths and classes of a list. Folders are kept once, so that an image takes little more than its name.
struct ListedPaths {
    list: PathBuf,
    /// What paths begin with, up to the last slash.
    folders: Vec<Box<[u8]>>,
    /// The folder of each image.
    folders_of: Vec<u32>,
    /// All names of images, one behind the other, and where each of them ends.
    names: Vec<u8>,
    ends: Vec<u64>,
    /// The class of each image, or [`NO_LABEL`].
    labels: Vec<u32>,
    /// The part of each image as an index into `split_names`. Empty if the list doesn't say.
    splits: Vec<u32>,
    split_names: Vec<Box<[u8]>>,
    seen: Numbering,
}

/// What has been numbered while the list was read.
#[derive(Default)]
struct Numbering {
    folders: HashMap<Box<[u8]>, u32>,
    classes: HashMap<Box<[u8]>, u32>,
    class_names: Vec<Box<[u8]>>,
    splits: HashMap<Box<[u8]>, u32>,
}

/// Returns the number of some bytes, a new one if they are new.
fn number(known: &mut HashMap<Box<[u8]>, u32>, names: &mut Vec<Box<[u8]>>, bytes: &[u8]) -> u32 {
    if let Some(number) = known.get(bytes) {
        return *number;
    }
    let number = u32::try_from(names.len()).unwrap_or(NO_LABEL);
    known.insert(bytes.into(), number);
    names.push(bytes.into());
    number
}

impl ListedPaths {
    fn new(list: &Path) -> Self {
        Self {
            list: list.to_owned(),
            folders: Vec::new(),
            folders_of: Vec::new(),
            names: Vec::new(),
            ends: Vec::new(),
            labels: Vec::new(),
            splits: Vec::new(),
            split_names: Vec::new(),
            seen: Numbering::default(),
        }
    }

    fn push(&mut self, listed: &Listed<'_>) {
        let slash = listed.path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (folder, name) = listed.path.split_at(slash);
        self.folders_of.push(number(&mut self.seen.folders, &mut self.folders, folder));
        self.names.extend_from_slice(name);
        self.ends.push(self.names.len() as u64);
        self.labels.push(if listed.class.is_empty() {
            NO_LABEL
        } else {
            number(&mut self.seen.classes, &mut self.seen.class_names, listed.class)
        });
        self.splits.push(number(&mut self.seen.splits, &mut self.split_names, listed.split));
    }

    /// Gives back the memory that only reading took.
    fn finish(&mut self) {
        if self.split_names.len() == 1 {
            self.splits = Vec::new();
        }
        self.seen.folders = HashMap::new();
        self.seen.splits = HashMap::new();
        self.seen.classes = HashMap::new();
        self.folders_of.shrink_to_fit();
        self.names.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.labels.shrink_to_fit();
        self.splits.shrink_to_fit();
    }

    /// Returns the names of the classes, and makes the labels indices into them.
    fn take_classes(&mut self, list: &Path) -> Result<Vec<String>, DataError> {
        let names = std::mem::take(&mut self.seen.class_names);
        let shown = names.iter().map(|name| shown::text(Path::new(OsStr::from_bytes(name))));
        let found: Vec<String> = shown.collect();
        let file = list.with_file_name(NAMES);
        let given = if file == list { None } else { std::fs::read_to_string(&file).ok() };
        let given: Option<Vec<String>> = given.map(|text| {
            let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
            lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
        });
        let given = given.filter(|names: &Vec<String>| {
            names.iter().collect::<BTreeSet<_>>().len() == names.len()
        });
        let numbers: Option<Vec<i64>> = found.iter().map(|name| name.parse().ok()).collect();
        let numbers = numbers.filter(|numbers| !numbers.is_empty());
        let (classes, map): (Vec<String>, Vec<u32>) = match (numbers, given) {
            (Some(numbers), Some(names)) => {
                let highest = numbers.iter().copied().max().unwrap_or(0);
                if usize::try_from(highest).is_ok_and(|highest| highest >= names.len()) {
                    let list = shown::path(list);
                    let problem = format!(
                        "it names {} classes, and {list} has the class {highest}",
                        names.len()
                    );
                    return Err(DataError::Content { path: file, problem });
                }
                let label = |number: &i64| u32::try_from(*number).unwrap_or(NO_LABEL);
                let map = numbers.iter().map(label).collect();
                (names, map)
            }
            (numbers, given) => {
                // A number below 0 says that there is no class.
                let is_class = |at: usize| numbers.as_ref().is_none_or(|numbers| numbers[at] >= 0);
                let there = found.iter().enumerate().filter(|(at, _)| is_class(*at));
                let there = sorted(there.map(|(_, name)| name.clone()));
                let all = given.filter(|given| there.iter().all(|name| given.contains(name)));
                let classes = all.filter(|_| !there.is_empty()).unwrap_or(there);
                let place: HashMap<&str, u32> =
                    classes.iter().map(String::as_str).zip(0..).collect();
                let label = |name: &String| place.get(name.as_str()).copied().unwrap_or(NO_LABEL);
                let map = found.iter().map(label).collect();
                (classes, map)
            }
        };
        for label in &mut self.labels {
            *label = map.get(*label as usize).copied().unwrap_or(NO_LABEL);
        }
        Ok(classes)
    }

    /// Returns the images of the two parts if the list has parts.
    fn splits(&mut self, notes: &mut Vec<String>) -> Option<(Vec<u32>, Option<Vec<u32>>)> {
        let splits = std::mem::take(&mut self.splits);
        if splits.is_empty() {
            return None;
        }
        let names = self.split_names.iter().map(|name| String::from_utf8_lossy(name).into_owned());
        let names: Vec<String> = names.collect();
        let roles: Vec<Option<Role>> =
            names.iter().map(|name| parts::role(Path::new(name)).map(Role::merged)).collect();
        if roles.iter().all(Option::is_none) {
            notes.push(format!(
                "the parts in the list aren't used: none is called train, val or test, but {}",
                names.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
            ));
            return None;
        }
        let assigned = parts::assign(&roles.iter().copied().collect());
        let of = |wanted: Option<Role>| -> Vec<u32> {
            let fits = |split: &u32| roles[*split as usize] == wanted;
            (0..).zip(&splits).filter(|(_, split)| fits(split)).map(|(index, _)| index).collect()
        };
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for split in &splits {
            let role = roles[*split as usize];
            if role != assigned.train && (role.is_none() || role != assigned.val) {
                let name = names[*split as usize].as_str();
                *left.entry(if name.is_empty() { "no part" } else { name }).or_default() += 1;
            }
        }
        let left: Vec<String> =
            left.iter().map(|(name, count)| format!("{count} of {name}")).collect();
        notes.extend(
            (!left.is_empty()).then(|| format!("left out, by their part: {}", left.join(", "))),
        );
        Some((of(assigned.train), assigned.val.map(|val| of(Some(val)))))
    }

    /// Counts the lines that repeat a path.
    fn repeated(&self) -> Option<String> {
        let count = self.folders_of.len();
        let mut hashes: Vec<u64> =
            (0..count).into_par_iter().map(|index| xxh3_64(&self.written(index))).collect();
        hashes.par_sort_unstable();
        hashes.dedup();
        let repeated = count - hashes.len();
        let lines = if repeated == 1 {
            "1 line repeats a path".to_owned()
        } else {
            format!("{repeated} lines repeat paths")
        };
        (repeated > 0).then(|| format!("{lines}: an image counts as often as it is listed"))
    }

    /// Counts the files that aren't there, as far as can be told in half a second.
    fn missing(&self) -> Result<Vec<String>, String> {
        let (started, total) = (Instant::now(), self.folders_of.len());
        let (mut looked, mut missing, mut folders) = (0, Vec::new(), Vec::new());
        while looked < total && started.elapsed() < SEARCH {
            let block = looked..total.min(looked + BLOCK);
            looked = block.end;
            let found: Vec<(usize, bool)> = block
                .into_par_iter()
                .filter_map(|index| match std::fs::metadata(self.path(index)) {
                    Ok(file) if file.is_dir() => Some((index, true)),
                    Ok(_) => None,
                    Err(_) => Some((index, false)),
                })
                .collect();
            for (index, folder) in found {
                if folder { folders.push(index) } else { missing.push(index) }
            }
        }
        let example = |found: &[usize]| found.first().map(|index| shown::text(&self.path(*index)));
        let of = if looked < total { format!("the first {looked}") } else { total.to_string() };
        if missing.len() == total {
            return Err(format!(
                "none of the {total} files that it lists is there, for example {}: paths are relative to the folder of the \
                 list",
                example(&missing).unwrap_or_default()
            ));
        }
        let note = |found: &[usize], one: &str, more: &str| {
            let what = if found.len() == 1 {
                format!("is {one} and counts")
            } else {
                format!("are {more} and count")
            };
            let count = found.len();
            example(found).map(|example| {
                format!("{count} of {of} listed files {what} as unreadable, for example {example}")
            })
        };
        let notes =
            [note(&missing, "not there", "not there"), note(&folders, "a folder", "folders")];
        Ok(notes.into_iter().flatten().collect())
    }

    /// Returns the path of an image as the list has it.
    fn written(&self, index: usize) -> Vec<u8> {
        let start =
            index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        let folder =
            self.folders_of.get(index).and_then(|folder| self.folders.get(*folder as usize));
        let name = &self.names[start as usize..end as usize];
        [folder.map(|folder| &folder[..]).unwrap_or_default(), name].concat()
    }

    fn path(&self, index: usize) -> PathBuf {
        let folder = self.list.parent().unwrap_or(Path::new(""));
        folder.join(OsStr::from_bytes(&self.written(index)))
    }
}

/// The images of a list, or those of one part of it.
struct ListedImages {
    paths: Arc<ListedPaths>,
    /// Indices into the list.
    indices: Option<Vec<u32>>,
}

impl ListedImages {
    /// Returns the index in the list.
    fn whole(&self, index: usize) -> usize {
        match &self.indices {
            None => index,
            Some(indices) => indices.get(index).map_or(usize::MAX, |index| *index as usize),
        }
    }
}

impl EncodedImages for ListedImages {
    fn len(&self) -> usize {
        self.indices.as_ref().map_or(self.paths.folders_of.len(), Vec::len)
    }

    fn name(&self, index: usize) -> String {
        shown::text(&self.paths.path(self.whole(index)))
    }

    fn label(&self, index: usize) -> Option<u32> {
        let label = self.paths.labels.get(self.whole(index)).copied();
        label.filter(|label| *label != NO_LABEL)
    }

    fn key(&self, index: usize) -> String {
        String::from_utf8_lossy(&self.paths.written(self.whole(index))).into_owned()
    }

    fn bytes(&self, index: usize) -> u64 {
        let file = std::fs::metadata(self.paths.path(self.whole(index)));
        file.map_or(0, |file| file.len())
    }

    fn origin(&self) -> String {
        shown::text(&self.paths.list)
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, String> {
        decode::read_file(&self.paths.path(self.whole(index)))
    }
}
