//! The table of README: each line that takes the place of another program's is run.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::journal::Journal;
use crate::patience::until;
use crate::process::{Process, TPROXY, undisturbed};

/// A network of its own, where every port is free. False if this user may not have one.
fn in_a_network(words: &[&str]) -> Option<Command> {
    let has_one = Command::new("unshare").args(["-rn", "ip", "link", "set", "lo", "up"]).output();
    if !has_one.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", "ip link set lo up; exec \"$0\" \"$@\"", TPROXY]).args(words);
    undisturbed(&mut command);
    Some(command)
}

#[test]
fn each_line_of_the_readme_starts_a_relay_that_listens() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("| instead of | write |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let lines: Vec<_> = rows.map(|row| row.rsplit('`').nth(1).unwrap()).collect();
    assert!(lines.len() >= 8 && lines.iter().all(|line| line.starts_with("tproxy ")), "{lines:?}");
    for line in lines {
        let words: Vec<_> = line.split(' ').skip(1).collect();
        let Some(mut command) = in_a_network(&words) else { return };
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = Journal::of(child.stderr.take().unwrap());
        let mut process = Process { child };
        // Said after all its listeners.
        until(line, || log.with("buffers of").first().cloned());
        let from = words[words.iter().position(|word| *word == "-f").unwrap() + 1];
        let port = from.rsplit(':').next().unwrap();
        assert!(log.with("listening on ").iter().any(|it| it.contains(port)), "{line}: {:?}", log.lines());
        kill_process(Pid::from_child(&process.child), Signal::TERM).unwrap();
        assert_eq!(process.code(), 0, "{line}: {:?}", log.lines());
        log.finish();
    }
}
