//! How many system calls a relay makes for a unit of work. strace counts them, in runs that are not timed.
//!
//! strace slows the relay down, so the relay always has work waiting. Its batches are as large as under full load.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::account::Group;
use crate::clock::{Deadline, pause};
use crate::failure::{During as _, Outcome, failed};
use crate::process::LAUNCH;

/// How many calls of each name, in all or for one unit of work.
pub(crate) type Calls = BTreeMap<String, f64>;

/// The process of strace, which ends when this is dropped. The relay goes on.
struct Strace(Child);

/// Counts the calls of all processes in the group, and of those they start, while `work` runs.
pub(crate) fn count(
    strace: &Path,
    group: Group,
    folder: &Path,
    core: usize,
    work: impl FnOnce() -> Outcome<()>,
) -> Outcome<Calls> {
    let summary = folder.join("strace");
    let mut command = Command::new(std::env::current_exe()?);
    // The launcher, as for a relay: strace runs on the load's core and ends with the bench.
    command.arg(LAUNCH).arg(folder.join("strace-stamp")).arg(core.to_string()).arg(strace);
    command.args(["-f", "-c", "-o"]).arg(&summary);
    for pid in group.pids()? {
        command.arg("-p").arg(pid.to_string());
    }
    let log = fs::File::create(folder.join("strace-log"))?;
    let child = command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    let mut strace = Strace(child.during("starting strace")?);

    let deadline = Deadline::after(Duration::from_secs(5));
    while !is_traced(group)? {
        if let Some(status) = strace.0.try_wait()? {
            let log = fs::read_to_string(folder.join("strace-log")).unwrap_or_default();
            return failed(format!("strace ended ({status}): {}", log.lines().next().unwrap_or_default()));
        }
        deadline.check("strace attaches to the relay")?;
        pause(Duration::from_millis(1));
    }
    work()?;
    group.cpu_at_rest()?;
    // On SIGINT, strace detaches, writes its summary and ends itself with the same signal.
    if let Some(pid) = i32::try_from(strace.0.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::INT)?;
    }
    strace.0.wait()?;
    parse(&fs::read_to_string(summary).during("reading strace's summary")?)
}

fn is_traced(group: Group) -> Outcome<bool> {
    for pid in group.pids()? {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            if status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() == "0")) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The columns are `% time, seconds, usecs/call, calls, [errors], name`.
fn parse(summary: &str) -> Outcome<Calls> {
    let mut calls = Calls::new();
    for line in summary.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, count, .., name] = columns.as_slice()
            && let Ok(count) = count.parse::<u32>()
            && *name != "total"
        {
            calls.insert((*name).to_owned(), count.into());
        }
    }
    if calls.is_empty() { failed("strace counted no call") } else { Ok(calls) }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
