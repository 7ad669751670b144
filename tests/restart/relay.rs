//! A relay that is restarted in one way or another.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::load::Upstream;

const TPROXY: &str = env!("CARGO_BIN_EXE_tproxy");

/// How long a restart may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A relay with a file, a port file and a pid file.
pub(crate) struct Relay {
    folder: TempDir,
    pub(crate) address: SocketAddr,
    /// The socket that it inherits.
    listener: Option<TcpListener>,
    /// The process that was started last, or by whose SIGUSR2 the one that serves was.
    child: Child,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = kill_process(pid(self.serving()), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).unwrap()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Relay {
    /// One that leads there, with a listener of its own or one that outlives it.
    pub(crate) fn start(upstream: &Upstream, inherits: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 4096).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = inherits.then_some(listener);
        let file = file(&folder);
        write(&file, address, upstream, "");
        let child = spawn(&folder, listener.as_ref());
        let relay = Self { folder, address, listener, child };
        until("the relay to serve", || relay.written());
        relay
    }

    fn written(&self) -> Option<u32> {
        fs::read_to_string(self.folder.path().join("pid")).ok()?.strip_suffix('\n')?.parse().ok()
    }

    fn serving(&self) -> u32 {
        self.written().unwrap_or_else(|| self.child.id())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.serving()), signal).unwrap();
    }

    /// Another process takes its place.
    pub(crate) fn hand_over(&mut self) {
        let before = self.serving();
        self.signal(Signal::USR2);
        until("another process to serve", || self.written().filter(|now| *now != before));
        // The one before has handed over once it is gone, or drains: only then it may be asked again.
        until("the one before to end", || {
            let _ = self.child.try_wait();
            (!PathBuf::from(format!("/proc/{before}/fd/0")).exists()).then_some(())
        });
    }

    /// It drains, and another one starts.
    pub(crate) fn restart(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let before = self.child.id();
        self.child = spawn(&self.folder, self.listener.as_ref());
        until("the next one to serve", || self.written().filter(|now| *now != before));
    }

    /// Its file has this setting.
    pub(crate) fn write_file(&self, upstream: &Upstream, setting: &str) {
        write(&file(&self.folder), self.address, upstream, setting);
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("relay.toml")
}

fn write(file: &PathBuf, from: SocketAddr, upstream: &Upstream, setting: &str) {
    let text = format!("{setting}[[route]]\nfrom = \"{from}\"\nto = \"{}\"\n", upstream.address);
    let beside = file.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

fn spawn(folder: &TempDir, listener: Option<&TcpListener>) -> Child {
    let mut command = Command::new("sh");
    let inherit = if listener.is_some() { "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1;" } else { "" };
    command.arg("-c").arg(format!("{inherit} exec \"$0\" \"$@\"")).arg(TPROXY).args(["-q", "-c"]).arg(file(folder));
    command.arg("--pid-file").arg(folder.path().join("pid"));
    let stdin = listener
        .map_or_else(Stdio::null, |listener| listener.try_clone().map(std::os::fd::OwnedFd::from).unwrap().into());
    command.stdin(stdin).env_remove("RUST_LOG").spawn().unwrap()
}
