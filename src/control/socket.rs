//! `RUN/control.sock`: made, reached and removed, however long the path of the run folder is.

use rustix::event::{PollFd, Timespec, poll};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = "control.sock";
/// Removed with other temporary files when a run is opened.
const TEMPORARY: &str = ".control.sock.tmp";

/// Device and inode of a socket, to know it again.
pub type Identity = (u64, u64);

/// Where a run takes orders.
pub fn path(root: &Path) -> PathBuf {
    root.join(NAME)
}

/// Makes the socket of a run whose lock this process holds: one that is there already is a dead process's and is
/// replaced. Nobody else can open it.
///
/// # Errors
/// The file system has no sockets or can't be written.
pub fn listen(root: &Path) -> io::Result<(UnixListener, Identity)> {
    let temporary = root.join(TEMPORARY);
    let _ = fs::remove_file(&temporary); // usually there is none
    let listener = with_short_path(root, TEMPORARY, |path| UnixListener::bind(path))?;
    let finish = || {
        listener.set_nonblocking(true)?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
        let identity = identity(&temporary)?;
        fs::rename(&temporary, path(root))?;
        Ok(identity)
    };
    match finish() {
        Ok(identity) => Ok((listener, identity)),
        Err(error) => {
            let _ = fs::remove_file(&temporary); // the first error is the one to tell
            Err(error)
        }
    }
}

/// Removes the socket unless another process has put its own there.
pub fn remove(root: &Path, own: Identity) {
    let path = path(root);
    if identity(&path).is_ok_and(|found| found == own) {
        let _ = fs::remove_file(path); // a stale one does no harm
    }
}

/// Connects without waiting.
///
/// # Errors
/// `WouldBlock` when too many others wait; `ConnectionRefused` or `NotFound` when nobody listens.
pub fn connect(root: &Path) -> io::Result<UnixStream> {
    with_short_path(root, NAME, |path| {
        let socket = new_socket()?;
        let address = rustix::net::SocketAddrUnix::new(path)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &address)?;
        Ok(UnixStream::from(socket))
    })
}

/// Waits until something happens to one of `fds`, a signal comes or the time is over.
pub fn wait(fds: &mut [PollFd], limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        // The system is short of memory. The callers ask again, but not as fast as they can.
        Err(_) => std::thread::sleep(Duration::from_millis(50)),
    }
}

#[cfg(target_os = "linux")]
fn new_socket() -> io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

#[cfg(not(target_os = "linux"))]
fn new_socket() -> io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// Calls `action` with a path to `name` in `folder` that fits into the address of a socket, which holds about 100
/// bytes.
fn with_short_path<T>(
    folder: &Path,
    name: &str,
    action: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let path = folder.join(name);
    if SocketAddr::from_pathname(&path).is_ok() || cfg!(not(target_os = "linux")) {
        return action(&path);
    }
    let folder = File::open(folder)?;
    action(Path::new(&format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())))
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
