//! How many system calls a relay makes for something: strace counts them, in runs of their own that nobody times.
//!
//! strace slows the relay down, so that it is always behind: its batches are as large as they get, which is how it
//! makes calls when it has much to do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::account::Group;
use crate::clock::{Patience, pause};
use crate::failure::{During as _, Outcome, failed};
use crate::process::BECOME;

/// Calls by name, or how many of each there are for one unit of work.
pub(crate) type Calls = BTreeMap<String, f64>;

/// Ends with its owner; its relay goes on.
struct Strace(Child);

/// Counts the calls of everything in the group, and of what it starts, while the work is done.
pub(crate) fn count(
    strace: &Path,
    group: Group,
    folder: &Path,
    core: usize,
    work: impl FnOnce() -> Outcome<()>,
) -> Outcome<Calls> {
    let summary = folder.join("strace");
    let mut command = Command::new(std::env::current_exe()?);
    // The same step between as for a relay, for the same reasons.
    command.arg(BECOME).arg(folder.join("strace-stamp")).arg(core.to_string()).arg(strace);
    command.args(["-f", "-c", "-o"]).arg(&summary);
    for pid in group.pids()? {
        command.arg("-p").arg(pid.to_string());
    }
    let log = fs::File::create(folder.join("strace-log"))?;
    let child = command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    let mut strace = Strace(child.during("starting strace")?);

    let patience = Patience::of(Duration::from_secs(5));
    while !is_traced(group)? {
        if let Some(status) = strace.0.try_wait()? {
            let said = fs::read_to_string(folder.join("strace-log")).unwrap_or_default();
            return failed(format!("strace ended ({status}): {}", said.lines().next().unwrap_or_default()));
        }
        patience.check("strace's preparations")?;
        pause(Duration::from_millis(1));
    }
    work()?;
    group.cpu_at_rest()?;
    // Asked so, it lets go of them, writes its summary, and kills itself with the same signal.
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

/// `% time, seconds, usecs/call, calls, [errors], name`, between two rules of dashes.
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
    if calls.is_empty() { failed("strace has counted nothing") } else { Ok(calls) }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
