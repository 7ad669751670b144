//! What the kernel tells of a relay's process (`proc(5)`), and the limits that are set for it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

use crate::process::Relay;

impl Relay {
    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.process.child.id())
    }

    /// Does it listen still?
    pub(crate) fn listens(&self) -> bool {
        listening_port(self.process.child.id()).is_some()
    }

    /// Has it nothing to do at this moment?
    pub(crate) fn is_asleep(&self) -> bool {
        self.states().all(|state| state == 'S')
    }

    /// What each of its threads is doing.
    pub(crate) fn states(&self) -> impl Iterator<Item = char> {
        let threads: Vec<_> = fs::read_dir(self.proc("task")).unwrap().map(|entry| entry.unwrap().path()).collect();
        threads.into_iter().map(|thread| {
            // One that has ended in the meantime is dead.
            let stat = fs::read_to_string(thread.join("stat")).unwrap_or_else(|_| "() X".to_owned());
            // The name before it is in parentheses.
            stat.rsplit_once(')').unwrap().1.trim_start().chars().next().unwrap()
        })
    }

    /// The numbers of its open descriptors.
    pub(crate) fn descriptors(&self) -> BTreeSet<usize> {
        let entries = fs::read_dir(self.proc("fd")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    /// Its listening socket, shared with it. None where the kernel does not let a parent do that.
    pub(crate) fn listener(&self) -> Option<rustix::fd::OwnedFd> {
        use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).ok()?;
        for number in self.descriptors() {
            let shared = pidfd_getfd(&process, i32::try_from(number).unwrap(), PidfdGetfdFlags::empty()).ok()?;
            if rustix::net::sockopt::socket_acceptconn(&shared) == Ok(true) {
                return Some(shared);
            }
        }
        panic!("it listens, so one of its descriptors does");
    }

    /// Lowers its limit of open descriptors so that exactly so many more can be opened.
    pub(crate) fn leave_descriptors(&self, free: usize) {
        let open = self.descriptors();
        let limit = (0..).filter(|number| !open.contains(number)).nth(free).unwrap() as u64;
        let maximum = self.descriptor_limit().maximum;
        self.limit_descriptors(Rlimit { current: Some(limit), maximum });
    }

    pub(crate) fn limit_descriptors(&self, limit: Rlimit) {
        rustix::process::prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    /// Bounds the size of the files that it writes, or no longer.
    pub(crate) fn limit_file_size(&self, most: Option<u64>) {
        rustix::process::prlimit(Some(self.pid()), Resource::Fsize, Rlimit { current: most, maximum: None }).unwrap();
    }

    /// Its open pipes.
    pub(crate) fn pipes(&self) -> usize {
        let targets = self.descriptors().into_iter().filter(|number| *number > 2).filter_map(|number| {
            // One may have been closed meanwhile.
            fs::read_link(self.proc(&format!("fd/{number}"))).ok()
        });
        targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).collect::<BTreeSet<_>>().len()
    }

    /// Its limit of open descriptors.
    pub(crate) fn descriptor_limit(&self) -> Rlimit {
        let limits = fs::read_to_string(self.proc("limits")).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let mut words = line.split_whitespace().map(|word| word.parse().ok());
        Rlimit { current: words.next().unwrap(), maximum: words.next().unwrap() }
    }

    /// Processor time it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        // utime and stime, the 14th and 15th field (`proc(5)`), in hundredths of a second.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// How often its threads went to sleep. One that is woken and sleeps again has made a system call.
    pub(crate) fn sleeps(&self) -> u64 {
        let threads = fs::read_dir(self.proc("task")).unwrap().map(|entry| entry.unwrap().path());
        let sleeps = threads.filter_map(|thread| {
            let status = fs::read_to_string(thread.join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            Some(line.unwrap().trim().parse::<u64>().unwrap())
        });
        sleeps.sum()
    }
}

/// The port of the TCP socket on which this process listens, if it does yet.
pub(crate) fn listening_port(pid: u32) -> Option<u16> {
    const LISTEN: &str = "0A";
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let names = links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()));
    let inodes: BTreeSet<_> = names.collect();
    // `proc_pid_net(5)`: sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode. What listens is
    // first.
    ["tcp", "tcp6"].iter().find_map(|table| {
        let table = BufReader::new(fs::File::open(format!("/proc/{pid}/net/{table}")).ok()?);
        let rows = table.lines().skip(1).map_while(Result::ok);
        let rows = rows.map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let mut listening = rows.take_while(|row| row[3] == LISTEN);
        let ours = listening.find(|row| inodes.contains(&row[9]))?;
        u16::from_str_radix(ours[1].rsplit_once(':')?.1, 16).ok()
    })
}

/// Descriptors beyond stdio that every child of this process starts with, because whoever started the tests left them
/// open. There should be none; a terminal or a build server may see it otherwise.
pub(crate) fn inherited_descriptors() -> usize {
    const CLOEXEC: u32 = 0o2_000_000;
    let passed_on = |entry: fs::DirEntry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        // One that was closed meanwhile was not inherited.
        let info = fs::read_to_string(entry.path()).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        (number > 2 && flags & CLOEXEC == 0).then_some(())
    };
    fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(|entry| passed_on(entry.ok()?)).count()
}
