//! What systemd is told, if it asked for that (`sd_notify(3)`): READY, RELOADING, STOPPING, WATCHDOG; MAINPID and BARRIER at a
//! hand-over.
//!
//! Nothing here waits for systemd: if its socket is full, the message is left out. WATCHDOG=1 is sent only when the loop
//! itself has answered a query, by a thread that sleeps in between. Without NOTIFY_SOCKET there is neither message nor thread.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
use sd_notify::NotifyState;
use tproxy::net::Page;
use tproxy::{Control, Report};

use super::hand_over::LOOK;
use super::inherit::Start;

/// How long a message waits for the loop's numbers.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells systemd how a relay is.
#[derive(Debug, Clone)]
pub(crate) struct Notifier {
    control: Control,
    /// Between READY and STOPPING.
    serves: Arc<AtomicBool>,
    /// Another process serves in our place, and speaks for itself.
    handed_over: Arc<AtomicBool>,
}

impl Notifier {
    /// If systemd listens.
    pub(crate) fn new(control: &Control) -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET").map(|_| Self {
            control: control.clone(),
            serves: Arc::default(),
            handed_over: Arc::default(),
        })
    }

    /// All listeners are bound. The loop need not run yet. From now on systemd may watch it. In the place of a relay that
    /// serves already there is nothing new to say, and systemd would not listen.
    pub(crate) fn started(&self, listeners: usize, start: Start) {
        self.serves.store(true, Ordering::Relaxed);
        if start == Start::Fresh {
            send(&[NotifyState::Ready, NotifyState::Status(&status(0, listeners))], None);
        }
        // 0 would be an error (`sd_watchdog_enabled(3)`).
        if let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) {
            let control = self.control.clone();
            let handed_over = Arc::clone(&self.handed_over);
            let watch = move || while prove(&control, period / 4, &handed_over) {};
            if let Err(error) = thread::Builder::new().name("watchdog".into()).spawn(watch) {
                log::warn!("systemd's watchdog gets no answer: {error}");
            }
        }
    }

    /// The file is about to be read again.
    pub(super) fn reloading(&self) {
        if self.serves.load(Ordering::Relaxed)
            && let Ok(now) = NotifyState::monotonic_usec_now()
        {
            self.say(&[NotifyState::Reloading, now]);
        }
    }

    /// It was, or could not be: the relay serves.
    pub(super) fn reloaded(&self) {
        if self.serves.load(Ordering::Relaxed) {
            self.say(&[NotifyState::Ready]);
        }
    }

    /// This process serves from now on. What comes back closes when systemd has read that (`sd_notify_barrier(3)`).
    pub(super) fn hand_over(&self, pid: u32) -> Option<UnixStream> {
        self.handed_over.store(true, Ordering::Relaxed);
        send(&[NotifyState::MainPid(pid)], None);
        let (end, theirs) = UnixStream::pair().ok()?;
        end.set_read_timeout(Some(LOOK)).ok()?;
        send(&[NotifyState::Custom("BARRIER=1")], Some(theirs.as_fd()));
        Some(end)
    }

    /// A stop signal has come, or the loop has ended: said once.
    pub(crate) fn stopping(&self) {
        if !self.serves.swap(false, Ordering::Relaxed) || self.handed_over.load(Ordering::Relaxed) {
            return;
        }
        self.say(&[NotifyState::Stopping]);
    }

    /// With the numbers, if the loop has them at once.
    fn say(&self, states: &[NotifyState<'_>]) {
        let report = self.control.query(Page::Numbers).wait_for(PATIENCE).and_then(Result::ok);
        let status = report.map(|report| status_of(&report));
        let status = status.as_deref().map(NotifyState::Status);
        send(&states.iter().cloned().chain(status).collect::<Vec<_>>(), None);
    }
}

/// Pauses, and sends WATCHDOG=1 once the loop has answered. Does the loop still run? systemd wants the message once a period
/// (`sd_watchdog_enabled(3)`), and the pause is a quarter of it.
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
fn prove(control: &Control, pause: Duration, handed_over: &AtomicBool) -> bool {
    thread::sleep(pause);
    // One question at a time: a loop that stands still is asked once.
    let Ok(report) = control.query(Page::Numbers).wait() else { return false };
    if handed_over.load(Ordering::Relaxed) {
        return false;
    }
    send(&[NotifyState::Watchdog, NotifyState::Status(&status_of(&report))], None);
    true
}

fn status_of(report: &Report) -> String {
    status(report.sessions, report.routes)
}

fn status(sessions: usize, routes: usize) -> String {
    let plural = |count| if count == 1 { "" } else { "s" };
    format!("{sessions} session{}, {routes} route{}", plural(sessions), plural(routes))
}

/// Sends these in one message, with a descriptor or without. To fail in that is no failure of the relay.
fn send(states: &[NotifyState<'_>], descriptor: Option<BorrowedFd<'_>>) {
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send_to(&path, text.as_bytes(), descriptor)
    {
        log::debug!("systemd was not told: {error}");
    }
}

fn send_to(path: &OsStr, text: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        _ => SocketAddrUnix::new(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let text = [IoSlice::new(text)];
    Ok(rustix::net::sendmsg_addr(&socket, &address, &text, &mut beside, SendFlags::empty()).map(drop)?)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;

    use super::*;

    #[test]
    fn a_message_arrives_at_a_path_and_at_an_abstract_name_and_never_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let named = format!("tproxy-notify-{}", std::process::id());
        let reader = UnixDatagram::bind(&path).unwrap();
        let other = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&named).unwrap()).unwrap();
        for (reader, to) in [(&reader, path.as_os_str().to_owned()), (&other, format!("@{named}").into())] {
            send_to(&to, b"READY=1\n", None).unwrap();
            let mut text = [0; 64];
            let count = reader.recv(&mut text).unwrap();
            assert_eq!(&text[..count], b"READY=1\n");
        }
        let full = (0..100_000).find_map(|_| send_to(path.as_os_str(), b"x", None).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(reader);
        assert!(send_to(path.as_os_str(), b"x", None).is_err());
    }

    #[test]
    fn a_status_is_for_people() {
        assert_eq!(status(0, 1), "0 sessions, 1 route");
        assert_eq!(status(1, 2), "1 session, 2 routes");
    }
}
