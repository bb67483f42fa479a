//! Where an export is written. Nothing existing is lost without `--force`, and no file is ever half written.

use super::{ExportArgs, ExportFormat};
use crate::error::Error;
use crate::files;
use crate::run_dir::{sync_dir, write_atomic_with};
use crate::shown;
use crate::text::say::say;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _, stderr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What stands for standard output.
const STANDARD_OUTPUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// A path that was found to be free, or that may be replaced.
#[derive(Debug)]
pub(super) struct Destination {
    path: PathBuf,
    /// Whether the export goes to standard output.
    stream: bool,
}

impl Destination {
    /// Checks the path before any work is done.
    ///
    /// # Errors
    /// Returns an error if the path is taken, or is a file where a folder is needed, or the other way round.
    pub fn new(args: &ExportArgs) -> Result<Self, Error> {
        let path = args.output.clone();
        let usage = |text: &str| Err(Error::Usage(format!("{} {text}", shown::path(&path))));
        let stream = STANDARD_OUTPUT.iter().any(|name| path.as_os_str() == *name);
        let folder = matches!(args.format, ExportFormat::Hf | ExportFormat::Tensorboard);
        if stream {
            if !matches!(args.format, ExportFormat::Csv | ExportFormat::Jsonl) {
                return Err(Error::Usage(
                    "-o - (standard output) is for csv and jsonl: name a file or folder".to_owned(),
                ));
            }
        } else if files::check_replaceable(&path).is_err() {
            return usage(
                "is a device, a pipe or a socket, which no file may replace: choose a file or folder; csv and jsonl go \
                 to standard output with -o -",
            );
        } else if folder && path.exists() {
            if !path.is_dir() {
                return usage("is a file: this format writes a folder");
            }
            if args.format == ExportFormat::Hf && is_around_us(&path) {
                return usage(
                    "is the current folder or one above, and this format replaces a folder as a whole: leave it first",
                );
            }
            let empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
            if !empty && !args.force {
                return usage(
                    "is not empty: choose another folder, or replace the files of the same names with --force",
                );
            }
        } else if !folder && path.is_dir() {
            return usage("is a folder: this format writes a file");
        } else if path.exists() && !args.force {
            return usage("exists: choose another file, or replace it with --force");
        }
        Ok(Self { path, stream })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_stdout(&self) -> bool {
        self.stream
    }

    /// Writes the file. Returns what `write` returns.
    ///
    /// # Errors
    /// Returns an error if the file can't be written. An existing one is then unchanged.
    pub fn write<T>(
        &self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
    ) -> Result<T, Error> {
        let mut made = None;
        let written = write_atomic_with(&self.path, |out| {
            made = Some(write(out)?);
            Ok(())
        });
        match (written, made) {
            (Ok(()), Some(made)) => Ok(made),
            (Err(source), _) => Err(self.error(source)),
            (Ok(()), None) => Err(self.error(io::ErrorKind::Interrupted.into())),
        }
    }

    /// Writes one file of the folder, piece by piece. A new folder appears with the whole file. In an existing folder the
    /// file is replaced, and the others stay.
    ///
    /// # Errors
    /// Returns an error if the file can't be written. An existing one is then unchanged.
    pub fn write_into_folder(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), Error> {
        let result = if self.path.exists() {
            write_atomic_with(&self.path.join(name), write)
        } else {
            self.make(|folder| write_atomic_with(&folder.join(name), write))
        };
        result.map_err(|source| self.error(source))
    }

    /// Writes the files of the folder, which appear all at once. Other files of an existing folder stay in it.
    ///
    /// # Errors
    /// Returns an error if one of the files can't be written. An existing folder is then unchanged.
    pub fn replace_folder(&self, files: &[(&str, Vec<u8>)]) -> Result<(), Error> {
        let fill = |folder: &Path| {
            files.iter().try_for_each(|(name, bytes)| {
                write_atomic_with(&folder.join(name), |out| out.write_all(bytes))
            })
        };
        self.make(fill).map_err(|source| self.error(source))
    }

    /// Makes the folder beside its place, with what `fill` writes and with what an existing one has besides. Then it takes
    /// the place of that one.
    fn make(&self, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        // The folder itself takes the place of another one, not a link to it.
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let (new, ()) = files::make_temporary(&path, |new| fs::create_dir(new))?;
        let old = path.is_dir();
        let placed =
            fill(&new).and_then(|()| if old { carry_over(&path, &new) } else { Ok(()) }).and_then(
                |()| if old { files::exchange(&new, &path) } else { fs::rename(&new, &path) },
            );
        if placed.is_err() {
            let _ = fs::remove_dir_all(&new); // the first error is the one to report
            return placed;
        }
        if old && let Err(error) = fs::remove_dir_all(&new) {
            let text = format!("warning: the old files are left in {}: {error}", shown::path(&new));
            say(&mut stderr(), &text);
        }
        sync_dir(parent)
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Output { path: self.path.clone(), source }
    }
}

/// Returns whether a folder is the current one or lies above it.
fn is_around_us(folder: &Path) -> bool {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    here.is_ok_and(|here| folder.canonicalize().is_ok_and(|folder| here.starts_with(folder)))
}

/// Puts what is in the folder `old` into the folder `new`, too, unless there is something of that name. Files become links
/// of the same file where the file system has links.
fn carry_over(old: &Path, new: &Path) -> io::Result<()> {
    for entry in fs::read_dir(old)? {
        let entry = entry?;
        let (from, to) = (entry.path(), new.join(entry.file_name()));
        if fs::symlink_metadata(&to).is_ok() {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&to)?;
            carry_over(&from, &to)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if kind.is_file() {
            fs::hard_link(&from, &to).or_else(|_| {
                fs::copy(&from, &to)?;
                File::open(&to)?.sync_all()
            })?;
        } else {
            let text = format!("{} is neither a file nor a folder", shown::path(&from));
            return Err(io::Error::other(text));
        }
    }
    fs::set_permissions(new, fs::metadata(old)?.permissions())?;
    sync_dir(new)
}
