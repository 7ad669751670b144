//! SIGUSR2: the program is started once more, gets the listeners, and takes our place.
//!
//! ```text
//!   start it ──── it says that it serves ────► drain, MAINPID ──── systemd has read that ────► may end
//!      │            at most 30 s                                     at most 5 s
//!      └── it ends, or the time is up, or a stop signal ──► it is killed, we go on as before
//! ```
//! Its listening sockets are ours, under the same numbers, so this works also when no descriptor is left. It says that it
//! serves by a byte on its standard input, which is one end of a pair of sockets.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use rustix::io::FdFlags;
use tproxy::Control;
use tproxy::net::{Handed, Page};

use super::admin::Role;
use super::inherit::{Inheritance, LISTENERS};
use super::notify::Notifier;

/// How long the new program may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long systemd may take to read what it was told.
const BARRIER: Duration = Duration::from_secs(5);

/// How long one look at the new program, or at systemd's answer, may take. A signal waits as long.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// What the new program says when it serves.
const SERVES: u8 = b'S';

/// Variables that are about us, and not about the program that takes our place.
const OURS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The program that is to take our place, until it has: when we end before that, it ends too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Successor(Arc<(Mutex<Slot>, Condvar)>);

#[derive(Debug, Default)]
struct Slot {
    child: Option<Child>,
    /// It serves, and this process waits until everybody has been told.
    is_told: bool,
    /// The loop has ended: no other may start.
    is_closed: bool,
}

/// A hand-over under way.
#[derive(Debug)]
pub(super) struct HandOver {
    successor: Successor,
    pid: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It starts. What it says arrives here.
    Starting { report: UnixStream, until: Instant },
    /// It serves, and systemd is told. The other end of this closes when systemd has read it.
    Telling { barrier: Option<UnixStream>, until: Instant },
}

/// What came of a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Waits,
    /// It serves from now on.
    Serves,
    /// It has our place, and everybody was told.
    Done,
    /// It failed, and we go on.
    Failed,
}

impl Successor {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it, unless the loop has ended. Returns its number.
    fn start(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<u32> {
        // As long as it starts, the end of the loop waits: nothing is started behind its back.
        let mut slot = self.slot();
        if slot.is_closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let child = start()?;
        let pid = child.id();
        slot.child = Some(child);
        Ok(pid)
    }

    /// It serves: the end of this process waits until that is told.
    fn begin_telling(&self) {
        self.slot().is_told = true;
    }

    /// Everybody has been told, and it is on its own; or it was refused, and ends.
    fn end_telling(&self, is_refused: bool) {
        let mut slot = self.slot();
        if is_refused {
            end(&mut slot);
        }
        slot.child = None;
        slot.is_told = false;
        self.0.1.notify_all();
    }

    /// Ends it, if it has not taken our place.
    fn end(&self) {
        end(&mut self.slot());
    }

    /// The loop has ended: ends it, if it has not taken our place, and there will be no other.
    pub(crate) fn close(&self) {
        let mut slot = self.slot();
        slot.is_closed = true;
        while slot.is_told {
            slot = self.0.1.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        end(&mut slot);
    }
}

fn end(slot: &mut Slot) {
    if let Some(mut child) = slot.child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl HandOver {
    /// Starts the program with these words.
    ///
    /// # Errors
    /// In words, when it cannot be started, or the relay drains.
    pub(super) fn begin(
        words: &Result<Vec<OsString>, String>,
        control: &Control,
        inherited: &Inheritance,
        successor: &Successor,
        http: &[(Role, Handed)],
    ) -> Result<Self, String> {
        if std::process::id() == 1 {
            return Err("this process is PID 1, and a container ends with it: start another container".to_owned());
        }
        let words = words.as_ref().map_err(Clone::clone)?;
        let (program, options) = words.split_first().ok_or("the program has no name")?;
        let sockets = match control.hand_over().wait_for(PATIENCE) {
            Some(Ok(sockets)) => sockets,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the loop does not answer".to_owned()),
        };
        let (report, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        report.set_read_timeout(Some(LOOK)).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command
            .args(options)
            .env(LISTENERS, inherited.describe(&sockets, http))
            .stdin(Stdio::from(OwnedFd::from(theirs)));
        for name in OURS {
            command.env_remove(name);
        }
        let sockets: Vec<_> = sockets.iter().chain(http.iter().map(|(_, socket)| socket)).collect();
        let started = successor.start(|| keeping_open(&sockets, || command.spawn()));
        // Its end of the pair is open in it alone, or its death would not be noticed.
        drop(command);
        let pid = started.map_err(|error| format!("{}: {error}", program.display()))?;
        let until = now() + PATIENCE;
        Ok(Self { successor: successor.clone(), pid, stage: Stage::Starting { report, until } })
    }

    /// Looks what it does, for a moment.
    pub(super) fn look(&mut self, control: &Control, notifier: Option<&Notifier>) -> Progress {
        match &mut self.stage {
            Stage::Starting { report, until } => {
                let mut said = [0];
                match report.read(&mut said) {
                    Ok(1..) if said[0] == SERVES => {
                        self.successor.begin_telling();
                        // A stop request may have been first. The loop decides, however long it takes: a question that
                        // nobody waits for would begin the drain later.
                        if control.handed_over().wait().is_err() {
                            self.successor.end_telling(true);
                            info!("process {} was ended: this one was asked to stop", self.pid);
                            return Progress::Failed;
                        }
                        let barrier = notifier.and_then(|notifier| notifier.hand_over(self.pid));
                        self.stage = Stage::Telling { barrier, until: now() + BARRIER };
                        Progress::Serves
                    }
                    Err(error) if is_silence(&error) && now() < *until => Progress::Waits,
                    Err(error) if is_silence(&error) => {
                        self.give_up(&format!("it does not serve after {} s", PATIENCE.as_secs()))
                    }
                    // The loop has ended, and this with it.
                    Ok(_) | Err(_) if self.successor.slot().is_closed => Progress::Failed,
                    Ok(_) | Err(_) => self.give_up("it ended before it served (it has said why)"),
                }
            }
            Stage::Telling { barrier, until } => {
                let is_read = barrier.as_mut().is_none_or(|barrier| match barrier.read(&mut [0]) {
                    Err(error) if is_silence(&error) => now() >= *until,
                    Ok(_) | Err(_) => true,
                });
                if !is_read {
                    return Progress::Waits;
                }
                info!("process {} has the listeners and serves", self.pid);
                Progress::Done
            }
        }
    }

    /// Does the new program serve?
    pub(super) fn has_served(&self) -> bool {
        matches!(self.stage, Stage::Telling { .. })
    }

    /// A stop signal came before it did: it ends.
    pub(super) fn stop(self) {
        self.successor.end();
        info!("process {} was ended: this one was asked to stop", self.pid);
    }

    /// Everybody has been told.
    pub(super) fn finish(self) {
        self.successor.end_telling(false);
    }

    fn give_up(&self, why: &str) -> Progress {
        self.successor.end();
        warn!("process {} does not take over, this one goes on: {why}", self.pid);
        Progress::Failed
    }
}

/// Says to the relay whose place we take that we serve, once the loop has answered.
pub(crate) fn say_when_we_serve(control: Control) -> io::Result<()> {
    let say = move || {
        let said = control.query(Page::Numbers).wait().map(|_| say_that_we_serve());
        if let Ok(Err(error)) = said {
            warn!("the relay before does not hear that this one serves: {error}");
        }
    };
    thread::Builder::new().name("hand-over".into()).spawn(say).map(drop)
}

fn say_that_we_serve() -> io::Result<()> {
    rustix::io::write(io::stdin().as_fd(), &[SERVES])?;
    // It is of no other use.
    let null = File::open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdin(&null)?)
}

/// Programs that are started meanwhile keep these sockets. No other thread starts one.
fn keeping_open<T>(sockets: &[&Handed], start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let set = |flags: FdFlags| sockets.iter().try_for_each(|one| rustix::io::fcntl_setfd(&*one.socket, flags));
    let started = set(FdFlags::empty()).map_err(io::Error::from).and_then(|()| start());
    let closed = set(FdFlags::CLOEXEC);
    debug_assert!(closed.is_ok(), "the sockets are open: {closed:?}");
    started
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::SocketAddr;
    use std::path::Path;

    use tproxy::{Config, Relay};

    use super::*;

    /// A hand-over to a program that sleeps, and the end that this program would write to.
    fn to_a_sleeper(until: Instant) -> (HandOver, UnixStream) {
        let successor = Successor::default();
        let mut sleeper = Command::new("sleep");
        // Should it be left behind, it holds nobody's pipe.
        sleeper.arg("60").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let pid = successor.start(|| sleeper.spawn()).unwrap();
        let (report, theirs) = UnixStream::pair().unwrap();
        report.set_read_timeout(Some(LOOK)).unwrap();
        (HandOver { successor, pid, stage: Stage::Starting { report, until } }, theirs)
    }

    fn is_gone(one: &HandOver) -> bool {
        one.successor.slot().child.is_none() && !Path::new(&format!("/proc/{}", one.pid)).exists()
    }

    #[test]
    fn a_program_that_serves_too_late_is_ended() {
        let (mut one, mut theirs) = to_a_sleeper(now() + PATIENCE);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let relay = Relay::bind(Config::new(any, [SocketAddr::from(([127, 0, 0, 1], 9))])).unwrap();
        let control = relay.control();
        assert_eq!(one.look(&control, None), Progress::Waits, "it has said nothing yet");
        assert!(!is_gone(&one));
        theirs.write_all(&[SERVES]).unwrap();
        // The loop has ended, so it does not agree.
        drop(relay);
        assert_eq!(one.look(&control, None), Progress::Failed);
        assert!(is_gone(&one) && !one.successor.slot().is_told);
    }

    #[test]
    fn a_program_that_says_nothing_is_ended_when_its_time_is_up() {
        let (mut one, _theirs) = to_a_sleeper(now());
        assert_eq!(one.look(&Control::new().unwrap(), None), Progress::Failed);
        assert!(is_gone(&one));
    }

    #[test]
    fn a_new_process_has_the_time_that_readme_gives_it() {
        let readme: Vec<_> = include_str!("../../README.md").split_whitespace().collect();
        assert!(
            readme.join(" ").contains(&format!("waits up to {} s until it says that it serves", PATIENCE.as_secs()))
        );
    }
}
