//! The process that serves, as the pid file names it.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::patience::until;

/// The pid file of a relay. What has taken its place by the end is nobody's child, and is killed.
pub(crate) struct PidFile {
    path: PathBuf,
    first: u32,
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(pid) = read_pid(&self.path).filter(|pid| *pid != self.first) {
            let _ = kill_process(pid_of(pid), Signal::KILL);
        }
    }
}

impl PidFile {
    /// The file at this path, once this process has written it.
    pub(crate) fn of(path: PathBuf, first: u32) -> Self {
        let it = Self { path, first };
        until("the pid file", || it.pid());
        it
    }

    /// Who serves, if the file is there.
    pub(crate) fn pid(&self) -> Option<u32> {
        read_pid(&self.path)
    }

    /// The process that has taken over from this one.
    pub(crate) fn successor_of(&self, pid: u32) -> u32 {
        until("another process to serve", || self.pid().filter(|now| *now != pid))
    }
}

pub(crate) fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok()
}

pub(crate) fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).unwrap()
}
