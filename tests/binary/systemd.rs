//! A stand-in for systemd: it hears what a relay says to NOTIFY_SOCKET.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::patience::LIMIT;
use crate::process::{Plan, Relay};

pub(crate) struct Systemd {
    pub(crate) socket: UnixDatagram,
    pub(crate) folder: TempDir,
}

impl Systemd {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { socket, folder }
    }

    /// For NOTIFY_SOCKET.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// A relay that is told of it, with these variables beside.
    pub(crate) fn start(&self, plan: Plan, variables: &str) -> Relay {
        plan.after_shell(format!("export NOTIFY_SOCKET={} {variables}", self.path().display())).start()
    }

    pub(crate) fn hears(&self) -> String {
        let mut text = [0; 256];
        let count = self.socket.recv(&mut text).unwrap();
        String::from_utf8(text[..count].to_vec()).unwrap()
    }

    pub(crate) fn hears_nothing_for(&self, limit: Duration) {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut text = [0; 256];
        assert!(self.socket.recv(&mut text).is_err());
        self.socket.set_read_timeout(Some(LIMIT)).unwrap();
    }
}
