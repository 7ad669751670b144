//! What is said to the loop from outside: by a signal handler, by another thread, by a test.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::handed::Handed;
use super::reply::{Pending, Reloaded, Reply};
use super::report::{Page, Query, Report};
use crate::config::Config;
use crate::error::Error;

/// A name that is looked up. Never used again, so an answer to a name that is forgotten reaches no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u32);

/// What the resolver said: IP addresses, their ports being 0, each once, in the order in which they are to be tried; or in
/// words why there are none.
pub type Answer = Result<Vec<SocketAddr>, String>;

/// What is said to the loop.
#[derive(Debug)]
#[non_exhaustive]
pub enum Message {
    /// Stop: begin the drain, unless it has begun. Requests found in one turn are one.
    Stop,
    /// A stop signal. The first begins the drain; within 300 ms of the first request it is the same request, and later it
    /// does not wait.
    Signal,
    /// Stop without waiting for sessions.
    StopNow,
    /// Serve these routes from now on; the answer says what has changed.
    Reload(Box<Config>, Reply),
    /// Which listening sockets has it? They are to be handed over to another process. Nothing changes yet.
    HandOver(Reply<Vec<Handed>>),
    /// Another process has them and serves: begin the drain, without a delay and without the clients in their queues. Refused
    /// when the relay was asked to stop.
    HandedOver(Reply<()>),
    /// How is it? The answer is what is so at the beginning of a turn.
    Query(Query),
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
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: Vec<Message>,
    /// The loop has ended: nothing will be taken any more.
    has_ended: bool,
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

    /// Serves the routes of `config` from now on, and waits until the loop has done that. So it is not to be called by the
    /// thread that runs the relay, and it waits as long as the relay is not running yet.
    ///
    /// A listener stays if its route's `from` is the same as before; then no client is refused or reset. A new one is
    /// bound before anything changes. One that is removed serves the clients that had connected, then closes. Sessions
    /// keep the settings they began with. What all routes share stays as it was at start: see
    /// [`Reloaded::needs_restart`].
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// # use tproxy::{Config, Relay, Route};
    /// # let [db, spare, web] = [([127, 0, 0, 1], 1), ([127, 0, 0, 1], 2), ([127, 0, 0, 1], 3)].map(SocketAddr::from);
    /// let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    /// let relay = Relay::bind(Config::new(anywhere, [db]))?;
    /// let (front, control) = (relay.local_addr(), relay.control());
    /// let running = std::thread::spawn(|| relay.run());
    ///
    /// // The first route keeps its listener and gets a spare upstream; the second is new.
    /// let routes = [Route::new(anywhere, [db, spare]), Route::new(anywhere, [web])];
    /// let reloaded = control.reload(Config::of(routes))?;
    /// assert_eq!((reloaded.changed, reloaded.added, reloaded.removed), (1, 1, 0));
    /// assert_eq!(reloaded.local_addrs[0], front);
    ///
    /// control.stop();
    /// running.join().unwrap()?;
    /// # Ok::<(), tproxy::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Listen`], [`Error::Overlap`] and [`Error::Loop`] say what is wrong with `config`.
    /// [`Error::Draining`] and [`Error::Ended`] say that it is too late. Whatever the error, nothing has changed.
    pub fn reload(&self, config: Config) -> Result<Reloaded, Error> {
        let (reply, pending) = Reply::new();
        self.say(Message::Reload(Box::new(config), reply));
        pending.wait()
    }

    /// Asks how the relay is, and for a page of its sessions or routes. Returns at once; the loop answers in its next turn.
    pub fn query(&self, page: Page) -> Pending<Report> {
        let (query, pending) = Query::new(page);
        self.say(Message::Query(query));
        pending
    }

    /// The listening sockets, for the program that takes the relay's place: see [`Inherited::left`]. Nothing changes yet.
    /// Returns at once; the loop answers in its next turn.
    ///
    /// [`Inherited::left`]: super::mio::Inherited::left
    pub fn hand_over(&self) -> Pending<Vec<Handed>> {
        let (reply, pending) = Reply::new();
        self.say(Message::HandOver(reply));
        pending
    }

    /// Another process has the listening sockets and serves. This one begins the drain, without
    /// [`drain_delay`](Config::drain_delay): it accepts nobody any more, and leaves the files of Unix sockets. If it was asked
    /// to stop before, that is refused ([`Error::Draining`]), and the other process is to end. Returns at once; the loop answers
    /// in its next turn.
    pub fn handed_over(&self) -> Pending<()> {
        let (reply, pending) = Reply::new();
        self.say(Message::HandedOver(reply));
        pending
    }

    /// Queues a message and wakes the loop. When the loop has ended, the message is dropped.
    pub(super) fn say(&self, message: Message) {
        let mut queue = self.queue();
        if queue.has_ended {
            return;
        }
        // The first wakes the loop, which takes all of them. So they cannot fill the buffer, and a stop request has room.
        let wake = queue.messages.is_empty();
        queue.messages.push(message);
        drop(queue);
        if wake {
            self.write(WAKE);
        }
    }

    /// The loop has ended. What was said and not taken is dropped, and so is what will be said.
    pub(super) fn end(&self) {
        let mut queue = self.queue();
        queue.has_ended = true;
        let left = std::mem::take(&mut queue.messages);
        drop(queue);
        drop(left);
    }

    fn write(&self, byte: u8) {
        // The only failure is a full buffer. Then the loop has unread bytes that wake it.
        let _ = (&self.shared.tx).write(&[byte]);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
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
        messages.append(&mut self.queue().messages);
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.tx.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::time::Duration;

    use ::mio::unix::SourceFd;
    use ::mio::{Events, Interest, Poll, Token};

    use super::*;

    /// What was said, in the words of `Debug`.
    fn taken(control: &Control) -> Vec<String> {
        let mut messages = Vec::new();
        control.take(&mut messages);
        messages.iter().map(|message| format!("{message:?}")).collect()
    }

    fn config() -> Config {
        Config::new(([127, 0, 0, 1], 0).into(), [([127, 0, 0, 1], 80).into()])
    }

    #[test]
    fn stop_requests_found_together_are_one() {
        let control = Control::new().unwrap();
        assert!(taken(&control).is_empty());
        for _ in 0..200 {
            control.clone().stop();
        }
        assert_eq!(taken(&control), ["Stop"]);
        assert!(taken(&control).is_empty());
    }

    #[test]
    fn a_stop_request_is_kept_whatever_is_said_before_and_behind_it() {
        for said in [0, 1, 63, 64, 65, 200] {
            let control = Control::new().unwrap();
            let handler = UnixStream::from(control.as_fd().try_clone_to_owned().unwrap());
            control.stop();
            (&handler).write_all(b"X").unwrap();
            (0..said).for_each(|_| control.write(WAKE));
            assert_eq!(taken(&control), ["Stop", "Signal"], "{said}");
        }
    }

    #[test]
    fn answers_that_nobody_has_taken_yet_leave_room_for_a_stop_request() {
        let control = Control::new().unwrap();
        let handler = UnixStream::from(control.as_fd().try_clone_to_owned().unwrap());
        // More than the buffer has room for.
        for number in 0..100_000 {
            control.say(Message::Resolved { name: NameId(number), answer: Err("no such host".to_owned()) });
        }
        control.stop();
        (&handler).write_all(b"X").unwrap();
        let said = taken(&control);
        assert_eq!((&said[..2], said.len()), (&["Stop".to_owned(), "Signal".to_owned()][..], 100_002));
        control.stop_now();
        assert_eq!((&control.shared.rx).read(&mut [0; 9]).ok(), Some(1), "the next message wakes the loop again");
    }

    #[test]
    fn a_byte_from_a_signal_handler_is_a_stop_signal() {
        let control = Control::new().unwrap();
        let handler = UnixStream::from(control.as_fd().try_clone_to_owned().unwrap());
        (&handler).write_all(b"XX").unwrap();
        assert_eq!(taken(&control), ["Signal"]);
        control.stop();
        (&handler).write_all(b"X").unwrap();
        assert_eq!(taken(&control), ["Stop", "Signal"]);
    }

    #[test]
    fn a_message_is_no_stop_request() {
        let control = Control::new().unwrap();
        control.stop_now();
        assert_eq!(taken(&control), ["StopNow"]);
        control.stop_now();
        control.stop();
        assert_eq!(taken(&control), ["Stop", "StopNow"]);
    }

    #[test]
    fn what_is_said_to_a_full_pipe_arrives_all_the_same() {
        let control = Control::new().unwrap();
        for _ in 0..1_000_000 {
            control.stop();
        }
        control.stop_now();
        assert_eq!(taken(&control), ["Stop", "StopNow"]);
    }

    /// The loop sleeps until the edge of an event. Had it taken the queue before that was read, it could sleep for ever.
    #[test]
    fn no_message_waits_while_the_loop_sleeps() {
        const COUNT: usize = 5_000;
        let control = Control::new().unwrap();
        let saying = control.clone();
        let saying = std::thread::spawn(move || {
            for _ in 0..COUNT {
                // Each comes just when the one before was taken.
                while !saying.queue().messages.is_empty() {
                    std::thread::yield_now();
                }
                saying.stop_now();
            }
        });
        let mut poll = Poll::new().unwrap();
        let descriptor = control.wake_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE).unwrap();
        let (mut events, mut messages) = (Events::with_capacity(1), Vec::new());
        while messages.len() < COUNT {
            poll.poll(&mut events, Some(Duration::from_secs(30))).unwrap();
            assert!(!events.is_empty(), "{} of {COUNT} were taken, and nothing wakes the loop", messages.len());
            control.take(&mut messages);
        }
        saying.join().unwrap();
    }

    #[test]
    fn a_reload_waits_for_its_answer() {
        let control = Control::new().unwrap();
        let asking = control.clone();
        let asking = std::thread::spawn(move || asking.reload(config()));
        let mut messages = Vec::new();
        while messages.is_empty() {
            control.take(&mut messages);
            std::thread::yield_now();
        }
        let Some(Message::Reload(asked, reply)) = messages.pop() else { panic!("{messages:?}") };
        assert_eq!(*asked, config());
        reply.send(Ok(Reloaded { kept: 7, ..Reloaded::default() }));
        assert_eq!(asking.join().unwrap().unwrap().kept, 7);
    }

    #[test]
    fn a_reload_does_not_wait_for_a_loop_that_has_ended_or_ends() {
        let control = Control::new().unwrap();
        let asking = control.clone();
        let asking = std::thread::spawn(move || asking.reload(config()));
        while control.queue().messages.is_empty() {
            std::thread::yield_now();
        }
        control.end();
        assert!(matches!(asking.join().unwrap(), Err(Error::Ended)));
        assert!(matches!(control.reload(config()), Err(Error::Ended)));
    }
}
