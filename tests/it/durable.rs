//! A disk that fails when a test says so.

use crate::common;
use crate::common::fault::Fault;
use rustix::io::Errno;
use std::fs;

/// A run of 42 steps with a checkpoint after each 14.
fn arguments<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    let often = ["--set", "train.log_every=7", "--set", "checkpoint.every_steps=14", "--no-ui"];
    common::tiny(&[&often[..], extra].concat())
}

#[test]
fn the_operation_that_is_named_fails_as_it_is_told() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let Some(fault) = Fault::new("config.toml", "open,write,truncate", 2, "faults") else { return };
    let record = folder.join("record");
    let fault = fault.error(Errno::NOSPC).short(5).times(2).log(&record);
    let ended = fault.start(folder, &arguments(&["--run-dir", "run"])).end();
    assert!(ended.expect(1, "a full disk").stderr.contains("No space left"));
    let record = fs::read_to_string(record).expect("a record");
    let lines: Vec<Vec<&str>> = record.lines().map(|line| line.split('\t').collect()).collect();
    let brief: Vec<(&str, bool)> = lines.iter().map(|line| (line[1], line[3] == "1")).collect();
    let opened = ("open", false);
    assert_eq!(brief[..3], [opened, ("write", true), ("write", true)], "short, then the error");
    assert_eq!((lines[1][2], lines[1][5].len(), lines[1][6].len()), ("5", 1, 10), "5 bytes at 0");
    assert_eq!(lines[2][2], "-28", "the rest has the error");

    let fault = Fault::new("/while", "mkdir", 1, "faults").expect("the library is there");
    let broken = folder.join("broken");
    let fault = fault.until_removed(&broken);
    let arguments = arguments(&["--run-dir", "while"]);
    fault.start(folder, &arguments).end().expect(1, "as long as the file is there");
    fs::remove_file(broken).expect("there");
    fault.start(folder, &arguments).end().expect(0, "and no longer");
}
