//! Name lookups, on threads of their own: getaddrinfo(3) blocks, for as long as name servers are silent.
//!
//! ```text
//!   ask ──► fewer than 8 threads: a new one ──► getaddrinfo ──► Message::Resolved ──► the next of the queue, or the end
//!      └──► else: the queue, first in, first out ──────────────────────────────────────────┘
//! ```
//! A thread lives while there is something to look up, so an idle relay has none. Nothing ever waits for one: it is
//! detached. It holds no descriptor of the relay either, so a relay can end while a name server is silent.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::found::answer;
use crate::net::Control;
use crate::net::message::{Answer, Message, NameId};

/// Threads at a time. A name server that is silent holds one for up to a minute or so (`resolv.conf(5)`, timeout and
/// attempts), and delays only the names that wait behind it.
const THREADS_MAX: usize = 8;

/// What a thread may use of its stack, as std has it. glibc puts whole answers of DNS there.
const STACK: usize = 2 << 20;

/// All addresses behind a name, as the system's resolver has them.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The threads that look names up, and the questions that wait for one.
#[derive(Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
    stack: usize,
}

struct Shared {
    look_up: Box<LookUp>,
    desk: Mutex<Desk>,
}

#[derive(Debug)]
struct Desk {
    /// Where answers go. None once the relay is gone: they go nowhere.
    control: Option<Control>,
    /// Threads that run. One that has left this count asks for nothing any more.
    threads: usize,
    /// Empty while there are fewer than [`THREADS_MAX`] threads.
    waiting: VecDeque<Question>,
}

#[derive(Debug)]
struct Question {
    name: NameId,
    host: String,
}

impl Resolver {
    /// Its answers are said to `control`.
    pub(super) fn new(control: Control) -> Self {
        Self::with(control, getaddrinfo)
    }

    /// One that looks names up in another way.
    fn with(control: Control, look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        let desk = Desk { control: Some(control), threads: 0, waiting: VecDeque::new() };
        Self { shared: Arc::new(Shared { look_up: Box::new(look_up), desk: Mutex::new(desk) }), stack: STACK }
    }

    /// Looks up a name and returns at once. Exactly one answer comes, whatever happens.
    pub(super) fn ask(&self, name: NameId, host: &str) {
        let question = Question { name, host: host.to_owned() };
        let mut desk = self.shared.desk();
        if desk.threads == THREADS_MAX {
            desk.waiting.push_back(question);
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("resolver".into()).stack_size(self.stack);
        match thread.spawn(move || shared.work(question)) {
            // Its first look at the desk comes after this: the desk is locked.
            Ok(_) => desk.threads += 1,
            Err(error) => desk.say(name, Err(format!("no thread to look it up: {error}"))),
        }
    }
}

impl Drop for Resolver {
    /// The relay is gone. Lookups under way end in their own time.
    fn drop(&mut self) {
        let mut desk = self.shared.desk();
        desk.control = None;
        desk.waiting.clear();
    }
}

impl Shared {
    /// The life of a thread.
    fn work(&self, first: Question) {
        let mut next = Some(first);
        while let Some(Question { name, host }) = next {
            let found = catch_unwind(AssertUnwindSafe(|| (self.look_up)(&host)));
            let answer = found.map_or_else(|_| Err("looking it up panicked".to_owned()), answer);
            next = self.desk().finish(name, answer);
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Hands an answer in, and takes the next question. Without one the thread ends.
    fn finish(&mut self, name: NameId, answer: Answer) -> Option<Question> {
        self.say(name, answer);
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.threads -= 1;
        }
        next
    }

    fn say(&self, name: NameId, answer: Answer) {
        if let Some(control) = &self.control {
            control.say(Message::Resolved { name, answer });
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("desk", &self.desk).finish_non_exhaustive()
    }
}

/// Looks up a name as an upstream's is, and takes as long as that does: for a program that has no loop yet.
pub fn look_up(host: &str) -> Answer {
    answer(getaddrinfo(host))
}

fn getaddrinfo(host: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((host, 0).to_socket_addrs()?.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::net::mio::Mio;
    use crate::net::mio::found::addresses;
    use crate::net::{Net as _, Sleep, Time};

    /// The longest a test waits for anything before it fails.
    const LIMIT: Duration = Duration::from_secs(20);

    type Found = io::Result<Vec<SocketAddr>>;

    /// The event queue of a relay, and lookups that take as long as the test wants.
    struct Rig {
        net: Mio,
        began: Receiver<Lookup>,
        told: Vec<(NameId, Answer)>,
    }

    /// A lookup that has begun, and hangs until it is told what it finds.
    struct Lookup {
        host: String,
        tell: Sender<Found>,
    }

    impl Rig {
        fn new() -> Self {
            let (begin, began) = channel();
            Self::with(began, move |host| {
                let (tell, told) = channel();
                begin.send(Lookup { host: host.to_owned(), tell }).unwrap();
                told.recv_timeout(LIMIT).unwrap()
            })
        }

        fn with(began: Receiver<Lookup>, look_up: impl Fn(&str) -> Found + Send + Sync + 'static) -> Self {
            let control = Control::new().unwrap();
            let resolver = Resolver::with(control.clone(), look_up);
            Self { net: Mio { resolver, ..Mio::new(control).unwrap() }, began, told: Vec::new() }
        }

        fn ask(&mut self, numbers: impl IntoIterator<Item = u32>) {
            for number in numbers {
                self.net.resolve(NameId(number), &number.to_string());
            }
        }

        /// The next lookup that begins.
        fn began(&self) -> Lookup {
            self.began.recv_timeout(LIMIT).unwrap()
        }

        /// The next answer.
        fn answer(&mut self) -> (NameId, Answer) {
            let (mut ready, mut messages) = (Vec::new(), Vec::new());
            let until = self.net.wait(Sleep::Not, &mut ready, &mut messages).unwrap() + LIMIT;
            loop {
                for message in messages.drain(..) {
                    let Message::Resolved { name, answer } = message else { panic!("{message:?}") };
                    self.told.push((name, answer));
                }
                if !self.told.is_empty() {
                    return self.told.remove(0);
                }
                let now: Time = self.net.wait(Sleep::Until(until), &mut ready, &mut messages).unwrap();
                assert!(now < until || !messages.is_empty(), "there is no answer");
            }
        }

        fn shared(&self) -> Arc<Shared> {
            Arc::clone(&self.net.resolver.shared)
        }

        fn threads(&self) -> usize {
            self.shared().desk().threads
        }

        /// Is no thread left? The last answer is said, and its thread leaves the count, while the desk is locked.
        fn assert_no_thread(&self) {
            assert_eq!((self.threads(), self.shared().desk().waiting.len()), (0, 0));
        }
    }

    impl Lookup {
        fn finds(self, found: Found) {
            self.tell.send(found).unwrap();
        }
    }

    fn failure(words: &str) -> Found {
        Err(io::Error::other(words.to_owned()))
    }

    #[test]
    fn a_hung_lookup_delays_no_other() {
        let mut rig = Rig::new();
        rig.ask([0]);
        let hung = rig.began();
        for number in 1..20 {
            rig.ask([number]);
            rig.began().finds(Ok(addresses(&["10.0.0.1"])));
            assert_eq!(rig.answer(), (NameId(number), Ok(addresses(&["10.0.0.1"]))));
        }
        hung.finds(failure("timed out"));
        assert_eq!(rig.answer(), (NameId(0), Err("timed out".to_owned())));
    }

    #[test]
    fn the_ninth_question_waits_for_a_thread() {
        let mut rig = Rig::new();
        rig.ask(0..9);
        let mut hung: Vec<_> = (0..8).map(|_| rig.began()).collect();
        let begun: BTreeSet<_> = hung.iter().map(|lookup| lookup.host.clone()).collect();
        assert_eq!(begun, (0..8).map(|number| number.to_string()).collect());
        assert_eq!((rig.threads(), rig.shared().desk().waiting.len()), (8, 1));
        assert!(rig.began.try_recv().is_err());
        hung.remove(3).finds(failure("timed out"));
        let ninth = rig.began();
        assert_eq!((ninth.host.as_str(), rig.threads()), ("8", 8));
    }

    #[test]
    fn questions_that_wait_are_asked_in_their_order() {
        let mut rig = Rig::new();
        rig.ask(0..30);
        let mut running: VecDeque<_> = (0..8).map(|_| rig.began()).collect();
        for number in 8..30 {
            running.pop_front().unwrap().finds(failure("timed out"));
            let next = rig.began();
            assert_eq!(next.host, number.to_string());
            running.push_back(next);
        }
    }

    #[test]
    fn no_thread_is_left_when_nothing_is_asked() {
        let mut rig = Rig::new();
        rig.assert_no_thread();
        for round in 0..3 {
            rig.ask(0..20);
            assert_eq!(rig.threads(), 8, "{round}");
            for _ in 0..20 {
                rig.began().finds(Ok(addresses(&["::1"])));
                assert!(rig.answer().1.is_ok());
            }
            rig.assert_no_thread();
        }
    }

    #[test]
    fn every_question_gets_exactly_one_answer() {
        let none = channel().1;
        let mut rig = Rig::with(none, |host| match host.parse::<u32>().unwrap() % 4 {
            0 => Ok(addresses(&["10.0.0.1", "::1"])),
            1 => Ok(Vec::new()),
            2 => failure("temporary failure"),
            _ => panic!("a test's own"),
        });
        rig.ask(0..200);
        let answers: Vec<_> = (0..200).map(|_| rig.answer()).collect();
        rig.assert_no_thread();
        assert_eq!((rig.told.len(), answers.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len()), (0, 200));
        for (NameId(number), answer) in answers {
            let expected = match number % 4 {
                0 => Ok(addresses(&["10.0.0.1", "::1"])),
                1 => Err("the name has no address".to_owned()),
                2 => Err("temporary failure".to_owned()),
                _ => Err("looking it up panicked".to_owned()),
            };
            assert_eq!(answer, expected, "{number}");
        }
    }

    #[test]
    fn a_question_without_a_thread_is_answered_with_why() {
        let mut rig = Rig::new();
        // More than there is of the address space.
        rig.net.resolver.stack = 1 << 48;
        rig.ask([7]);
        let (name, answer) = rig.answer();
        let words = answer.unwrap_err();
        assert!(name == NameId(7) && words.starts_with("no thread to look it up: "), "{words}");
        rig.assert_no_thread();
        rig.net.resolver.stack = STACK;
        rig.ask([8]);
        rig.began().finds(Ok(addresses(&["::1"])));
        assert_eq!(rig.answer(), (NameId(8), Ok(addresses(&["::1"]))));
    }

    #[test]
    fn a_relay_that_ends_waits_for_no_lookup_and_leaves_it_nothing() {
        let mut rig = Rig::new();
        rig.ask(0..12);
        let hung: Vec<_> = (0..8).map(|_| rig.began()).collect();
        let Rig { net, began, .. } = rig;
        let (shared, control) = (Arc::clone(&net.resolver.shared), net.control.clone());
        drop(net);
        assert!(shared.desk().control.is_none(), "a thread that hangs keeps the relay's descriptors open");
        hung.into_iter().for_each(|lookup| lookup.finds(Ok(addresses(&["::1"]))));
        // The last thread that ends takes the sender with it, and the four that waited were never asked.
        let weak = Arc::downgrade(&shared);
        drop(shared);
        assert_eq!(began.recv_timeout(LIMIT).err(), Some(RecvTimeoutError::Disconnected));
        assert_eq!(weak.strong_count(), 0);
        let mut messages = Vec::new();
        control.take(&mut messages);
        assert!(messages.is_empty(), "{messages:?}");
    }

    #[test]
    fn what_the_system_says_of_a_name_is_told_without_ornaments() {
        let mut rig = Rig::new();
        let control = rig.net.control.clone();
        rig.net.resolver = Resolver::new(control);
        // It never exists (RFC 6761), and is longer than a label may be: no name server is asked.
        rig.net.resolve(NameId(1), &format!("{}.invalid", "a".repeat(64)));
        let words = rig.answer().1.unwrap_err();
        assert!(!words.is_empty() && !words.contains("lookup address information"), "{words}");
    }

    #[test]
    fn localhost_is_found_as_every_program_finds_it() {
        let mut rig = Rig::new();
        let control = rig.net.control.clone();
        rig.net.resolver = Resolver::new(control);
        rig.net.resolve(NameId(1), "localhost");
        let found = rig.answer().1.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 0), "{found:?}");
        assert!(!found.is_empty());
    }
}
