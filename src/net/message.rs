//! What is said to the loop from outside: by a signal handler, by another thread, by a test.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A name that is looked up. Never used again, so an answer to a name that is forgotten reaches no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u32);

/// What the resolver said: IP addresses, their ports being 0, each once, in the order in which they are to be tried; or in
/// words why there are none.
pub type Answer = Result<Vec<SocketAddr>, String>;

/// What is said to the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Stop: begin the drain, unless it has begun. Requests found in one turn are one.
    Stop,
    /// A stop signal. The first begins the drain; within 300 ms of the first request it is the same request, and later it
    /// does not wait.
    Signal,
    /// Stop without waiting for sessions.
    StopNow,
    /// A name was looked up, or could not be: see [`Net::resolve`](super::Net::resolve).
    Resolved {
        /// The name.
        name: NameId,
        /// The resolver's answer.
        answer: Answer,
    },
}

/// Controls a relay from outside. Clones control the same relay.
///
/// A control belongs to one relay. It may be made before the relay is bound (see
/// [`Relay::bind_with`](crate::Relay::bind_with)), so that a signal that arrives in between is not lost.
///
/// [`AsFd`] gives a descriptor for signal handlers: any byte but 0 and `S` written to it is a stop signal. The first begins
/// the drain. Terminals and supervisors often send two at once, so within 300 ms of the first request a signal is
/// the same request; later it does not wait, as [`stop_now`](Self::stop_now).
#[derive(Debug, Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// A byte written here wakes the loop.
    tx: UnixStream,
    rx: UnixStream,
    /// Messages other than stop requests and signals.
    queue: Mutex<Vec<Message>>,
}

/// A byte that only wakes the loop. Any other is a request.
const WAKE: u8 = 0;

/// A byte that is a stop request. Any other but [`WAKE`] is a stop signal.
const STOP: u8 = b'S';

impl Control {
    /// A control through which nothing was said yet.
    ///
    /// # Errors
    /// When two descriptors cannot be opened (EMFILE, ENFILE).
    pub fn new() -> io::Result<Self> {
        let (tx, rx) = UnixStream::pair()?;
        tx.set_nonblocking(true)?;
        rx.set_nonblocking(true)?;
        Ok(Self { shared: Arc::new(Shared { tx, rx, queue: Mutex::default() }) })
    }

    /// Asks for a stop and returns at once. Begins the drain: clients that have connected are served, no new ones, and the
    /// sessions finish, up to the drain timeout. Asking again changes nothing. Safe to call from any thread, also after the
    /// relay has ended.
    pub fn stop(&self) {
        self.write(STOP);
    }

    /// Resets all sessions and ends the relay, without a drain or in the middle of one. Returns at once.
    pub fn stop_now(&self) {
        self.say(Message::StopNow);
    }

    /// Queues a message and wakes the loop.
    pub(super) fn say(&self, message: Message) {
        self.queue().push(message);
        self.write(WAKE);
    }

    fn write(&self, byte: u8) {
        // The only failure is a full buffer. Then the loop has unread bytes that wake it.
        let _ = (&self.shared.tx).write(&[byte]);
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Message>> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor that the event queue watches.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.shared.rx.as_fd()
    }

    /// Appends everything that was said so far, stop requests as one, and signals as one.
    pub(super) fn take(&self, messages: &mut Vec<Message>) {
        let (mut stop, mut signal) = (false, false);
        let mut room = [0; 64];
        // Until it would block: readiness is edge-triggered. Both ends live in `self`, so 0 cannot come.
        loop {
            match (&self.shared.rx).read(&mut room) {
                Ok(count @ 1..) => {
                    stop |= room[..count].contains(&STOP);
                    signal |= room[..count].iter().any(|byte| ![WAKE, STOP].contains(byte));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        messages.extend(stop.then_some(Message::Stop));
        messages.extend(signal.then_some(Message::Signal));
        messages.append(&mut self.queue());
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.tx.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(control: &Control) -> Vec<Message> {
        let mut messages = Vec::new();
        control.take(&mut messages);
        messages
    }

    #[test]
    fn stop_requests_found_together_are_one() {
        let control = Control::new().unwrap();
        assert_eq!(taken(&control), []);
        for _ in 0..200 {
            control.clone().stop();
        }
        assert_eq!(taken(&control), [Message::Stop]);
        assert_eq!(taken(&control), []);
    }

    #[test]
    fn a_byte_from_a_signal_handler_is_a_stop_signal() {
        let control = Control::new().unwrap();
        let handler = UnixStream::from(control.as_fd().try_clone_to_owned().unwrap());
        (&handler).write_all(b"XX").unwrap();
        assert_eq!(taken(&control), [Message::Signal]);
        control.stop();
        (&handler).write_all(b"X").unwrap();
        assert_eq!(taken(&control), [Message::Stop, Message::Signal]);
    }

    #[test]
    fn a_message_is_no_stop_request() {
        let control = Control::new().unwrap();
        control.stop_now();
        assert_eq!(taken(&control), [Message::StopNow]);
        control.stop_now();
        control.stop();
        assert_eq!(taken(&control), [Message::Stop, Message::StopNow]);
    }

    #[test]
    fn what_is_said_to_a_full_pipe_arrives_all_the_same() {
        let control = Control::new().unwrap();
        for _ in 0..1_000_000 {
            control.stop();
        }
        control.stop_now();
        assert_eq!(taken(&control), [Message::Stop, Message::StopNow]);
    }
}
