//! Where an export is written. Nothing existing is lost without `--force`, and no file is ever half written.

use super::{ExportArgs, ExportFormat};
use crate::error::Error;
use crate::run_dir::{sync_dir, write_atomic, write_atomic_with};
use crate::shown;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

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
    /// Returns an error if the file can't be written. An existing one is then unchanged.
    pub fn write(
        &self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), Error> {
        write_atomic_with(&self.path, write).map_err(|source| self.error(source))
    }

    /// Writes the files of the folder. A new folder appears with all files at once. In an existing folder they are
    /// replaced one by one.
    ///
    /// # Errors
    /// Returns an error if one of the files can't be written.
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
            let _ = fs::remove_dir_all(&temporary); // the first error is the one to report
        }
        written
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Output { path: self.path.clone(), source }
    }
}
