//! Makes, reaches and removes `RUN/control.sock`, however long the path of the run directory is.

use crate::files;
use rustix::event::{PollFd, Timespec, poll};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = "control.sock";

/// Device and inode of a socket, which tell it from another socket at the same path.
pub type Identity = (u64, u64);

/// Returns the path at which a run takes orders.
pub fn path(root: &Path) -> PathBuf {
    root.join(NAME)
}

/// Makes the socket of a run and listens on it. Only the owner of this process can open it.
///
/// This process must hold the lock of the run: a socket that exists already was left by a process that is gone, and is
/// replaced.
///
/// # Errors
/// If the file system does not support sockets or can't be written.
pub fn listen(root: &Path) -> io::Result<(UnixListener, Identity)> {
    // A socket that a kill left under this name is removed when the run is opened again.
    let (temporary, listener) = files::make_temporary(&path(root), |temporary| {
        let name = temporary.file_name().unwrap_or_default().to_string_lossy();
        let bound = with_short_path(root, &name, |path| UnixListener::bind(path));
        bound.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => io::ErrorKind::AlreadyExists.into(),
            _ => error,
        })
    })?;
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
            let _ = fs::remove_file(&temporary); // the first error is the one to report
            Err(error)
        }
    }
}

/// Removes the socket unless another process has replaced it by its own.
pub fn remove(root: &Path, own: Identity) {
    let path = path(root);
    if identity(&path).is_ok_and(|found| found == own) {
        let _ = fs::remove_file(path); // a socket that is left behind does no harm
    }
}

/// Connects without waiting. The connection does not block.
///
/// # Errors
/// `WouldBlock` if too many connections wait to be accepted; `ConnectionRefused` or `NotFound` if nobody listens.
pub fn connect(root: &Path) -> io::Result<UnixStream> {
    with_short_path(root, NAME, |path| {
        let socket = new_socket()?;
        let address = rustix::net::SocketAddrUnix::new(path)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &address)?;
        Ok(UnixStream::from(socket))
    })
}

/// Returns the user at the other end of a connection, and the process if it is known.
#[cfg(target_os = "linux")]
pub fn peer(stream: &UnixStream) -> Option<Peer> {
    let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
    Some(Peer { user: peer.uid.as_raw(), process: Some(peer.pid.as_raw_nonzero().get()) })
}

/// The mode of the socket is all that protects it where the system doesn't tell who is at the other end.
#[cfg(not(target_os = "linux"))]
pub fn peer(_: &UnixStream) -> Option<Peer> {
    Some(Peer { user: rustix::process::geteuid().as_raw(), process: None })
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub user: u32,
    pub process: Option<i32>,
}

impl Peer {
    /// Returns whether the peer is the user of this process, or root.
    pub fn is_own_or_root(self) -> bool {
        self.user == rustix::process::geteuid().as_raw() || self.user == 0
    }
}

/// Waits until one of `fds` is ready, a signal arrives or `limit` is over.
pub fn wait(fds: &mut [PollFd], limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        // The system is short of memory. The callers try again, but should not spin meanwhile.
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

/// Calls `action` with a path to `name` in `folder` that is short enough for the address of a socket, which holds about
/// 100 bytes.
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
