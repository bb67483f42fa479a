//! Where an export goes: nothing that is there is lost without `--force`, and nothing is ever half written.

use super::{ExportArgs, ExportFormat};
use crate::error::Error;
use crate::run_dir::{sync_dir, write_atomic, write_atomic_with};
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// A place that was found free, or may be replaced.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    /// Standard output.
    stream: bool,
}

impl Destination {
    /// Looks at the place before any work is done.
    ///
    /// # Errors
    /// It is taken, or a file where a folder is to be, or the other way round.
    pub fn new(args: &ExportArgs) -> Result<Self, Error> {
        let path = args.output.clone();
        let usage = |text: &str| Err(Error::Usage(format!("{} {text}", path.display())));
        let stream = path.as_os_str() == "-";
        let folder = matches!(args.format, ExportFormat::Hf | ExportFormat::Tensorboard);
        if stream {
            if !matches!(args.format, ExportFormat::Csv | ExportFormat::Jsonl) {
                return Err(Error::Usage(
                    "-o - (standard output) is for csv and jsonl: name a file or folder".to_owned(),
                ));
            }
        } else if folder && path.exists() {
            if !path.is_dir() {
                return usage("is a file: this format writes a folder");
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

    /// Writes the file.
    ///
    /// # Errors
    /// It can't be written; an older one is then unharmed.
    pub fn write(
        &self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), Error> {
        write_atomic_with(&self.path, write).map_err(|source| self.error(source))
    }

    /// Writes the files of the folder. A new folder appears with all of them; in one that is there each is replaced.
    ///
    /// # Errors
    /// One can't be written.
    pub fn write_folder(&self, files: &[(String, Vec<u8>)]) -> Result<(), Error> {
        let result = if self.path.exists() { self.replace(files) } else { self.make(files) };
        result.map_err(|source| self.error(source))
    }

    fn replace(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        files.iter().try_for_each(|(name, bytes)| write_atomic(&self.path.join(name), bytes))
    }

    fn make(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = parent.join(format!(".{name}.{}.tmp", std::process::id()));
        fs::create_dir(&temporary)?;
        let written = files
            .iter()
            .try_for_each(|(name, bytes)| write_atomic(&temporary.join(name), bytes))
            .and_then(|()| fs::rename(&temporary, &self.path))
            .and_then(|()| sync_dir(parent));
        if written.is_err() {
            let _ = fs::remove_dir_all(&temporary); // the first error is the one to tell
        }
        written
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Output { path: self.path.clone(), source }
    }
}
