//! The folder that shards are written into: who may write there, what is there already, and what is missing.

use super::settings::PackSettings;
use super::source::PackSource;
use super::state::{PackFault, PackPart, PackState, ShardRecord};
use crate::data::shard_writer::file_sum;
use crate::error::Error;
use crate::run_dir::{remove_temporaries, write_atomic};
use crate::shown;
use crate::text::bar::Bar;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What the folder is made of, and which shards are finished.
const STATE: &str = "pack.json";
/// The images that were left out, a line each.
const UNREADABLE: &str = "unreadable.txt";
const CLASSES: &str = "classes.txt";

/// An open folder of shards. No other process packs into it until this is dropped.
pub(super) struct PackFolder {
    pub root: PathBuf,
    pub state: PackState,
    begun: Begun,
    _lock: File,
}

/// What was in the folder at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    Fresh,
    Started,
    Finished,
}

/// Images that are still to be packed, by their positions in the order of packing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub part: PackPart,
    /// The number of the first shard.
    pub number: usize,
    pub positions: Range<usize>,
}

/// Checks that shards may be written into a folder, before any time is spent.
///
/// # Errors
/// Returns an error if it is a file, or if it holds something else.
pub(super) fn check(root: &Path, force: bool) -> Result<(), Error> {
    let usage = |text: &str| Err(Error::Usage(format!("{} {text}", shown::path(root))));
    if root.exists() && !root.is_dir() {
        return usage("is a file: -o takes a folder");
    }
    let occupied = fs::read_dir(root).is_ok_and(|entries| {
        entries.flatten().any(|entry| !entry.file_name().to_string_lossy().ends_with(".tmp"))
    });
    if occupied && !force && !root.join(STATE).is_file() {
        return usage(
            "is not empty and holds no pack.json: choose another folder, or write beside what is there with --force",
        );
    }
    Ok(())
}

impl PackFolder {
    /// Opens a folder for these images and settings, and makes it if it isn't there.
    ///
    /// # Errors
    /// Returns an error if the folder can't be written, if another process packs into it, or if it was begun with other
    /// images or settings.
    pub fn open(
        root: &Path,
        force: bool,
        settings: &PackSettings,
        source: &PackSource,
    ) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(|error| unwritten(root, &error))?;
        let lock = lock(root)?;
        let found = if force { None } else { read_state(&root.join(STATE))? };
        if let Some(found) = &found {
            let images = source.difference(&found.source).map(|text| format!("its images: {text}"));
            if let Some(text) = images.or_else(|| settings.difference(&found.settings)) {
                return Err(Error::Usage(format!(
                    "{} was begun otherwise ({text}): go on with the same images and settings, choose another folder, or \
                     begin anew with --force",
                    shown::path(root)
                )));
            }
        }
        let begun = match &found {
            None => Begun::Fresh,
            Some(state) if state.finished => Begun::Finished,
            Some(_) => Begun::Started,
        };
        let state = found.unwrap_or_else(|| PackState::new(settings, source));
        let folder = Self { root: root.to_owned(), state, begun, _lock: lock };
        remove_temporaries(root);
        if begun != Begun::Finished {
            folder.save()?;
            folder.remove_unknown();
        }
        Ok(folder)
    }

    pub fn begun(&self) -> Begun {
        self.begun
    }

    /// Removes shards that `pack.json` doesn't know of: a kill came before it was written, or they are of an earlier
    /// packing.
    fn remove_unknown(&self) {
        let known = |name: &str| self.state.all().any(|shard| shard.name == name);
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| is_shard_name(name) && !known(name)) {
                let _ = fs::remove_file(entry.path()); // if it is in the way, writing fails later
            }
        }
    }

    /// Returns the names of finished shards that aren't there as they were written. `wholly` says whether all bytes are
    /// looked at, or sizes alone.
    ///
    /// # Errors
    /// Returns an error if a shard can't be read.
    pub fn damaged(&self, wholly: bool) -> Result<Vec<String>, Error> {
        let count = self.state.all().count();
        let bar = wholly.then(|| Bar::new("checking shards", count));
        let mut damaged = Vec::new();
        for (done, shard) in self.state.all().enumerate() {
            let path = self.root.join(&shard.name);
            let sound = if wholly {
                file_sum(&path).map(|sum| shard.is(sum))
            } else {
                fs::metadata(&path).map(|found| found.len() == shard.bytes)
            };
            match sound {
                Ok(true) => {}
                Ok(false) => damaged.push(shard.name.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    damaged.push(shard.name.clone());
                }
                Err(error) => {
                    let text = format!("cannot read {}: {error}", shown::path(&path));
                    return Err(Error::Failed(text));
                }
            }
            if let Some(bar) = &bar {
                bar.set(done + 1);
            }
        }
        Ok(damaged)
    }

    /// Says what is kept of an earlier start.
    pub fn going_on(&self, damaged: &[String]) -> String {
        let kept = self.state.all().count() - damaged.len();
        let again = match damaged {
            [] => String::new(),
            [one] => format!(", {one} is missing or damaged and is written again"),
            [one, ..] => {
                let count = damaged.len();
                format!(", {count} are missing or damaged and are written again ({one}, …)")
            }
        };
        format!("going on in {}: {kept} shards are finished{again}", shown::path(&self.root))
    }

    /// Returns what is to be packed: damaged shards, then the rest of each part.
    pub fn segments(&self, damaged: &[String]) -> Vec<Segment> {
        let mut segments = Vec::new();
        for part in PackPart::ALL {
            let shards = self.state.shards(part);
            for (number, shard) in shards.iter().enumerate() {
                if damaged.contains(&shard.name) {
                    let positions = shard.first..shard.next;
                    segments.push(Segment { part, number, positions });
                }
            }
            let positions = self.state.done(part)..self.state.source.images(part);
            if !positions.is_empty() {
                segments.push(Segment { part, number: shards.len(), positions });
            }
        }
        segments
    }

    /// Writes the names of the classes, in the order of their numbers.
    ///
    /// # Errors
    /// Returns an error if the file can't be written.
    pub fn write_classes(&self, classes: &[String]) -> Result<(), Error> {
        let names = classes.iter().flat_map(|name| [shown::line(name), "\n".into()]);
        let text: String = names.collect();
        self.write_or_remove(CLASSES, &text)
    }

    /// Returns all images that were left out, or taken though something is wrong with them.
    pub fn faulty(&self) -> impl Iterator<Item = &PackFault> {
        self.state.all().flat_map(|shard| &shard.faulty)
    }

    /// Checks that a shard is what it was, if it had been finished before.
    ///
    /// # Errors
    /// Returns an error if it has other bytes now.
    pub fn check_again(
        &self,
        part: PackPart,
        number: usize,
        shard: &ShardRecord,
    ) -> Result<(), Error> {
        if self.state.shards(part).get(number).is_none_or(|before| before == shard) {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "{} would have other bytes than before: the images or the program have changed; begin anew with --force",
            shown::path(&self.root.join(&shard.name))
        )))
    }

    /// Takes in a finished shard.
    ///
    /// # Errors
    /// Returns an error if `pack.json` can't be written.
    pub fn add(&mut self, part: PackPart, number: usize, shard: ShardRecord) -> Result<(), Error> {
        let shards = self.state.shards_mut(part);
        if number < shards.len() {
            return Ok(()); // it was written again, and is the same
        }
        shards.push(shard);
        self.save()
    }

    /// Writes the report on images that were left out, and that all is done.
    ///
    /// # Errors
    /// Returns an error if a file can't be written.
    pub fn finish(&mut self) -> Result<(), Error> {
        let line = |fault: &PackFault| {
            let fate = if fault.taken { "; packed all the same" } else { "" };
            format!("{}\t{}{fate}\n", shown::line(&fault.image), shown::line(&fault.reason))
        };
        let text: String = self.faulty().map(line).collect();
        self.write_or_remove(UNREADABLE, &text)?;
        self.state.finished = true;
        self.save()
    }

    fn save(&self) -> Result<(), Error> {
        let path = self.root.join(STATE);
        // Plain data never fails to serialise.
        let mut text = serde_json::to_string_pretty(&self.state).unwrap_or_default();
        text.push('\n');
        write_atomic(&path, text.as_bytes()).map_err(|error| unwritten(&path, &error))
    }

    /// Writes a file, or sees to it that there is none if the text is empty.
    fn write_or_remove(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.root.join(name);
        let written = if text.is_empty() {
            fs::remove_file(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
        } else {
            write_atomic(&path, text.as_bytes())
        };
        written.map_err(|error| unwritten(&path, &error))
    }
}

/// Returns whether this is the name of a shard, as [`PackPart::shard`] gives it.
fn is_shard_name(name: &str) -> bool {
    let number = PackPart::ALL
        .into_iter()
        .find_map(|part| name.strip_prefix(part.name())?.strip_prefix('-')?.strip_suffix(".tar"));
    number.is_some_and(|number| number.len() >= 6 && number.bytes().all(|c| c.is_ascii_digit()))
}

/// Returns the content of `pack.json`, or `None` if there is no such file.
fn read_state(path: &Path) -> Result<Option<PackState>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::Failed(format!("cannot read {}: {error}", shown::path(path))));
        }
    };
    let usage = |text: &str| Error::Usage(format!("{} {text}", shown::path(path)));
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    if value["format"].as_u64().is_some_and(|format| format > u64::from(PackState::CURRENT)) {
        return Err(usage(
            "is of a newer release: go on with that one, or begin anew with --force",
        ));
    }
    let state: Option<PackState> = serde_json::from_value(value).ok();
    state.filter(PackState::is_consistent).map(Some).ok_or_else(|| {
        usage("is none of this command, or is damaged: choose another folder, or begin anew with --force")
    })
}

/// Locks the folder itself, so that no file is left of it.
fn lock(root: &Path) -> Result<File, Error> {
    let folder = File::open(root).map_err(|error| unwritten(root, &error))?;
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Usage(format!(
            "another process packs into {}: wait for it, or choose another folder",
            shown::path(root)
        ))),
        // Some network file systems lock no folders. What two processes write there is the same.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(folder),
    }
}

/// Returns the error of a file that can't be written, with what to do.
pub(super) fn unwritten(path: &Path, error: &io::Error) -> Error {
    let go_on = "give the same command again: finished shards stay";
    let advice = match error.kind() {
        io::ErrorKind::StorageFull => format!("; free some space and {go_on}"),
        io::ErrorKind::QuotaExceeded => {
            format!("; your share of the disk is used up: free some and {go_on}")
        }
        io::ErrorKind::FileTooLarge => {
            "; raise the limit on the size of files (ulimit -f), or begin anew with a smaller --shard-size".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; choose another folder with -o, one that you may write".to_owned()
        }
        _ => String::new(),
    };
    let text = format!("cannot write {}: {error}{advice}", shown::path(path));
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotADirectory => Error::Usage(text),
        _ => Error::Failed(text),
    }
}
