//! A follower receives every event exactly once, whatever happens to the process and its socket.

use super::fake::{
    DEADLINE, Fake, bury, collect, failed, finished, follow, links, number, numbered, numbers, own,
    place, started, step, until_link, until_number,
};
use simmim_tui::control::Link;
use simmim_tui::control::client::Client;
use simmim_tui::control::follow::{FollowError, Follower, News};
use simmim_tui::event::{Command, Listener as _, Stamped};
use simmim_tui::run_dir::{EventLog, Owner};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Follows a run after `delay` and fails unless the numbers of its events are 0, 1, … `count` - 1.
fn hear_all(root: &Path, count: u64, delay: Duration) {
    thread::sleep(delay);
    let mut follower = follow(root);
    let mut next = 0;
    collect(&mut follower, |update| match update {
        News::Event(stamped) => {
            if let Some(number) = number(stamped) {
                assert_eq!(number, next, "every event comes once and in order");
                next += 1;
            }
            next == count
        }
        _ => false,
    });
    assert_eq!(follower.skipped(), 0);
}

#[test]
fn many_followers_hear_everything_once_while_others_come_and_go() {
    const COUNT: u64 = 30_000;
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let root = &root;
    thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || hear_all(root, COUNT, Duration::from_millis(number * 30)));
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let (mut client, _) = Client::connect(root, "passer-by").expect("connected");
                    let _ = client.next(Duration::ZERO);
                }
            });
        }
        // The events come as fast as possible. The queue may overflow, which the followers must not notice.
        for number in 0..COUNT {
            fake.say(numbered(number));
            if number % 5000 == 0 {
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
}

#[test]
fn an_event_that_could_not_be_logged_is_still_told_once() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    fake.say(numbered(0));
    fake.say_unlogged(numbered(1)); // Nobody is connected yet.
    let mut follower = follow(&root);
    until_link(&mut follower, &Link::Steerable);
    for number in 2..10 {
        if number % 3 == 0 {
            fake.say(numbered(number));
        } else {
            fake.say_unlogged(numbered(number));
        }
    }
    let heard = numbers(&until_number(&mut follower, 9));
    assert_eq!(heard, (2..10).collect::<Vec<_>>());
}

#[test]
fn an_event_that_was_read_in_the_log_before_it_is_told_comes_once() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let stamped = Stamped::now(numbered(0));
    fake.log.append(&stamped).expect("written");
    let mut follower = follow(&root);
    let mut updates = until_link(&mut follower, &Link::Steerable);
    fake.broadcast.hear(&stamped, fake.log.end());
    fake.say(numbered(1));
    updates.extend(until_number(&mut follower, 1));
    assert_eq!(numbers(&updates), [0, 1]);
}

#[test]
fn who_stops_reading_is_sent_away_and_hears_the_rest_later() {
    const COUNT: u64 = 12_000;
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let mut slow = follow(&root);
    until_link(&mut slow, &Link::Steerable);
    let mut heard = Vec::new();
    thread::scope(|scope| {
        let root = &root;
        let attentive = scope.spawn(|| hear_all(root, COUNT, Duration::ZERO));
        let mut told = Duration::ZERO;
        for number in 0..COUNT {
            let stamped = Stamped::now(numbered(number));
            fake.log.append(&stamped).expect("written");
            let begin = Instant::now();
            fake.broadcast.hear(&stamped, fake.log.end());
            // All in all some 4 MB: more than the outbox and any buffer of the system.
            for _ in 0..3 {
                let step = Stamped::now(step(number));
                fake.log.append(&step).expect("written");
                fake.broadcast.hear(&step, fake.log.end());
            }
            told += begin.elapsed();
            if number % 100 == 0 {
                thread::sleep(Duration::from_millis(2)); // The outbox shall overflow, not the queue.
            }
        }
        // A broadcast that waited for the slow follower would never end.
        assert!(told < DEADLINE / 4, "{told:?} for {COUNT} times four events");
        attentive.join().expect("the attentive one hears everything");
        let updates = until_number(&mut slow, COUNT - 1);
        assert!(links(&updates).contains(&Link::Lost), "it was sent away");
        heard.extend(numbers(&updates));
    });
    assert_eq!(heard, (0..COUNT).collect::<Vec<_>>());
    until_link(&mut slow, &Link::Steerable);
}

#[test]
fn a_run_that_dies_and_is_resumed_comes_to_life_again() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    fake.say(started(0));
    fake.say(step(120));
    fake.say(numbered(0));
    let mut follower = follow(&root);
    assert!(!follower.send(Command::Pause), "not connected yet");
    let mut updates = until_link(&mut follower, &Link::Steerable);
    assert!(follower.send(Command::Pause));
    let order = fake.orders.recv_timeout(DEADLINE).expect("the order arrives");
    assert_eq!(order.command, Command::Pause);
    assert_eq!(order.by, format!("test, process {}", std::process::id()));
    fake.say(numbered(1));
    fake.die();
    updates.extend(collect(&mut follower, |update| matches!(update, News::Link(Link::Gone(_)))));
    let dead = links(&updates).pop();
    let Some(Link::Gone(text)) = dead else { panic!("{updates:?}") };
    assert!(text.starts_with("process 4711 ended without a word; last sign of life "), "{text}");
    assert!(text.ends_with(" ago (step 120)"), "{text}");
    assert!(!follower.send(Command::Stop));
    // The kill leaves half a line in the log.
    let mut log = File::options().append(true).open(root.join("events.jsonl")).expect("there");
    log.write_all(b"{\"time\":1,\"event\":\"log\",\"lev").expect("written");
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        assert_eq!(follower.poll(), News::Nothing, "half a line is no news");
        follower.wait(Duration::from_millis(50));
    }
    let mut fake = Fake::start(&root);
    fake.say(started(100));
    fake.say(numbered(2));
    updates.extend(until_link(&mut follower, &Link::Steerable));
    fake.say(numbered(3));
    fake.say(finished(130));
    drop(fake);
    updates.extend(until_link(&mut follower, &Link::Over));
    assert_eq!(numbers(&updates), [0, 1, 2, 3]);
    assert_eq!(follower.skipped(), 0);
    assert!(!follower.send(Command::Stop), "nobody is there");
}

#[test]
fn a_connection_that_breaks_is_renewed() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let mut follower = follow(&root);
    until_link(&mut follower, &Link::Steerable);
    fake.say(numbered(0));
    fake.hang_up();
    fake.say(numbered(1));
    let mut updates = until_number(&mut follower, 1);
    assert!(links(&updates).contains(&Link::Lost), "{updates:?}");
    let id = std::process::id();
    let takes_none = Link::WatchOnly(format!("process {id} takes no orders"));
    until_link(&mut follower, &takes_none);
    fake.say(numbered(2));
    updates.extend(until_number(&mut follower, 2));
    drop(fake);
    let mut fake = Fake::start(&root);
    fake.say(numbered(3));
    updates.extend(until_link(&mut follower, &Link::Steerable));
    fake.say(numbered(4));
    updates.extend(until_number(&mut follower, 4));
    let mut heard = numbers(&updates);
    heard.dedup();
    assert_eq!(heard, [0, 1, 2, 3, 4]);
    assert_eq!(numbers(&updates).len(), 5);
}

#[test]
fn the_end_is_told_as_it_was() {
    for (event, last) in [(finished(9), Link::Over), (failed(), Link::Over)] {
        let (_temp, root) = place();
        let mut fake = Fake::start(&root);
        fake.say(numbered(0));
        fake.say(event);
        fake.die();
        let updates = until_link(&mut follow(&root), &last);
        assert_eq!(links(&updates), [last], "an ended run has one link");
        assert_eq!(updates.len(), 3, "the log comes first: {updates:?}");
    }
    // Followers receive the last events of a run.
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let mut follower = follow(&root);
    until_link(&mut follower, &Link::Steerable);
    for number in 0..3000 {
        fake.say(numbered(number));
    }
    fake.say(finished(9));
    drop(fake);
    let updates = until_link(&mut follower, &Link::Over);
    assert_eq!(numbers(&updates), (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_run_elsewhere_or_without_a_socket_can_be_watched() {
    let (_temp, root) = place();
    fs::create_dir(&root).expect("a folder");
    let mut log = EventLog::open(&root.join("events.jsonl")).expect("writable");
    log.append(&Stamped::now(numbered(0))).expect("written");
    let far = Owner { pid: 7, host: "node7".to_owned(), boot: "b".to_owned(), ..Owner::me() };
    own(&root, &far);
    let mut follower = follow(&root);
    let elsewhere = Link::WatchOnly("it runs as process 7 on host node7".to_owned());
    let mut updates = until_link(&mut follower, &elsewhere);
    assert!(!follower.send(Command::Stop));
    log.append(&Stamped::now(numbered(1))).expect("written");
    updates.extend(until_number(&mut follower, 1));
    own(&root, &Owner::me());
    let id = std::process::id();
    let takes_none = Link::WatchOnly(format!("process {id} takes no orders"));
    updates.extend(until_link(&mut follower, &takes_none));
    log.append(&Stamped::now(finished(1))).expect("written");
    bury(&root);
    updates.extend(until_link(&mut follower, &Link::Over));
    assert_eq!(numbers(&updates), [0, 1]);
}

#[test]
fn who_only_reads_is_connected_but_gives_no_orders() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    let mut follower = Follower::open(&root, "test", true).expect("a run");
    until_link(&mut follower, &Link::WatchOnly("--read-only".to_owned()));
    assert!(!follower.send(Command::Stop));
    fake.say_unlogged(numbered(0)); // The event comes only over the socket.
    until_number(&mut follower, 0);
    assert!(fake.orders.try_recv().is_err());
}

#[test]
fn garbage_in_the_log_is_passed_over_and_counted() {
    let (_temp, root) = place();
    let mut fake = Fake::start(&root);
    fake.say(numbered(0));
    fake.die();
    let mut log = File::options().append(true).open(root.join("events.jsonl")).expect("there");
    log.write_all(b"\0\xff\n{}\n{\"time\":1,\"event\":\"unheard_of\"}\n").expect("written");
    let mut fake = Fake::start(&root);
    fake.say(numbered(1));
    let mut follower = follow(&root);
    let updates = until_link(&mut follower, &Link::Steerable);
    assert_eq!(numbers(&updates), [0, 1]);
    assert_eq!(follower.skipped(), 3);
}

#[test]
fn what_is_no_run_is_refused() {
    let (temp, root) = place();
    let error = Follower::open(&root, "test", false).expect_err("nothing there");
    assert!(error.to_string().starts_with("no run at "), "{error}");
    fs::create_dir_all(root.join("events.jsonl")).expect("a folder");
    let error = Follower::open(&root, "test", false).expect_err("no file");
    assert!(matches!(error, FollowError::Unreadable { .. }), "{error}");
    // A run that has just started has a configuration but no log.
    fs::write(temp.path().join("config.toml"), "").expect("writable");
    let mut follower = follow(temp.path());
    collect(&mut follower, |update| matches!(update, News::Link(Link::Gone(_))));
}
