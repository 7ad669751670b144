//! The machine: which core the relay and the load run on, and what a reader of the figures must know about it.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::{During as _, Outcome};

/// One core for the relay, another for the load: clients and upstream, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) relay: usize,
    pub(crate) load: usize,
}

/// The description that goes into the results.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) congestion_control: String,
    pub(crate) date: String,
    /// The commit of tproxy's sources, with `-dirty` appended if they differ from it.
    pub(crate) commit: String,
}

impl Cores {
    /// The load's core is no hyper-thread of the relay's core, if the machine has one that is not.
    pub(crate) fn choose() -> Outcome<Self> {
        let set = sched_getaffinity(None).during("asking for the cores of this process")?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
        let relay = allowed.first().copied().unwrap_or(0);
        let siblings = siblings(relay);
        let other = allowed.iter().find(|&core| *core != relay && !siblings.contains(core));
        let load = other.or_else(|| allowed.get(1)).copied().unwrap_or(relay);
        Ok(Self { relay, load })
    }

    pub(crate) fn is_one(self) -> bool {
        self.relay == self.load
    }
}

/// The hardware threads of the same core. The kernel writes "0,4" or "0-1".
fn siblings(core: usize) -> Vec<usize> {
    let list = read(&format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"));
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

/// Pins this thread, and every process it starts from now on, to the core.
pub(crate) fn pin(core: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
}

/// Raises the limit of descriptors as far as allowed, for this process and its children. Returns the limit.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    (if raised { maximum } else { current }).unwrap_or(u64::MAX)
}

impl Machine {
    pub(crate) fn detect() -> Self {
        let model = read("/proc/cpuinfo").lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        Self {
            cpu: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            // The version without the suffix that a distribution appends.
            kernel: read("/proc/sys/kernel/osrelease").split('-').next().unwrap_or_default().to_owned(),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            date: date.chars().take(10).collect(),
            commit: commit(),
        }
    }

    /// Date, commit and machine, on one line.
    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, kernel, congestion_control, date, commit } = self;
        format!("{date} · {commit} · {cpu}, {cores} cores, Linux {kernel}, {congestion_control}")
    }

    /// Reasons not to trust the figures.
    pub(crate) fn warnings(&self, cores: Cores) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.congestion_control == "bbr" {
            let remedy = "sysctl -w net.ipv4.tcp_congestion_control=cubic";
            warnings.push(format!("bbr paces loopback, so all relays look alike: {remedy}"));
        }
        if cores.is_one() {
            warnings.push("one core for the relay and the load: rates and latencies mean nothing".to_owned());
        }
        warnings
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The name that git gives the sources, if git is installed.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output().ok().filter(|output| output.status.success());
    let name = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.unwrap_or_else(|| "unknown commit".to_owned())
}
