//! The side of the process that trains: one thread that tells viewers every event and hands on their orders.
//!
//! Nothing that viewers do or fail to do holds up the trainer. [`Broadcast::tell`] puts an event into a queue; all
//! writing, reading and waiting is the thread's, and all of it is bounded. A viewer never misses an event silently:
//! who can't keep up is sent away, and comes back to the log and the socket.

mod viewer;

use super::protocol::{FromServer, Hello, VERSION};
use super::socket;
use crate::event::{Listener, Order, Stamped};
use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use viewer::{Viewer, refusal};

const MOST_VIEWERS: usize = 64;
/// Events that wait for the thread. When there are more all viewers are sent away.
const QUEUE: usize = 4096;
/// New connections taken at once, so that a flood of them leaves time for the rest.
const ARRIVALS: usize = 16;
/// How long no connection is taken after the system had no file descriptor for one.
const SHORTAGE: Duration = Duration::from_millis(500);
/// How long viewers have for the last events when the run ends.
const FAREWELL: Duration = Duration::from_millis(200);

/// The thread; dropping this ends it within about `FAREWELL` and removes the socket.
#[derive(Debug)]
pub struct Server {
    root: PathBuf,
    socket: socket::Identity,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Where the trainer tells its events.
#[derive(Debug, Clone)]
pub struct Broadcast {
    shared: Arc<Shared>,
}

/// Between the trainer and the thread.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// A byte in it wakes the thread.
    bell: UnixStream,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<(u64, Stamped)>,
    /// Offset behind the newest event in the log.
    log_end: u64,
    viewers: usize,
    overflowed: bool,
    stop: bool,
}

impl Server {
    /// Listens on the socket of a run whose lock this process holds. `log_end` is the length of its log.
    ///
    /// # Errors
    /// The socket can't be made, or the system gives no thread; then nothing is left of it.
    pub fn start(
        root: &Path,
        orders: Sender<Order>,
        log_end: u64,
    ) -> io::Result<(Self, Broadcast)> {
        let (desk, socket) = Desk::open(root, orders, log_end)?;
        let shared = Arc::clone(&desk.shared);
        let mut server = Self { root: root.to_owned(), socket, shared, thread: None };
        // On an error the drop of `server` removes the socket.
        let thread = thread::Builder::new().name("control".to_owned()).spawn(|| desk.serve())?;
        server.thread = Some(thread);
        let broadcast = Broadcast { shared: Arc::clone(&server.shared) };
        Ok((server, broadcast))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it doesn't panic; if it did, it has ended too
        }
        socket::remove(&self.root, self.socket);
    }
}

impl Listener for Broadcast {
    fn hear(&mut self, stamped: &Stamped, log_end: u64) {
        self.tell(stamped, log_end);
    }
}

impl Broadcast {
    /// Tells all viewers of an event. Every event that is logged must be told, in the order of the log. `log_end` is the offset behind its line in the log; that of the event before if
    /// it could not be logged. Takes microseconds and never waits for a viewer.
    pub fn tell(&self, stamped: &Stamped, log_end: u64) {
        let mut queue = self.shared.lock();
        queue.log_end = log_end;
        if queue.viewers == 0 || queue.overflowed {
            return;
        }
        let first = queue.events.is_empty();
        if queue.events.len() < QUEUE {
            queue.events.push_back((log_end, stamped.clone()));
        } else {
            queue.events = VecDeque::new();
            queue.overflowed = true;
        }
        drop(queue);
        if first {
            self.shared.ring();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let _ = (&self.bell).write(&[1]); // a full bell rings already
    }
}

/// The thread's own.
struct Desk {
    listener: UnixListener,
    wake: UnixStream,
    shared: Arc<Shared>,
    orders: Sender<Order>,
    viewers: Vec<Viewer>,
    /// The system had no file descriptor for the next connection.
    closed_until: Option<Instant>,
}

impl Desk {
    fn open(
        root: &Path,
        orders: Sender<Order>,
        log_end: u64,
    ) -> io::Result<(Self, socket::Identity)> {
        let (bell, wake) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let queue = Mutex::new(Queue { log_end, ..Queue::default() });
        let shared = Arc::new(Shared { queue, bell });
        let (listener, socket) = socket::listen(root)?;
        let (viewers, closed_until) = (Vec::new(), None);
        Ok((Self { listener, wake, shared, orders, viewers, closed_until }, socket))
    }

    fn serve(mut self) {
        loop {
            let ready = self.wait();
            self.silence_bell();
            self.hear(&ready);
            self.deliver();
            if ready.arrival {
                self.receive();
            }
            self.viewers.retain_mut(|viewer| viewer.flush().is_ok());
            let mut queue = self.shared.lock();
            queue.viewers = self.viewers.len();
            if queue.stop {
                break;
            }
        }
        self.see_off();
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> Ready {
        let now = Instant::now();
        self.closed_until = self.closed_until.filter(|&until| until > now);
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        for viewer in &self.viewers {
            let sending = if viewer.is_behind() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(viewer, PollFlags::IN | sending));
        }
        if self.closed_until.is_none() {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        socket::wait(&mut fds, self.closed_until.map(|until| until - now));
        // Who has hung up or failed learns it on reading.
        let ready = |fd: &PollFd| !(fd.revents() - PollFlags::OUT).is_empty();
        let count = self.viewers.len();
        Ready {
            viewers: fds[1..=count].iter().map(ready).collect(),
            arrival: fds.get(count + 1).is_some_and(ready),
        }
    }

    fn silence_bell(&mut self) {
        let mut bytes = [0; 64];
        while self.wake.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
    }

    /// Reads once from each viewer that has sent something.
    fn hear(&mut self, ready: &Ready) {
        let mut ready = ready.viewers.iter();
        let orders = &self.orders;
        self.viewers.retain_mut(|viewer| {
            let spoke = ready.next().is_some_and(|&spoke| spoke);
            !spoke || viewer.hear(orders).is_ok()
        });
    }

    /// Puts what was told into all outboxes.
    fn deliver(&mut self) {
        let (events, overflowed) = self.shared.lock().take();
        self.hand_out(events, overflowed);
    }

    fn hand_out(&mut self, events: VecDeque<(u64, Stamped)>, overflowed: bool) {
        if overflowed {
            self.viewers.clear();
        }
        for (end, stamped) in events {
            let line = FromServer::Event { end, stamped: Box::new(stamped) }.line();
            self.viewers.retain_mut(|viewer| viewer.tell(&line).is_ok());
        }
    }

    /// Takes the connections that wait.
    fn receive(&mut self) {
        for _ in 0..ARRIVALS {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let _ = self.admit(stream); // who can't be told hello is gone already
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        // The connection stays in line: asking again at once would go round in circles.
                        self.closed_until = Some(Instant::now() + SHORTAGE);
                        return;
                    }
                },
            }
        }
    }

    /// Makes a viewer of a connection, or refuses it in one line.
    fn admit(&mut self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let Some(process) = permitted(&stream) else {
            return stream.write_all(&refusal("the run belongs to another user"));
        };
        if self.viewers.len() >= MOST_VIEWERS {
            return stream.write_all(&refusal("too many viewers"));
        }
        let (events, overflowed, log_end) = self.shared.lock().admit();
        // What was told before is in the log for the new one, and new for the others.
        self.hand_out(events, overflowed);
        let mut viewer = Viewer::new(stream, process);
        let hello = Hello { version: VERSION, pid: std::process::id(), log_end };
        if viewer.tell(&FromServer::Hello(hello).line()).is_ok() {
            self.viewers.push(viewer);
        }
        Ok(())
    }

    /// Sends the last events, within a time limit.
    fn see_off(mut self) {
        self.deliver();
        let end = Instant::now() + FAREWELL;
        loop {
            self.viewers.retain_mut(|viewer| viewer.flush().is_ok() && viewer.is_behind());
            let left = end.saturating_duration_since(Instant::now());
            if self.viewers.is_empty() || left.is_zero() {
                break;
            }
            let fd = |viewer| PollFd::new(viewer, PollFlags::OUT);
            let mut fds: Vec<_> = self.viewers.iter().map(fd).collect();
            socket::wait(&mut fds, Some(left));
        }
        let mut queue = self.shared.lock();
        queue.viewers = 0; // nothing is kept for nobody
        queue.events = VecDeque::new();
    }
}

/// Who can be read from, in the order of the viewers, and whether a connection waits.
struct Ready {
    viewers: Vec<bool>,
    arrival: bool,
}

impl Queue {
    /// What was told since the last time, and whether it was too much to be kept.
    fn take(&mut self) -> (VecDeque<(u64, Stamped)>, bool) {
        (mem::take(&mut self.events), mem::take(&mut self.overflowed))
    }

    /// Counts a new viewer: all before this moment is in the log up to the offset given back, all after it is told.
    fn admit(&mut self) -> (VecDeque<(u64, Stamped)>, bool, u64) {
        let (events, overflowed) = self.take();
        self.viewers += 1;
        (events, overflowed, self.log_end)
    }
}

/// The process at the other end, if its user may steer this one: the same user or root. The mode of the socket says
/// so too, but can be changed.
#[cfg(target_os = "linux")]
fn permitted(stream: &UnixStream) -> Option<String> {
    let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
    let trusted = peer.uid == rustix::process::geteuid() || peer.uid.is_root();
    trusted.then(|| format!("process {}", peer.pid.as_raw_nonzero()))
}

#[cfg(not(target_os = "linux"))]
fn permitted(_: &UnixStream) -> Option<String> {
    Some("another process".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::Client;
    use crate::event::{Event, Phase};
    use crossbeam_channel::unbounded;

    /// A server whose thread is the test's own, so that it does nothing by itself.
    struct Still {
        temp: tempfile::TempDir,
        desk: Desk,
        broadcast: Broadcast,
    }

    impl Still {
        fn new() -> Self {
            let temp = tempfile::tempdir().expect("a temporary folder");
            let (desk, _) = Desk::open(temp.path(), unbounded().0, 0).expect("a socket");
            let broadcast = Broadcast { shared: Arc::clone(&desk.shared) };
            Self { temp, desk, broadcast }
        }

        fn connect(&mut self) -> Client {
            let client = Client::dial(self.temp.path(), "test").expect("in line");
            self.desk.receive();
            client
        }

        fn tell(&self, end: u64) {
            let event = Event::Phase { phase: Phase::Running };
            self.broadcast.tell(&Stamped { time: 1.0, event }, end);
        }

        /// What a client hears: its greeting's `log_end` and the ends of events.
        fn heard(&mut self, client: &mut Client) -> Vec<u64> {
            self.desk.viewers.retain_mut(|viewer| viewer.flush().is_ok());
            let heard = std::iter::from_fn(|| client.next(Duration::ZERO).ok().flatten());
            let ends = heard.map(|message| match message {
                FromServer::Hello(hello) => hello.log_end,
                FromServer::Event { end, .. } => end,
                other => panic!("{other:?}"),
            });
            ends.collect()
        }
    }

    #[test]
    fn who_comes_hears_only_what_comes_later_and_the_others_miss_nothing() {
        let mut still = Still::new();
        still.tell(10);
        let mut first = still.connect();
        still.tell(20);
        let mut second = still.connect();
        still.tell(30);
        still.desk.deliver();
        assert_eq!(still.heard(&mut first), [10, 20, 30]);
        assert_eq!(still.heard(&mut second), [20, 30]);
    }

    #[test]
    fn nobody_is_left_with_a_gap_when_there_is_too_much_to_tell() {
        let mut still = Still::new();
        let mut first = still.connect();
        assert_eq!(still.heard(&mut first), [0]);
        for end in 1..=QUEUE as u64 + 5 {
            still.tell(end);
        }
        assert!(still.broadcast.shared.lock().events.len() <= QUEUE);
        let mut second = still.connect();
        assert_eq!(still.desk.viewers.len(), 1, "the first one is sent away");
        still.tell(9999);
        still.desk.deliver();
        assert_eq!(still.heard(&mut first), [0; 0], "no event after a gap");
        assert_eq!(still.heard(&mut second), [QUEUE as u64 + 5, 9999]);
    }

    #[test]
    fn who_does_not_read_is_sent_away_before_much_has_piled_up() {
        let mut still = Still::new();
        let _client = still.connect();
        let line = FromServer::Refused { reason: "x".repeat(1000) }.line();
        let viewer = &mut still.desk.viewers[0];
        let mut told = 0;
        while viewer.tell(&line).and_then(|()| viewer.flush()).is_ok() {
            told += 1;
            assert!(told < 10_000, "10 MB wait for one viewer");
        }
        assert!(told > 1000, "some patience");
    }
}
