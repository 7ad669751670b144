//! CPU time and memory of a relay, with all of its processes, read from /proc.
//!
//! The relay's processes are those of its process group, which [`crate::process`] makes for it. nginx' worker and
//! socat's child for each connection are in it.
//!
//! **CPU time** is the sum of two counts. For each living thread, the scheduler counts nanoseconds
//! (`/proc/PID/task/*/schedstat`, the first field). For children that have ended, the parent inherits their time when it
//! waits for them (`cutime` and `cstime` of `/proc/PID/stat`). The kernel derives the second count from the first, but
//! prints hundredths of a second. Only socat has such children, and it uses seconds. A thread that ended would be
//! missed; none of the relays ends one.
//!
//! The kernel processes a packet where it was sent, and loopback delivers at once. So the kernel's work on the relay's
//! bytes is part of the relay's time, for all relays alike.
//!
//! The scheduler updates the count of a running thread at the next tick. So the count is read when the relay is idle.

use std::fs;
use std::time::Duration;

use crate::clock::{now, pause};
use crate::failure::{During as _, Outcome, failed};

/// Nanoseconds. An idle relay uses less than this between two readings, 2 ms apart.
const IDLE_CPU_MAX: u64 = 10_000;

/// The process group of a relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group(pub(crate) u32);

/// The fields of `/proc/PID/stat` that matter here.
struct Stat {
    pid: u32,
    group: u32,
    /// CPU time of children that ended and were waited for, in nanoseconds.
    children: u64,
}

impl Group {
    /// CPU time of everything that is or was in the group, in nanoseconds, once the group is idle.
    pub(crate) fn cpu_at_rest(self) -> Outcome<u64> {
        let limit = now() + Duration::from_secs(2);
        let mut before = self.cpu()?;
        loop {
            pause(Duration::from_millis(2));
            let after = self.cpu()?;
            if after.saturating_sub(before) < IDLE_CPU_MAX || now() > limit {
                return Ok(after);
            }
            before = after;
        }
    }

    fn cpu(self) -> Outcome<u64> {
        let mut sum = 0;
        for stat in self.members()? {
            // A process may end between the two reads. Its parent's count has it next time.
            sum += stat.children + threads_of(stat.pid);
        }
        if sum == 0 { failed("the kernel counts no CPU time (/proc/PID/schedstat)") } else { Ok(sum) }
    }

    pub(crate) fn pids(self) -> Outcome<Vec<u32>> {
        Ok(self.members()?.into_iter().map(|stat| stat.pid).collect())
    }

    /// Private memory that the processes wrote to, in bytes. A page that they share counts once.
    pub(crate) fn memory(self) -> Outcome<u64> {
        self.sum("smaps_rollup", "Pss_Anon:")
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(self) -> Outcome<u64> {
        self.sum("status", "VmRSS:")
    }

    fn sum(self, file: &str, field: &str) -> Outcome<u64> {
        let kib = |pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
            text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        };
        // A zombie has no memory.
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

/// How long this thread was ready to run while another had its core.
pub(crate) fn run_queue_wait() -> Duration {
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
    // The name is in parentheses and may contain any character, also a parenthesis. The third field of proc(5) follows.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let ticks = field(16)?.parse::<u64>().ok()? + field(17)?.parse::<u64>().ok()?;
    Some(Stat { pid, group: field(5)?.parse().ok()?, children: ticks * tick })
}
