//! Clients that send nonsense, too much, too little or nothing must not disturb the server or other clients.

use super::fake::{DEADLINE, Fake, numbered, place, until};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use simmim_tui::control::client::Client;
use simmim_tui::control::protocol::FromServer;
use simmim_tui::event::Command;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

fn connect(root: &Path) -> UnixStream {
    let stream = UnixStream::connect(root.join("control.sock")).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("settable");
    stream.set_write_timeout(Some(DEADLINE)).expect("settable");
    stream
}

/// Returns everything that the server sends until it closes the connection.
fn last_words(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the server doesn't hang up: {error}"),
        }
    }
    String::from_utf8(text).expect("UTF-8")
}

/// Fails unless a well-behaved client is served.
fn assert_serves(fake: &mut Fake, what: &str) {
    while fake.orders.try_recv().is_ok() {}
    let (mut client, _) = Client::connect(&fake.root, "good").expect(what);
    client.send(Command::Checkpoint).expect(what);
    let end = Instant::now() + DEADLINE;
    let good = |order: &simmim_tui::event::Order| order.by.starts_with("good, process ");
    until(what, || fake.orders.try_iter().any(|order| good(&order)));
    fake.say(numbered(7));
    loop {
        assert!(Instant::now() < end, "{what}: a good client hears what is told");
        let heard = client.next(Duration::from_secs(1)).expect(what);
        if matches!(heard, Some(FromServer::Event { .. })) {
            break;
        }
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let words: [&[u8]; 8] = [
        b"{\"command\":",
        b"\"stop\"}",
        b"\n",
        b"{\"introduce\":{\"name\":\"\\u0000\"}}\n",
        b"\xff\xfe",
        b"[[[[[[[[[[[[[[[[",
        b"{\"hello\":{}}\n",
        b"\0",
    ];
    let mut lingering = std::collections::VecDeque::new();
    for round in 0..300 {
        let mut stream = connect(&root);
        for _ in 0..random.random_range(1..20) {
            let mut noise = vec![0; random.random_range(0..600)];
            random.fill_bytes(&mut noise);
            let word = words[random.random_range(0..words.len())];
            let sent = stream.write_all(if random.random() { word } else { &noise });
            if sent.is_err() {
                break; // The server has closed the connection.
            }
        }
        if round % 3 == 0 {
            lingering.push_back(stream); // This client never reads.
            if lingering.len() > 20 {
                lingering.pop_front();
            }
        }
        while fake.orders.try_recv().is_ok() {}
    }
    assert_serves(&mut fake, "after random bytes");
}

#[test]
fn a_line_that_never_ends_is_cut_short() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    for length in [4097, 1 << 20] {
        let mut stream = connect(&root);
        let _ = stream.write_all(&vec![b'x'; length]); // The server may close the connection first.
        let words = last_words(stream);
        assert!(words.ends_with("{\"refused\":{\"reason\":\"line too long\"}}\n"), "{words}");
    }
    let mut whole = vec![b' '; 5000];
    whole.extend(b"{\"command\":\"stop\"}\n");
    let mut stream = connect(&root);
    let _ = stream.write_all(&whole);
    assert!(last_words(stream).contains("line too long"));
    assert!(fake.orders.try_recv().is_err());
    assert_serves(&mut fake, "after endless lines");
}

#[test]
fn nonsense_is_answered_some_times() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let mut stream = connect(&root);
    let _ = stream.write_all(b"nonsense\n".repeat(50).as_slice());
    let words = last_words(stream);
    assert_eq!(words.matches("\"unknown message\"").count(), 10, "{words}");
    assert!(
        words.ends_with("{\"refused\":{\"reason\":\"too many unknown messages\"}}\n"),
        "{words}"
    );
    assert_serves(&mut fake, "after nonsense");
}

#[test]
fn a_flood_of_orders_is_dammed() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let begin = Instant::now();
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = connect(&root);
            thread::spawn(move || {
                let _ =
                    stream.write_all(b"{\"command\":\"checkpoint\"}\n".repeat(20_000).as_slice());
                last_words(stream)
            })
        })
        .collect();
    for flood in floods {
        let words = flood.join().expect("no panic");
        assert!(words.ends_with("too many lines a second\"}}\n"), "{words}");
    }
    // On a slow machine a flood may last more than a second.
    let seconds = begin.elapsed().as_secs() as usize + 1;
    assert!(fake.orders.len() <= 4 * 100 * seconds, "{} in {seconds} s", fake.orders.len());
    assert!(fake.orders.len() >= 100);
    thread::sleep(Duration::from_secs(1)); // then the user of the flood may give orders again
    assert_serves(&mut fake, "after a flood");
}

#[test]
fn a_flood_of_orders_over_new_connections_is_dammed_as_well() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let begin = Instant::now();
    let mut words = String::new();
    for _ in 0..400 {
        let mut stream = connect(&root);
        let _ = stream.write_all(b"{\"command\":\"checkpoint\"}\n");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        words.push_str(&last_words(stream));
    }
    let most = 100 + 10 * (begin.elapsed().as_secs() as usize + 1);
    assert!((100..=most).contains(&fake.orders.len()), "{} orders", fake.orders.len());
    assert!(words.contains("too many orders, try again in a second"), "the others are told");
    thread::sleep(Duration::from_secs(1));
    assert_serves(&mut fake, "a second after the flood");
}

#[test]
fn an_order_that_drips_in_is_one_order() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let mut drip = connect(&root);
    let mut halves: Vec<_> = (0..20).map(|_| connect(&root)).collect();
    for half in &mut halves {
        half.write_all(b"{\"command\":\"st").expect("written");
    }
    for byte in b"{\"introduce\":{\"name\":\"drip\"}}\n{\"command\":\"pause\"}\n" {
        drip.write_all(&[*byte]).expect("written");
        thread::sleep(Duration::from_millis(1));
    }
    let order = fake.orders.recv_timeout(DEADLINE).expect("it arrives");
    assert_eq!(order.command, Command::Pause);
    assert!(order.by.starts_with("drip, process "), "{}", order.by);
    drop(halves);
    assert_serves(&mut fake, "after drips and halves");
    assert!(fake.orders.try_iter().all(|order| order.command == Command::Checkpoint));
}

#[test]
fn a_crowd_that_comes_and_goes_leaves_room_for_others() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    for _ in 0..500 {
        drop(connect(&root));
    }
    assert_serves(&mut fake, "after a crowd");
}
