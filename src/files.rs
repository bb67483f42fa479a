//! Opens and makes files in folders that others may have filled.
//!
//! What is read is a regular file: a pipe would hold up the reader, and a device may never end. What is written is made
//! new, or is a file and no link: a link would lead the writer into another file of its user.

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The mode of files that others must not change, whatever the umask is.
pub const OURS: u32 = 0o644;
/// The mode of files about which the umask decides.
pub const BY_UMASK: u32 = 0o666;
/// Bytes of a file's name that the name of its temporary file has, so that this is no longer than names may be.
const LONGEST_NAME: usize = 200;
/// How many names are tried before a folder counts as impossible to write.
const TRIES: u32 = 100;

/// Opens a regular file to read it, without waiting for anything. Links to regular files are followed.
///
/// # Errors
/// If there is no file, or something else than a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    regular(&fs::metadata(path)?)?; // opening some devices does something already
    let file = File::options().read(true).custom_flags(flags(OFlags::NONBLOCK)).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Opens a regular file right below `folder`, which itself lies right below `root`. No link is followed.
///
/// # Errors
/// If there is no such file, or something else than a regular file in a folder.
pub fn open_below(root: &Path, folder: &str, name: &OsStr) -> io::Result<File> {
    let way = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let folder = openat(rustix::fs::CWD, root.join(folder), way, Mode::empty())?;
    let about = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if rustix::fs::FileType::from_raw_mode(about.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(not_regular());
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::RDONLY;
    let file = File::from(openat(&folder, name, flags, Mode::empty())?);
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a file that has been opened, if it is no larger than `most` bytes.
///
/// # Errors
/// If it is larger, or can't be read.
pub fn read(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let text = format!("it is larger than {} MiB", most >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

/// Opens a file of our own for reading and writing, or makes it. What is in it stays.
///
/// # Errors
/// If it is a link or no regular file, or if it can't be written.
pub fn open_own(path: &Path) -> io::Result<File> {
    own(path, File::options().read(true).write(true).create(true).truncate(false))
}

/// Opens a file of our own to read it and to append to it, or makes it.
///
/// # Errors
/// As for [`open_own`].
pub fn open_log(path: &Path) -> io::Result<File> {
    own(path, File::options().read(true).append(true).create(true))
}

/// Makes a new file to read it and to append to it.
///
/// # Errors
/// If there is something already, or if the folder can't be written.
pub fn open_new_log(path: &Path) -> io::Result<File> {
    own(path, File::options().read(true).append(true).create_new(true))
}

fn own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = flags(OFlags::NOFOLLOW | OFlags::NONBLOCK);
    let file = options.mode(OURS).custom_flags(flags).open(path).map_err(|error| {
        let link = fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink());
        if link {
            io::Error::new(io::ErrorKind::InvalidInput, "it is a link; take it away")
        } else {
            error
        }
    })?;
    regular(&file.metadata()?)?;
    Ok(file)
}

fn flags(flags: OFlags) -> i32 {
    flags.bits() as i32
}

fn regular(about: &fs::Metadata) -> io::Result<()> {
    if about.is_file() { Ok(()) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// Refuses a path at which there is something that a new file must not take the place of: a device, a pipe or a socket,
/// or a link to one.
///
/// # Errors
/// If there is such a thing.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    let Ok(about) = fs::symlink_metadata(path) else { return Ok(()) };
    let kind = about.file_type();
    let special = |kind: fs::FileType| {
        kind.is_block_device() || kind.is_char_device() || kind.is_fifo() || kind.is_socket()
    };
    // `/dev/stdout` is a link into `/proc`, whatever it leads to.
    let leads_to_stream = || {
        fs::read_link(path).is_ok_and(|to| to.starts_with("/proc") || to.starts_with("/dev"))
            || fs::metadata(path).is_ok_and(|about| special(about.file_type()))
    };
    if special(kind) || (kind.is_symlink() && leads_to_stream()) {
        let text = "it is a device, a pipe or a socket, which no file may replace";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// Returns a name for something that becomes `name`, which nobody can know before: `.NAME.0123456789abcdef.tmp`.
pub fn temporary_name(name: &str) -> String {
    // Each has keys of its own, from the system's random numbers.
    let random = RandomState::new().hash_one(std::process::id());
    let end = name.floor_char_boundary(LONGEST_NAME);
    format!(".{}.{random:016x}.tmp", &name[..end])
}

/// Returns whether [`temporary_name`] made this name, or what earlier releases had in its place.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && Path::new(name).extension().is_some_and(|ending| ending == "tmp")
}

/// Calls `make` with one temporary path for `path` after another until nothing is there already. Returns the path.
///
/// # Errors
/// The error of `make`, if it is another one than that something is there.
pub fn make_temporary<T>(
    path: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(PathBuf, T)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut tries = 0;
    loop {
        let temporary = path.with_file_name(temporary_name(&name));
        match make(&temporary) {
            Ok(new) => return Ok((temporary, new)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES => {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes a temporary file for `path` in its folder.
///
/// # Errors
/// If the folder can't be written.
pub fn new_temporary(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    make_temporary(path, |temporary| {
        File::options().read(true).write(true).create_new(true).mode(mode).open(temporary)
    })
}

/// Renames a file to its name with `.ENDING`, or with `.ENDING-2`, `.ENDING-3`, …, so that it replaces nothing. Returns
/// the new path.
///
/// # Errors
/// If it can't be renamed.
pub fn set_aside(path: &Path, ending: &str) -> io::Result<PathBuf> {
    let mut number = 1_u64;
    loop {
        let mut name = OsString::from(path.as_os_str());
        name.push(format!(".{ending}"));
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let aside = PathBuf::from(name);
        match rename_new(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Renames a file unless there is something at the new path.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let cwd = rustix::fs::CWD;
    match renameat_with(cwd, from, cwd, to, RenameFlags::NOREPLACE) {
        // Not all file systems can do it in one.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        other => Ok(other?),
    }
}

/// Puts `new` in the place of `old`, which then is where `new` was. Both are folders on one file system.
///
/// # Errors
/// If that can't be done. Both are then where they were.
pub fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    let cwd = rustix::fs::CWD;
    match renameat_with(cwd, new, cwd, old, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            let (aside, ()) = make_temporary(old, |aside| fs::rename(old, aside))?;
            if let Err(error) = fs::rename(new, old) {
                let _ = fs::rename(&aside, old); // the first error is the one to report
                return Err(error);
            }
            fs::rename(&aside, new)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    fn pipe(path: &Path) {
        let status = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
        assert!(status.success());
    }

    #[test]
    fn nothing_but_regular_files_is_opened_and_nothing_is_waited_for() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| temp.path().join(name);
        fs::create_dir(at("previews")).expect("writable");
        fs::write(at("previews/a.png"), "a").expect("writable");
        fs::write(at("secret"), "s").expect("writable");
        pipe(&at("pipe"));
        pipe(&at("previews/pipe"));
        let _socket = UnixListener::bind(at("socket")).expect("bound");
        symlink("../secret", at("previews/link")).expect("writable");
        symlink("previews", at("folder")).expect("writable");
        symlink("secret", at("link")).expect("writable");
        symlink("/dev/zero", at("zero")).expect("writable");
        let begin = Instant::now();
        for name in ["pipe", "socket", "zero", "previews", "none"] {
            assert!(open(&at(name)).is_err(), "{name}");
            if name != "none" {
                assert!(open_own(&at(name)).is_err() && open_log(&at(name)).is_err(), "{name}");
            }
        }
        assert_eq!(read(&open(&at("link")).expect("a file"), 1).expect("small"), b"s");
        assert!(open_own(&at("link")).is_err(), "a link may lead anywhere");
        let below =
            |folder: &str, name: &str| open_below(temp.path(), folder, name.as_ref()).is_ok();
        assert!(below("previews", "a.png"));
        for (folder, name) in [("previews", "link"), ("previews", "pipe"), ("folder", "a.png")] {
            assert!(!below(folder, name), "{folder}/{name}");
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert!(read(&open(&at("secret")).expect("a file"), 0).is_err(), "it is too large");
    }

    #[test]
    fn temporary_files_are_new_and_no_two_have_one_name() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("x".repeat(240));
        let made: BTreeSet<PathBuf> =
            (0..50).map(|_| new_temporary(&path, OURS).expect("writable").0).collect();
        assert_eq!(made.len(), 50);
        for path in &made {
            let name = path.file_name().expect("a name").to_string_lossy();
            assert!(is_temporary(&name) && name.len() < 255, "{name}");
            let mode = path.metadata().expect("there").permissions().mode();
            assert_eq!(mode & 0o022, 0, "nobody else writes it");
        }
        let mut names = made.iter();
        let (found, ()) = make_temporary(&path, |_| match names.next() {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => Ok(()),
        })
        .expect("a free name");
        assert!(!made.contains(&found));
    }

    #[test]
    fn what_is_set_aside_replaces_nothing() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("file");
        for text in ["one", "two", "three"] {
            fs::write(&path, text).expect("writable");
            set_aside(&path, "old").expect("renamed");
        }
        let text = |name: &str| fs::read_to_string(temp.path().join(name)).expect("there");
        assert_eq!(
            [text("file.old"), text("file.old-2"), text("file.old-3")],
            ["one", "two", "three"]
        );
        assert!(set_aside(&path, "old").is_err(), "nothing is there any more");
    }

    #[test]
    fn folders_change_places() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let [a, b] = ["a", "b"].map(|name| temp.path().join(name));
        for path in [&a, &b] {
            fs::create_dir(path).expect("writable");
        }
        fs::write(a.join("of a"), "").expect("writable");
        exchange(&a, &b).expect("exchanged");
        assert!(b.join("of a").exists() && a.exists() && !a.join("of a").exists());
        assert!(exchange(&a, &temp.path().join("none")).is_err() && a.exists());
    }

    #[test]
    fn a_device_is_not_replaced() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| temp.path().join(name);
        pipe(&at("pipe"));
        symlink("/dev/null", at("null")).expect("writable");
        fs::write(at("file"), "").expect("writable");
        symlink("file", at("link")).expect("writable");
        for path in [Path::new("/dev/null"), Path::new("/dev/stdout"), &at("pipe"), &at("null")] {
            assert!(check_replaceable(path).is_err(), "{}", path.display());
        }
        for name in ["file", "link", "none"] {
            check_replaceable(&at(name)).expect(name);
        }
    }
}
