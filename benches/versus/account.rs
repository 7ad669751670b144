//! What a relay has used, with all of its processes, as /proc tells it.
//!
//! The relay's processes are those of its process group, which [`crate::process`] makes for it: nginx' worker and
//! socat's child for each connection are in it. **CPU time** is what the scheduler has counted, in nanoseconds, for
//! each thread that lives (`/proc/PID/task/*/schedstat`, the first field), and for the children that are gone what
//! their parent inherited when it waited for them (`cutime` and `cstime` of `/proc/PID/stat`). The kernel derives the
//! latter from the same count, but prints hundredths of a second: only socat has such children, and it uses seconds. A
//! thread that ended would be missed; none of the relays ends one. The network's work for a packet is done where it was
//! sent, and loopback delivers at once: what the kernel does with the relay's bytes is in the relay's time, for all of
//! them alike.
//!
//! A running thread's count is brought up to date at the next tick, so it is read when the relay has come to rest.

use std::fs;
use std::time::Duration;

use crate::clock::{now, pause};
use crate::failure::{During as _, Outcome, failed};

/// A relay at rest uses no more than this between two looks, 2 ms apart.
const REST: u64 = 10_000;

/// The process group of a relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group(pub(crate) u32);

/// What `/proc/PID/stat` says, of which only this matters.
struct Stat {
    pid: u32,
    group: u32,
    /// Of children that ended and were waited for, in nanoseconds.
    children: u64,
}

impl Group {
    /// CPU time of everything that is or was in it, in nanoseconds, once it has come to rest.
    pub(crate) fn cpu_at_rest(self) -> Outcome<u64> {
        let limit = now() + Duration::from_secs(2);
        let mut before = self.cpu()?;
        loop {
            pause(Duration::from_millis(2));
            let after = self.cpu()?;
            if after.saturating_sub(before) < REST || now() > limit {
                return Ok(after);
            }
            before = after;
        }
    }

    fn cpu(self) -> Outcome<u64> {
        let mut sum = 0;
        for stat in self.members()? {
            // It may end between two looks at it; then it is in its parent's account next time.
            sum += stat.children + threads_of(stat.pid);
        }
        if sum == 0 { failed("the kernel counts no CPU time (/proc/PID/schedstat)") } else { Ok(sum) }
    }

    pub(crate) fn pids(self) -> Outcome<Vec<u32>> {
        Ok(self.members()?.into_iter().map(|stat| stat.pid).collect())
    }

    /// What its processes keep to themselves and wrote to, in bytes, a page that they share counted once.
    pub(crate) fn memory(self) -> Outcome<u64> {
        self.sum("smaps_rollup", "Pss_Anon:")
    }

    /// All that is resident, in bytes.
    pub(crate) fn resident(self) -> Outcome<u64> {
        self.sum("status", "VmRSS:")
    }

    fn sum(self, file: &str, field: &str) -> Outcome<u64> {
        let kib = |pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
            text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        };
        // One that has ended, but whose parent has not asked for it yet, has no memory.
        match self.pids()?.into_iter().filter_map(kib).sum::<u64>() {
            0 => failed(format!("no {field} in /proc/PID/{file}")),
            sum => Ok(1024 * sum),
        }
    }

    fn members(self) -> Outcome<Vec<Stat>> {
        let processes = fs::read_dir("/proc").during("reading /proc")?;
        let stats = processes.filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?));
        Ok(stats.filter(|stat| stat.group == self.0).collect())
    }
}

/// How long this thread was ready to run and somebody else had its core.
pub(crate) fn waited() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0))
}

fn threads_of(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let used = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    used.sum()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything, a parenthesis too. After it comes the third field of proc(5).
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let ticks = field(16)?.parse::<u64>().ok()? + field(17)?.parse::<u64>().ok()?;
    Some(Stat { pid, group: field(5)?.parse().ok()?, children: ticks * tick })
}
