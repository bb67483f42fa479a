//! The side of the process that trains: one thread that sends every event to the viewers and passes on their orders.
//!
//! Nothing that viewers do, or fail to do, holds up the trainer. [`Broadcast`] only puts an event into a queue. The
//! thread does all writing, reading and waiting, and all of it is bounded. A viewer never misses an event without
//! noticing: one that can't keep up is disconnected, reads the log and connects again.

mod inlet;
mod viewer;

use super::protocol::{FromServer, Hello, VERSION};
use super::socket;
use crate::event::{Event, Listener, Order, Stamped};
use crossbeam_channel::Sender;
use inlet::Inlet;
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
/// Events that may wait for the thread. If there are more, all viewers are disconnected.
const QUEUE: usize = 4096;
/// New connections that are accepted at once, so that a flood of them does not keep the thread from its other work.
const MOST_ARRIVALS: usize = 16;
/// How long no connection is accepted after the system had no file descriptor for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// How long viewers have to read the last events when the run ends.
const LAST_EVENTS: Duration = Duration::from_millis(200);

/// The running thread. Dropping this ends it within about `LAST_EVENTS` and removes the socket.
#[derive(Debug)]
pub struct Server {
    root: PathBuf,
    socket: socket::Identity,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The listener that passes the trainer's events to the thread.
#[derive(Debug, Clone)]
pub struct Broadcast {
    shared: Arc<Shared>,
}

/// What the trainer and the thread share.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// The writing end of `Worker::wakeups`. A byte in it wakes the thread.
    waker: UnixStream,
}

#[derive(Debug, Default)]
struct Queue {
    /// Events that the thread has not taken yet, each with the offset behind its line in the log.
    events: VecDeque<(u64, Stamped)>,
    /// Offset behind the newest event in the log.
    log_end: u64,
    /// How far the validation is that goes on, with the offset as above: those who come later hear it at once.
    progress: Option<(u64, Stamped)>,
    /// How many viewers are connected. Without any, no event is queued.
    viewers: usize,
    /// Whether there were too many events for the queue. All viewers are then disconnected.
    overflowed: bool,
    /// Whether the thread is to end.
    stop: bool,
}

impl Server {
    /// Listens on the socket of a run whose lock this process holds. `log_end` is the length of its log.
    ///
    /// # Errors
    /// If the socket can't be made or the thread can't be started. No socket is left then.
    pub fn start(
        root: &Path,
        orders: Sender<Order>,
        log_end: u64,
    ) -> io::Result<(Self, Broadcast)> {
        let (worker, socket) = Worker::open(root, orders, log_end)?;
        let shared = Arc::clone(&worker.shared);
        let mut server = Self { root: root.to_owned(), socket, shared, thread: None };
        // On an error the drop of `server` removes the socket.
        let thread = thread::Builder::new().name("control".to_owned()).spawn(|| worker.serve())?;
        server.thread = Some(thread);
        let broadcast = Broadcast { shared: Arc::clone(&server.shared) };
        Ok((server, broadcast))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it doesn't panic; if it did, it has ended too
        }
        socket::remove(&self.root, self.socket);
    }
}

impl Listener for Broadcast {
    /// Queues an event for all viewers. This takes microseconds and never waits for a viewer.
    ///
    /// Every event in the log must come here, in the order of the log. `log_end` is the offset behind the event's line;
    /// for an event that is not logged it is the offset behind the one before.
    fn hear(&mut self, stamped: &Stamped, log_end: u64) {
        let mut queue = self.shared.lock();
        queue.log_end = log_end;
        match stamped.event {
            Event::Progress(_) => queue.progress = Some((log_end, stamped.clone())),
            Event::Alarm(_) | Event::Log { .. } => {}
            _ => queue.progress = None,
        }
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
            self.shared.wake();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = (&self.waker).write(&[1]); // if the stream is full, the thread has enough reason to wake
    }
}

/// What belongs to the thread alone.
struct Worker {
    listener: UnixListener,
    /// Readable when the thread is to wake up.
    wakeups: UnixStream,
    shared: Arc<Shared>,
    orders: Inlet,
    viewers: Vec<Viewer>,
    /// Until when no connection is accepted, because the system had no file descriptor for one.
    accept_paused_until: Option<Instant>,
}

impl Worker {
    fn open(
        root: &Path,
        orders: Sender<Order>,
        log_end: u64,
    ) -> io::Result<(Self, socket::Identity)> {
        let (waker, wakeups) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wakeups.set_nonblocking(true)?;
        let queue = Mutex::new(Queue { log_end, ..Queue::default() });
        let shared = Arc::new(Shared { queue, waker });
        let (listener, socket) = socket::listen(root)?;
        let orders = Inlet::new(orders);
        let (viewers, accept_paused_until) = (Vec::new(), None);
        Ok((Self { listener, wakeups, shared, orders, viewers, accept_paused_until }, socket))
    }

    fn serve(mut self) {
        loop {
            let ready = self.wait();
            self.clear_wakeups();
            self.receive(&ready);
            self.send_queued();
            if ready.arrival {
                self.accept();
            }
            self.viewers.retain_mut(|viewer| viewer.flush().is_ok());
            let mut queue = self.shared.lock();
            queue.viewers = self.viewers.len();
            if queue.stop {
                break;
            }
        }
        self.send_last_events();
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> Ready {
        let now = Instant::now();
        self.accept_paused_until = self.accept_paused_until.filter(|&until| until > now);
        let mut fds = vec![PollFd::new(&self.wakeups, PollFlags::IN)];
        for viewer in &self.viewers {
            let sending = if viewer.is_behind() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(viewer, PollFlags::IN | sending));
        }
        if self.accept_paused_until.is_none() {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        socket::wait(&mut fds, self.accept_paused_until.map(|until| until - now));
        // A closed or broken connection counts as ready: reading from it gives the error.
        let ready = |fd: &PollFd| !(fd.revents() - PollFlags::OUT).is_empty();
        let count = self.viewers.len();
        Ready {
            viewers: fds[1..=count].iter().map(ready).collect(),
            arrival: fds.get(count + 1).is_some_and(ready),
        }
    }

    fn clear_wakeups(&mut self) {
        let mut bytes = [0; 64];
        while self.wakeups.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
    }

    /// Reads once from each viewer that has sent something.
    fn receive(&mut self, ready: &Ready) {
        let mut ready = ready.viewers.iter();
        let orders = &mut self.orders;
        self.viewers.retain_mut(|viewer| {
            let is_ready = ready.next().is_some_and(|&is_ready| is_ready);
            !is_ready || viewer.receive(orders).is_ok()
        });
    }

    /// Puts the queued events into the outboxes of all viewers.
    fn send_queued(&mut self) {
        let (events, overflowed) = self.shared.lock().take();
        self.send(events, overflowed);
    }

    fn send(&mut self, events: VecDeque<(u64, Stamped)>, overflowed: bool) {
        if overflowed {
            self.viewers.clear();
        }
        for (end, stamped) in events {
            let line = FromServer::Event { end, stamped: Box::new(stamped) }.line();
            self.viewers.retain_mut(|viewer| viewer.send(&line).is_ok());
        }
    }

    /// Accepts the connections that wait, up to [`MOST_ARRIVALS`].
    fn accept(&mut self) {
        for _ in 0..MOST_ARRIVALS {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let _ = self.admit(stream); // a viewer that can't be greeted has left already
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        // The connection keeps waiting, so trying again at once would be a busy loop.
                        self.accept_paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                        return;
                    }
                },
            }
        }
    }

    /// Makes a connection a viewer, or refuses it in one line.
    fn admit(&mut self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let Some(peer) = socket::peer(&stream).filter(|peer| peer.is_own_or_root()) else {
            return stream.write_all(&refusal("the run belongs to another user"));
        };
        if self.viewers.len() >= MOST_VIEWERS {
            return stream.write_all(&refusal("too many viewers"));
        }
        let (progress, (events, overflowed, log_end)) = {
            let mut queue = self.shared.lock();
            (queue.progress.clone(), queue.admit())
        };
        // These events go to the other viewers only: the new one finds them in the log before `log_end`.
        self.send(events, overflowed);
        let mut viewer = Viewer::new(stream, peer);
        let hello = Hello { version: VERSION, pid: std::process::id(), log_end };
        let mut lines = FromServer::Hello(hello).line();
        if let Some((end, stamped)) = progress {
            lines.extend(FromServer::Event { end, stamped: Box::new(stamped) }.line());
        }
        if viewer.send(&lines).is_ok() {
            self.viewers.push(viewer);
        }
        Ok(())
    }

    /// Sends the last events, within a time limit.
    fn send_last_events(mut self) {
        self.send_queued();
        let end = Instant::now() + LAST_EVENTS;
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
        queue.viewers = 0; // so that no further event is queued
        queue.events = VecDeque::new();
    }
}

/// What can be done without waiting.
struct Ready {
    /// For each viewer whether it can be read from.
    viewers: Vec<bool>,
    /// Whether a connection waits to be accepted.
    arrival: bool,
}

impl Queue {
    /// Takes the events that were queued since the last call. Returns them and whether the queue overflowed.
    fn take(&mut self) -> (VecDeque<(u64, Stamped)>, bool) {
        (mem::take(&mut self.events), mem::take(&mut self.overflowed))
    }

    /// Counts a new viewer, and takes the events queued for the others. The returned offset is the end of the log at
    /// this moment: every later event is queued for the new viewer too.
    fn admit(&mut self) -> (VecDeque<(u64, Stamped)>, bool, u64) {
        let (events, overflowed) = self.take();
        self.viewers += 1;
        (events, overflowed, self.log_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::Client;
    use crate::event::{Event, Phase};
    use crossbeam_channel::unbounded;

    /// A server without a thread: it does only what the test tells it to do.
    struct ManualServer {
        temp: tempfile::TempDir,
        worker: Worker,
        broadcast: Broadcast,
    }

    impl ManualServer {
        fn new() -> Self {
            let temp = tempfile::tempdir().expect("a temporary folder");
            let (worker, _) = Worker::open(temp.path(), unbounded().0, 0).expect("a socket");
            let broadcast = Broadcast { shared: Arc::clone(&worker.shared) };
            Self { temp, worker, broadcast }
        }

        fn connect(&mut self) -> Client {
            let client = Client::dial(self.temp.path(), "test").expect("a waiting connection");
            self.worker.accept();
            client
        }

        fn log(&mut self, end: u64) {
            let event = Event::Phase { phase: Phase::Running };
            self.broadcast.hear(&Stamped { time: 1.0, event }, end);
        }

        /// Returns what a client receives: the `log_end` of its greeting and the ends of events.
        fn received(&mut self, client: &mut Client) -> Vec<u64> {
            self.worker.viewers.retain_mut(|viewer| viewer.flush().is_ok());
            let messages = std::iter::from_fn(|| client.next(Duration::ZERO).ok().flatten());
            let ends = messages.map(|message| match message {
                FromServer::Hello(hello) => hello.log_end,
                FromServer::Event { end, .. } => end,
                other => panic!("{other:?}"),
            });
            ends.collect()
        }
    }

    #[test]
    fn a_new_viewer_gets_only_later_events_and_the_others_miss_none() {
        let mut server = ManualServer::new();
        server.log(10);
        let mut first = server.connect();
        server.log(20);
        let mut second = server.connect();
        server.log(30);
        server.worker.send_queued();
        assert_eq!(server.received(&mut first), [10, 20, 30]);
        assert_eq!(server.received(&mut second), [20, 30]);
    }

    #[test]
    fn no_viewer_is_left_with_a_gap_when_there_are_too_many_events() {
        let mut server = ManualServer::new();
        let mut first = server.connect();
        assert_eq!(server.received(&mut first), [0]);
        for end in 1..=QUEUE as u64 + 5 {
            server.log(end);
        }
        assert!(server.broadcast.shared.lock().events.len() <= QUEUE);
        let mut second = server.connect();
        assert_eq!(server.worker.viewers.len(), 1, "the first one is disconnected");
        server.log(9999);
        server.worker.send_queued();
        assert_eq!(server.received(&mut first), [0; 0], "no event after a gap");
        assert_eq!(server.received(&mut second), [QUEUE as u64 + 5, 9999]);
    }

    #[test]
    fn a_viewer_that_does_not_read_is_disconnected_before_much_has_piled_up() {
        let mut server = ManualServer::new();
        let _client = server.connect();
        let line = FromServer::Refused { reason: "x".repeat(1000) }.line();
        let viewer = &mut server.worker.viewers[0];
        let mut sent = 0;
        while viewer.send(&line).and_then(|()| viewer.flush()).is_ok() {
            sent += 1;
            assert!(sent < 10_000, "10 MB wait for one viewer");
        }
        assert!(sent > 1000, "a viewer may fall behind by a megabyte");
    }
}
