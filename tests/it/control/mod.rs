//! Watching and steering a run over its socket, tested on a run without a trainer.

mod abuse;
mod fake;
mod following;
mod leaks;
mod orders;
mod sockets;

use fake::{own, place, until};
use simmim_tui::run_dir::{Liveness, Owner, liveness};
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn a_process_that_ended_is_gone_even_before_it_is_collected() {
    let (_temp, root) = place();
    fs::create_dir(&root).expect("a folder");
    let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("started");
    let owner = Owner::of(child.id());
    own(&root, &owner);
    assert_eq!(liveness(&root), Liveness::Local(owner));
    child.kill().expect("killable");
    until("one that is dead but not collected counts as gone", || {
        liveness(&root) == Liveness::Gone
    });
    child.wait().expect("it has ended");
    assert_eq!(liveness(&root), Liveness::Gone);
}
