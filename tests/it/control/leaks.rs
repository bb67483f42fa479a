//! The training process leaks no files and no threads, however many viewers come and go.

use super::fake::{Fake, follow, number, numbered, place, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use simmim_tui::control::client::Client;
use simmim_tui::control::follow::News;
use simmim_tui::event::Command as Order;
use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Returns the numbers of open files and threads of this process.
fn held() -> (usize, usize) {
    let count = |folder| fs::read_dir(folder).expect("a Linux system").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// The environment variable that is set in the process that runs only this test.
const ALONE: &str = "SIMMIM_TEST_ALONE";

/// Runs the test below again in a process of its own, because it counts and limits the open files of the whole process.
fn run_alone() {
    let name = "control::leaks::viewers_come_and_go_without_a_trace";
    let output = Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{why}");
}

#[test]
fn viewers_come_and_go_without_a_trace() {
    if !fs::exists("/proc/self/fd").unwrap_or(false) {
        eprintln!("skipped: this system does not show open files");
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        return run_alone();
    }
    let (_temp, root) = place();
    let before = held();
    let fake = Fake::start(&root);
    until("the thread is there", || held().1 == before.1 + 1);
    let during = held();
    let (enough, fake) = (AtomicBool::new(false), std::sync::Mutex::new(fake));
    thread::scope(|scope| {
        scope.spawn(|| {
            for count in 0.. {
                if enough.load(Ordering::Relaxed) {
                    break;
                }
                fake.lock().expect("no panic").say(numbered(count));
                thread::sleep(Duration::from_micros(200));
            }
        });
        let visitors: Vec<_> = (0..4)
            .map(|kind| {
                let root = &root;
                scope.spawn(move || {
                    for round in 0..100 {
                        visit(root, kind, round);
                    }
                })
            })
            .collect();
        for visitor in visitors {
            visitor.join().expect("no panic");
        }
        enough.store(true, Ordering::Relaxed);
    });
    until("viewers that left are forgotten", || held() == during);
    wait_out_a_shortage(&root);
    drop(fake);
    assert_eq!(held(), before, "nothing is left of the server");
}

/// Checks that a connection waits while the process can open no more files, and that the server doesn't spin meanwhile.
fn wait_out_a_shortage(root: &Path) {
    let plenty = getrlimit(Resource::Nofile);
    // The limit leaves room for this end of a connection and none for the server's end.
    let highest = open_files().into_iter().max().expect("some");
    let fill: Vec<_> = std::iter::repeat_with(|| fs::File::open("/dev/null"))
        .map(|file| file.expect("there"))
        .take_while(|file| file.as_raw_fd() as u64 <= highest)
        .collect();
    let before = server_time();
    setrlimit(Resource::Nofile, Rlimit { current: Some(highest + 2), ..plenty }).expect("settable");
    let mut stream = UnixStream::connect(root.join("control.sock")).expect("it waits in line");
    thread::sleep(Duration::from_secs(1));
    stream.set_nonblocking(true).expect("settable");
    assert!(stream.read(&mut [0; 64]).is_err(), "the server has no file for it");
    setrlimit(Resource::Nofile, plenty).expect("settable");
    let spent = server_time() - before;
    stream.set_nonblocking(false).expect("settable");
    let read = stream.read(&mut [0; 64]).expect("hello");
    assert!(read > 0, "it is served when there are files again");
    assert!(spent < 30, "{spent} hundredths of a second of computing in one second of waiting");
    drop((fill, stream));
}

/// Returns the numbers of the open files of this process.
fn open_files() -> Vec<u64> {
    let entries = fs::read_dir("/proc/self/fd").expect("a Linux system").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Returns the CPU time of the server's thread so far, in hundredths of a second.
fn server_time() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("a Linux system").flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let stat =
        stats.into_iter().find(|stat| stat.contains("(control)")).expect("the thread is there");
    let times = stat.split_whitespace().skip(13).take(2);
    times.map(|time| time.parse::<u64>().expect("a number")).sum()
}

/// Makes one visit. It is short, gives an order, sends garbage, or reads the whole run, depending on `kind`.
fn visit(root: &Path, kind: usize, round: usize) {
    match kind {
        0 => drop(UnixStream::connect(root.join("control.sock")).expect("connected")),
        1 => {
            let (mut client, _) = Client::connect(root, "order").expect("connected");
            client.send(Order::Resume).expect("sent");
            let _ = client.next(Duration::from_millis(1));
        }
        2 => {
            use std::io::Write as _;
            let mut stream = UnixStream::connect(root.join("control.sock")).expect("connected");
            let _ = stream.write_all(&b"x\n".repeat(round));
        }
        _ => {
            let mut follower = follow(root);
            let mut next = 0;
            let mut live = false;
            while !live {
                match follower.poll() {
                    News::Event(stamped) => {
                        assert_eq!(number(&stamped), Some(next));
                        next += 1;
                    }
                    News::Link(_) | News::Ended(_) => live = true,
                    News::Nothing => follower.wait(Duration::from_millis(5)),
                }
            }
        }
    }
}
