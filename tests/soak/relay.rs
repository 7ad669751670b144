//! The relay's process, and what /proc says of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::ways::{Upstreams, Way, write_file};

pub(crate) struct RelayProcess {
    child: Child,
    folder: TempDir,
    upstreams: Upstreams,
    /// Where each way begins.
    pub(crate) fronts: [SocketAddr; Way::ALL.len()],
    /// How often it was asked to read its file again, and how often it said that it has.
    asked: u64,
    reloads: Arc<AtomicU64>,
    /// Reads the log. It panics at a line that should not be there.
    reader: Option<JoinHandle<()>>,
}

impl RelayProcess {
    pub(crate) fn start(upstreams: Upstreams) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relay.toml");
        write_file(&file, upstreams, 0);
        let mut child = Command::new(env!("CARGO_BIN_EXE_tproxy"))
            .arg("--config")
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let fronts = Way::ALL.map(|_| {
            let listening =
                lines.find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.to_owned())).unwrap();
            listening.split(',').next().unwrap().parse().unwrap()
        });
        let reloads = Arc::<AtomicU64>::default();
        let seen = Arc::clone(&reloads);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                assert!(!line.contains("not reloaded"), "{line}");
                seen.fetch_add(line.contains("] reloaded: ").into(), Ordering::Relaxed);
            }
        });
        Self { child, folder, upstreams, fronts, asked: 0, reloads, reader: Some(reader) }
    }

    /// Changes the file and asks the relay to read it, unless it has not read it since.
    pub(crate) fn reload(&mut self) {
        if self.reloads() == self.asked {
            self.asked += 1;
            write_file(&self.folder.path().join("relay.toml"), self.upstreams, self.asked);
            kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
        }
    }

    /// How often it has read its file again.
    pub(crate) fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Asks it to drain, which it does at once, for there are no sessions left.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.reader.take().unwrap().join().unwrap();
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
