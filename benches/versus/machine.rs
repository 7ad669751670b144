//! The machine: which cores are for whom, and what a reader of the figures has to know about it.

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

/// What goes into the results.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) congestion_control: String,
    pub(crate) date: String,
    /// Of tproxy's sources, with `-dirty` behind it if they are not as it says.
    pub(crate) commit: String,
}

impl Cores {
    /// The load's core is no sibling of the relay's, where there is such a one.
    pub(crate) fn choose() -> Outcome<Self> {
        let set = sched_getaffinity(None).during("asking for the cores of this process")?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
        let relay = allowed.first().copied().unwrap_or(0);
        let siblings = siblings(relay);
        let stranger = allowed.iter().find(|&core| *core != relay && !siblings.contains(core));
        let load = stranger.or_else(|| allowed.get(1)).copied().unwrap_or(relay);
        Ok(Self { relay, load })
    }

    pub(crate) fn is_one(self) -> bool {
        self.relay == self.load
    }
}

/// Hardware threads of the same core: "0,4" or "0-1".
fn siblings(core: usize) -> Vec<usize> {
    let list = read(&format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"));
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

/// This thread, and whatever it starts from now on, runs there.
pub(crate) fn pin(core: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
}

/// As many descriptors as this process may have, and its children after it. How many are there?
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    (if raised { maximum } else { current }).unwrap_or(u64::MAX)
}

impl Machine {
    pub(crate) fn look() -> Self {
        let model = read("/proc/cpuinfo").lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        Self {
            cpu: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            // The version without what a builder appends to it, which is nobody's business.
            kernel: read("/proc/sys/kernel/osrelease").split('-').next().unwrap_or_default().to_owned(),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            date: date.chars().take(10).collect(),
            commit: commit(),
        }
    }

    /// When, of what and where, on one line.
    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, kernel, congestion_control, date, commit } = self;
        format!("{date} · {commit} · {cpu}, {cores} cores, Linux {kernel}, {congestion_control}")
    }

    /// What makes the figures worth less than they look.
    pub(crate) fn warnings(&self, cores: Cores) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.congestion_control == "bbr" {
            let remedy = "sysctl -w net.ipv4.tcp_congestion_control=cubic";
            warnings.push(format!("bbr paces the loopback, and every difference disappears: {remedy}"));
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

/// What git calls the sources this was built from, if there is a git to ask.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output().ok().filter(|output| output.status.success());
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_else(|| "of an unknown commit".to_owned())
}
