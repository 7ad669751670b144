//! A relay in a process of its own, which never outlives the bench.
//!
//! ```text
//! versus ── spawn ──► versus --launch STAMP CORE PROGRAM … ── exec ──► PROGRAM …     in a process group of its own
//!    └── on drop: SIGKILL to the group; if the bench is killed: SIGTERM from the kernel (PR_SET_PDEATHSIG)
//! ```
//! The launcher between them does what relays cannot do: it pins itself to a core, asks the kernel for a signal when the
//! bench dies, and writes the time to a file. Then it calls exec at once.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

use crate::account::Group;
use crate::clock::{Deadline, pause, shared_nanoseconds};
use crate::failure::{During as _, Failure, Outcome, failed};
use crate::machine::pin;
use crate::relays::Contender;
use crate::sessions::{self, Upstream};

/// The first argument of the launcher.
pub(crate) const LAUNCH: &str = "--launch";

/// Where relays listen. The load connects from 127.0.0.1 and the upstream has a third address. So no connection can be
/// connected to itself while the relay does not yet listen on its port.
const RELAY_ADDRESS: &str = "127.0.0.2:0";

/// A relay that has relayed its first bytes.
pub(crate) struct Relay {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) group: Group,
    /// The time from exec to the first connect that succeeded.
    pub(crate) start: Duration,
}

impl Relay {
    pub(crate) fn start(contender: &Contender, upstream: &Upstream, folder: &Path, core: usize) -> Outcome<Self> {
        // Another process may take the free port before the relay does. Then the next attempt uses another port.
        let mut attempts = 0;
        loop {
            attempts += 1;
            let address =
                TcpListener::bind(RELAY_ADDRESS).and_then(|free| free.local_addr()).during("looking for a port")?;
            match Self::start_at(address, contender, upstream, folder, core) {
                Err(Failure(why)) if attempts < 3 && why.contains("in use") => {}
                other => return other,
            }
        }
    }

    fn start_at(
        address: SocketAddr,
        contender: &Contender,
        upstream: &Upstream,
        folder: &Path,
        core: usize,
    ) -> Outcome<Self> {
        let (stamp, log) = (folder.join("stamp"), folder.join("log"));
        let output = File::create(&log).during("creating its log")?;
        let child = Command::new(std::env::current_exe()?)
            .arg(LAUNCH)
            .arg(&stamp)
            .arg(core.to_string())
            .args(contender.command(address, upstream.address, folder)?)
            .current_dir(folder)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .during("starting it")?;
        let group = Group(child.id());
        let mut relay = Self { child, log, address, group, start: Duration::ZERO };
        let (client, listening) = relay.first_connection()?;
        let stamp: u64 = fs::read_to_string(&stamp).during("reading the time of exec")?.parse()?;
        relay.start = Duration::from_nanos(listening.saturating_sub(stamp));
        sessions::ping(&client, upstream, u64::MAX).map_err(|why| relay.with_log(why))?;
        Ok(relay)
    }

    /// Connects until the relay listens. Returns the time of that too.
    fn first_connection(&mut self) -> Outcome<(TcpStream, u64)> {
        let deadline = Deadline::after(Duration::from_secs(5));
        loop {
            if let Ok(client) = TcpStream::connect(self.address) {
                return Ok((client, shared_nanoseconds()));
            }
            if let Ok(Some(_)) = self.child.try_wait() {
                return Err(self.with_log(Failure("it did not start".to_owned())));
            }
            deadline.check("waiting for it to listen")?;
            pause(Duration::from_micros(50));
        }
    }

    /// Adds the relay's exit status and the last line of its log to a failure.
    pub(crate) fn with_log(&mut self, why: Failure) -> Failure {
        let Failure(mut why) = why;
        if let Ok(Some(status)) = self.child.try_wait() {
            why = format!("{why} ({status})");
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        if let Some(last) = log.lines().rfind(|line| !line.trim().is_empty()) {
            let last: String = last.chars().take(200).collect();
            why = format!("{why}; its log: {}", last.trim());
        }
        Failure(why)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The group has the relay, its workers and its children, and nothing else. Its number stays in use until the
        // child has been waited for.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// The launcher: becomes the relay, or returns why it cannot.
pub(crate) fn launch_relay(mut words: impl Iterator<Item = OsString>) -> Outcome<()> {
    let (Some(stamp), Some(core), Some(program)) = (words.next(), words.next(), words.next()) else {
        return failed(format!("only this bench uses {LAUNCH}"));
    };
    set_parent_process_death_signal(Some(Signal::TERM))?;
    pin(core.to_str().unwrap_or_default().parse()?)?;
    let mut command = Command::new(program);
    command.args(words);
    fs::write(stamp, shared_nanoseconds().to_string())?;
    Err(Failure::from(command.exec()))
}
