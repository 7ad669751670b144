//! A relay with any number of listeners, started with exactly the arguments of the test.

use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::{Pid, Signal};

use crate::journal::Journal;
use crate::process::{Process, command};

/// A relay that listens at each of its addresses.
pub(crate) struct Served {
    process: Process,
    /// In the order of its routes.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) log: Journal,
}

impl Served {
    /// Starts it, and waits until it listens everywhere.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Journal::of(child.stderr.take().unwrap());
        let process = Process { child };
        // Said after all its listeners.
        log.wait_for("buffers of");
        let address = |line: &String| {
            let (_, rest) = line.split_once("listening on ").unwrap();
            rest.split_once(", relaying to ").unwrap().0.parse().unwrap()
        };
        let addresses = log.with("listening on ").iter().map(address).collect();
        Self { process, addresses, log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process.child), signal).unwrap();
    }

    /// Asks for a stop and waits for the end.
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
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
