//! How a relay is told to stop: by a signal handler, by another thread, by a test.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Asks a relay to stop. Clones control the same relay.
///
/// The first request begins the drain: no new clients, the sessions finish, up to the drain timeout. A later one does
/// not wait: what is left is reset at once. Requests that the relay finds together, in one turn of its loop, are one.
///
/// A control belongs to one relay. It may be made before the relay is bound (see
/// [`Relay::bind_with`](crate::Relay::bind_with)), so that a signal which arrives in between is not lost.
///
/// [`AsFd`] gives a descriptor to write one byte to, which is a request too: that is what a signal handler can do.
#[derive(Debug, Clone)]
pub struct Control {
    pipe: Arc<SelfPipe>,
}

#[derive(Debug)]
struct SelfPipe {
    tx: UnixStream,
    rx: UnixStream,
}

impl Control {
    /// A control through which nothing was asked yet.
    ///
    /// # Errors
    /// When the process has no two descriptors left (EMFILE, ENFILE).
    pub fn new() -> io::Result<Self> {
        let (tx, rx) = UnixStream::pair()?;
        tx.set_nonblocking(true)?;
        rx.set_nonblocking(true)?;
        Ok(Self { pipe: Arc::new(SelfPipe { tx, rx }) })
    }

    /// Asks for a stop and returns at once. Safe to call at any time, from any thread, after the relay is gone too.
    pub fn stop(&self) {
        // The only failure is a full queue, and then the relay has more than one request to find.
        let _ = (&self.pipe.tx).write(b"x");
    }

    /// What the event queue watches.
    pub(super) fn rx(&self) -> BorrowedFd<'_> {
        self.pipe.rx.as_fd()
    }

    /// Takes every request that came so far; was there any?
    pub(super) fn take_requests(&self) -> bool {
        let mut asked = false;
        let mut room = [0; 64];
        // Until it is dry: readiness is edge-triggered. Both ends live in `self`, so 0 cannot come.
        loop {
            match (&self.pipe.rx).read(&mut room) {
                Ok(1..) => asked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return asked,
            }
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.tx.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_found_together_are_one() {
        let control = Control::new().unwrap();
        assert!(!control.take_requests());
        for _ in 0..200 {
            control.clone().stop();
        }
        assert!(control.take_requests());
        assert!(!control.take_requests());
    }

    #[test]
    fn stop_returns_even_when_nobody_listens() {
        let control = Control::new().unwrap();
        for _ in 0..1_000_000 {
            control.stop();
        }
        assert!(control.take_requests());
    }
}
