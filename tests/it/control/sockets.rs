//! The socket: where it is, who may use it, and how connections begin and end.

use super::fake::{
    DEADLINE, Fake, follow, names, numbered, place, until, until_link, until_number,
};
use simmim_tui::control::Link;
use simmim_tui::control::client::{Client, Closed, ConnectError};
use simmim_tui::control::protocol::FromServer;
use simmim_tui::event::Command;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

fn socket(root: &Path) -> std::path::PathBuf {
    root.join("control.sock")
}

#[test]
fn only_the_owner_may_open_the_socket_and_it_goes_with_the_server() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let mode = fs::metadata(socket(&root)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fake.hang_up();
    assert!(!socket(&root).exists());
    assert!(!names(&root).iter().any(|name| name.contains("tmp")), "no rubbish is left");
}

#[test]
fn a_socket_that_a_dead_process_left_is_replaced() {
    let (_temp, root) = place();
    fs::create_dir(&root).expect("a folder");
    drop(UnixListener::bind(socket(&root)).expect("bound"));
    assert!(socket(&root).exists(), "it stays when nobody removes it");
    assert!(matches!(Client::connect(&root, "t"), Err(ConnectError::NoSocket)));
    fs::write(root.join(".control.sock.tmp"), "rubbish").expect("writable");
    let fake = Fake::start(&root);
    Client::connect(&root, "t").expect("connected");
    // Another process has put its own socket there, which must stay.
    fs::remove_file(socket(&root)).expect("removable");
    let _other = UnixListener::bind(socket(&root)).expect("bound");
    drop(fake);
    assert!(socket(&root).exists());
}

#[test]
fn a_run_folder_deep_down_works_as_well() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("a".repeat(100)).join("b".repeat(100)).join("run");
    let mut fake = Fake::start(&root);
    let mut follower = follow(&root);
    until_link(&mut follower, &Link::Steerable);
    fake.say(numbered(0));
    until_number(&mut follower, 0);
    fake.hang_up();
    assert!(!socket(&root).exists());
}

#[test]
fn sixty_four_may_watch_and_the_next_is_told_why_not() {
    let (_temp, root) = place();
    let _fake = Fake::start(&root);
    let mut clients: Vec<_> =
        (0..64).map(|_| Client::connect(&root, "t").expect("connected").0).collect();
    let refused = Client::connect(&root, "t").expect_err("one too many");
    assert_eq!(refused.to_string(), "its process refuses: too many viewers");
    clients.pop();
    until("the place is free", || Client::connect(&root, "t").is_ok());
}

#[test]
fn a_server_of_a_later_release_or_without_an_answer_is_told_apart() {
    let (_temp, root) = place();
    fs::create_dir(&root).expect("a folder");
    let listener = UnixListener::bind(socket(&root)).expect("bound");
    let silent = Client::connect(&root, "t").expect_err("nobody accepts");
    assert!(matches!(silent, ConnectError::Silent), "{silent}");
    let (mut later, _) = listener.accept().expect("it waits in line");
    drop(later);
    let client = std::thread::spawn({
        let root = root.clone();
        move || Client::connect(&root, "t")
    });
    (later, _) = listener.accept().expect("a connection");
    later.write_all(b"{\"hello\":{\"version\":2,\"pid\":1}}\n").expect("written");
    let error = client.join().expect("no panic").expect_err("too new");
    assert!(matches!(error, ConnectError::TooNew(2)), "{error}");
    drop(listener);
    let error = Client::connect(&root, "t").expect_err("stale");
    assert!(matches!(error, ConnectError::NoSocket), "{error}");
}

#[test]
fn the_end_of_a_server_does_not_wait_for_who_does_not_read() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let stuck = UnixStream::connect(socket(&root)).expect("connected");
    let (mut client, _) = Client::connect(&root, "t").expect("connected");
    for number in 0..3000 {
        fake.say(numbered(number));
    }
    let begin = Instant::now();
    fake.hang_up();
    assert!(begin.elapsed() < DEADLINE / 12, "{:?}", begin.elapsed());
    drop(stuck);
    // The client still receives the events that were sent before the end, unless it fell behind.
    let mut heard = 0;
    let end = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < end, "the connection ends");
        match client.next(Duration::from_secs(1)) {
            Ok(Some(FromServer::Event { .. })) => heard += 1,
            Ok(_) => {}
            Err(Closed) => break,
        }
    }
    assert!(heard > 0);
    // Further events do no harm.
    fake.say(numbered(3000));
}

#[test]
fn half_closed_clients_get_their_answers() {
    let (_temp, root) = place();
    let fake = Fake::start(&root);
    let mut stream = UnixStream::connect(socket(&root)).expect("connected");
    stream.write_all(b"{\"command\":\"pause\"}\n").expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    stream.set_read_timeout(Some(DEADLINE)).expect("settable");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("closed in order");
    let id = process::id();
    let accepted = format!("{{\"accepted\":{{\"command\":\"pause\",\"by\":\"process {id}\"}}}}");
    assert_eq!(text.lines().last(), Some(accepted.as_str()), "{text}");
    assert_eq!(fake.orders.recv_timeout(DEADLINE).expect("an order").command, Command::Pause);
}

/// The environment variable that tells a process of another user which socket to use.
const TARGET: &str = "SIMMIM_TEST_SOCKET";

/// Acts as another user for [`another_user_is_refused`], which starts this function in a process of its own. Does
/// nothing otherwise.
#[test]
fn as_another_user() {
    let Some(path) = std::env::var_os(TARGET) else { return };
    let path = Path::new(&path);
    match UnixStream::connect(path) {
        Err(error) => print!("CONNECT {:?} ", error.kind()),
        Ok(mut stream) => {
            let _ = stream.write_all(b"{\"command\":\"stop\"}\n");
            let mut text = String::new();
            let _ = stream.set_read_timeout(Some(DEADLINE));
            let _ = stream.read_to_string(&mut text);
            print!("SAID {text} ");
        }
    }
}

#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return;
    }
    let (temp, root) = place();
    let fake = Fake::start(&root);
    for folder in [temp.path(), &root] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("settable");
    }
    let program = temp.path().join("test");
    fs::copy(std::env::current_exe().expect("known"), &program).expect("copied");
    let start = || {
        process::Command::new(&program)
            .args(["--exact", "control::sockets::as_another_user", "--nocapture"])
            .env(TARGET, socket(&root))
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output()
    };
    let act = || {
        let mut output = start();
        // A child process that another test is starting holds the copy open until it executes its own program.
        until("the copy is free", || {
            let busy =
                matches!(&output, Err(error) if error.kind() == ErrorKind::ExecutableFileBusy);
            if busy {
                output = start();
            }
            !busy
        });
        let output = output.expect("the other user can start it");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = act();
    assert!(text.contains("CONNECT PermissionDenied"), "{text}");
    fs::set_permissions(socket(&root), fs::Permissions::from_mode(0o666)).expect("settable");
    let text = act();
    assert!(
        text.contains("SAID {\"refused\":{\"reason\":\"the run belongs to another user\"}}"),
        "{text}"
    );
    assert!(!text.contains("hello"), "{text}");
    assert!(fake.orders.try_recv().is_err(), "no order gets through");
}
