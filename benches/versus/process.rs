//! A relay as a process of its own, which ends with its owner, however that ends.
//!
//! ```text
//! versus ── spawn ──► versus --become STAMP CORE PROGRAM … ── exec ──► PROGRAM …     in a process group of its own
//!    └── drop: SIGKILL to the group; killed itself: SIGTERM from the kernel (PR_SET_PDEATHSIG)
//! ```
//! The step between is what a relay cannot be made to do by itself: pin itself to its core, ask the kernel to be told
//! when the bench dies, and note the time, after which nothing happens but exec.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

use crate::account::Group;
use crate::clock::{Patience, pause, shared_nanoseconds};
use crate::failure::{During as _, Failure, Outcome, failed};
use crate::machine::pin;
use crate::relays::Contender;
use crate::sessions::{self, Upstream};

/// The first argument of the step between.
pub(crate) const BECOME: &str = "--become";

/// Where relays listen. The load connects from 127.0.0.1, so that no connect can meet itself (a port in the ephemeral
/// range is free until the relay has it), and the upstream has a third address.
const FRONT: &str = "127.0.0.2:0";

/// A relay that listens and relays.
pub(crate) struct Relay {
    child: Child,
    log: PathBuf,
    pub(crate) front: SocketAddr,
    pub(crate) group: Group,
    /// From exec to the first connect that succeeded.
    pub(crate) start: Duration,
}

impl Relay {
    pub(crate) fn start(contender: &Contender, upstream: &Upstream, folder: &Path, core: usize) -> Outcome<Self> {
        // Free a moment ago; if somebody was faster, the relay says so and there is another one.
        let mut attempts = 0;
        loop {
            attempts += 1;
            let front = TcpListener::bind(FRONT).and_then(|free| free.local_addr()).during("looking for a port")?;
            match Self::start_at(front, contender, upstream, folder, core) {
                Err(Failure(why)) if attempts < 3 && why.contains("in use") => {}
                other => return other,
            }
        }
    }

    fn start_at(
        front: SocketAddr,
        contender: &Contender,
        upstream: &Upstream,
        folder: &Path,
        core: usize,
    ) -> Outcome<Self> {
        let (stamp, log) = (folder.join("stamp"), folder.join("log"));
        let output = File::create(&log).during("creating its log")?;
        let child = Command::new(std::env::current_exe()?)
            .arg(BECOME)
            .arg(&stamp)
            .arg(core.to_string())
            .args(contender.command(front, upstream.address, folder)?)
            .current_dir(folder)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .during("starting it")?;
        let group = Group(child.id());
        let mut relay = Self { child, log, front, group, start: Duration::ZERO };
        let (client, listening) = relay.first_client()?;
        let stamp: u64 = fs::read_to_string(&stamp).during("reading when it began")?.parse()?;
        relay.start = Duration::from_nanos(listening.saturating_sub(stamp));
        sessions::greet(&client, upstream, u64::MAX).map_err(|why| relay.blame(why))?;
        Ok(relay)
    }

    /// Connects until somebody listens, and says when that was.
    fn first_client(&mut self) -> Outcome<(TcpStream, u64)> {
        let patience = Patience::of(Duration::from_secs(5));
        loop {
            if let Ok(client) = TcpStream::connect(self.front) {
                return Ok((client, shared_nanoseconds()));
            }
            if let Ok(Some(_)) = self.child.try_wait() {
                return Err(self.blame(Failure("no start".to_owned())));
            }
            patience.check("waiting for it to listen")?;
            pause(Duration::from_micros(50));
        }
    }

    /// Adds to a failure what the relay has to say about it.
    pub(crate) fn blame(&mut self, why: Failure) -> Failure {
        let Failure(mut why) = why;
        if let Ok(Some(status)) = self.child.try_wait() {
            why = format!("{why} ({status})");
        }
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        if let Some(last) = said.lines().rfind(|line| !line.trim().is_empty()) {
            let last: String = last.chars().take(200).collect();
            why = format!("{why}; it said: {}", last.trim());
        }
        Failure(why)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The group is the relay's own, and its workers and children are in it. It exists until the child is waited
        // for.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// The step between: becomes the relay, or returns why not.
pub(crate) fn become_relay(mut words: impl Iterator<Item = OsString>) -> Outcome<()> {
    let (Some(stamp), Some(core), Some(program)) = (words.next(), words.next(), words.next()) else {
        return failed(format!("{BECOME} is for this bench alone"));
    };
    set_parent_process_death_signal(Some(Signal::TERM))?;
    pin(core.to_str().unwrap_or_default().parse()?)?;
    let mut command = Command::new(program);
    command.args(words);
    fs::write(stamp, shared_nanoseconds().to_string())?;
    Err(Failure::from(command.exec()))
}
