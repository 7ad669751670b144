//! A relay with any number of listeners, started with exactly the arguments of the test.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

use crate::journal::Journal;
use crate::process::{Process, command};

/// A relay that listens at each of its addresses.
pub(crate) struct Served {
    process: Process,
    /// In the order of its routes, without Unix sockets.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) log: Journal,
}

impl Served {
    /// Starts it, and waits until it listens everywhere.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::of(command(arguments))
    }

    /// This command's.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Journal::of(child.stderr.take().unwrap());
        let process = Process { child };
        // Said after all its listeners.
        log.wait_for("buffers of");
        let address = |line: &String| {
            let (_, rest) = line.split_once("listening on ").unwrap();
            rest.split_once(", relaying to ").unwrap().0.to_owned()
        };
        let all = log.with("listening on ");
        let addresses = all.iter().map(address).filter(|address| !address.starts_with("unix:"));
        let addresses = addresses.map(|address| address.parse().unwrap()).collect();
        Self { process, addresses, log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// How it ends. Others may still write to its log.
    pub(crate) fn status(&mut self) -> ExitStatus {
        self.process.status()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.process.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process.child), signal).unwrap();
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.child.id())).unwrap();
        // One may have ended meanwhile.
        let names = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// Waits until it has ended of a signal.
    pub(crate) fn killed(&mut self) {
        assert!(self.process.status().code().is_none(), "it should have died of a signal");
    }

    /// Asks for a stop and waits for the end.
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.code()
    }

    /// Waits until it has ended, and for all it said.
    pub(crate) fn code(&mut self) -> i32 {
        let code = self.process.code();
        self.log.finish();
        code
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.print();
        }
    }
}
