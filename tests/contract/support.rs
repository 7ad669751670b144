//! A relay in this process, peers at both ends of it, and what they can do and see. Every wait has a limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, sockopt};
use tproxy::net::Peer;
use tproxy::{Config, Control, Relay, ResetGrace, Splice, Totals};

pub(crate) use crate::kernel::*;

/// The longest a test waits for anything before it fails. Nothing takes this long but on a machine that is very busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Every case runs in each of these.
const MODES: [Splice; 3] = [Splice::Auto, Splice::Off, Splice::On];

/// Runs a test in every splice mode, all at the same time. A failure names the mode.
pub(crate) fn every_mode(test: impl Fn(Splice) + Sync) {
    let failed: Vec<_> = thread::scope(|scope| {
        let test = &test;
        let runs = MODES.map(|splice| (splice, named(&format!("splice {splice:?}"), scope, move || test(splice))));
        runs.into_iter().filter_map(|(splice, run)| run.join().is_err().then_some(splice)).collect()
    });
    assert!(failed.is_empty(), "failed with splice {failed:?}");
}

/// A thread whose panic begins with this name.
fn named<'scope, T: Send + 'scope>(
    name: &str,
    scope: &'scope thread::Scope<'scope, '_>,
    act: impl FnOnce() -> T + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, T> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, act).unwrap()
}

/// A relay that runs in its own thread, and is stopped with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) control: Control,
    totals: Receiver<Totals>,
    thread: Option<JoinHandle<()>>,
}

/// What the configuration of a relay is before a test changes it.
pub(crate) fn config(splice: Splice, to: impl IntoIterator<Item = SocketAddr>) -> Config {
    let mut config = Config::new(([127, 0, 0, 1], 0).into(), to);
    config.splice = splice;
    // A machine that is very busy stops a reader for long; only the tests of this time make it short.
    config.routes[0].reset_grace = ResetGrace::Fixed(LIMIT);
    config
}

/// Binds a relay, lets `before` happen while nobody serves, and runs it.
pub(crate) fn start_after(config: Config, before: impl FnOnce(SocketAddr)) -> Running {
    let relay = Relay::bind(config).unwrap();
    before(relay.local_addr());
    start_relay(relay)
}

/// Runs a relay that is bound.
pub(crate) fn start_relay(relay: Relay) -> Running {
    let (address, control) = (relay.local_addr(), relay.control());
    let (tell, totals) = sync_channel(1);
    let thread = thread::spawn(move || tell.send(relay.run().unwrap()).unwrap());
    Running { address, control, totals, thread: Some(thread) }
}

pub(crate) fn start(config: Config) -> Running {
    start_after(config, |_| {})
}

impl Running {
    /// A client of this relay.
    pub(crate) fn client(&self) -> TcpStream {
        limited(TcpStream::connect(self.address).unwrap())
    }

    /// Waits for the end.
    pub(crate) fn totals(&self) -> Totals {
        self.totals.recv_timeout(LIMIT).expect("the relay should have ended")
    }

    /// Has it not ended, for a moment?
    pub(crate) fn is_still_running(&self) -> bool {
        self.totals.recv_timeout(Duration::from_millis(50)).is_err()
    }

    /// Asks for a stop and waits for the end.
    pub(crate) fn stop(&self) -> Totals {
        self.control.stop();
        self.totals()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A dropped test has no sessions left to keep.
        let thread = self.thread.take().unwrap();
        let gave_up = Instant::now_by(LIMIT);
        while !thread.is_finished() && !gave_up() {
            self.control.stop_now();
            pause();
        }
        if !thread::panicking() {
            thread.join().unwrap();
        }
    }
}

/// A clock that says when a limit has passed.
trait Limits {
    fn now_by(limit: Duration) -> impl Fn() -> bool;
}

impl Limits for Instant {
    #[expect(clippy::disallowed_methods, reason = "a test has no turn to take the time from")]
    fn now_by(limit: Duration) -> impl Fn() -> bool {
        let began = Self::now();
        move || began.elapsed() >= limit
    }
}

/// How long something took.
#[expect(clippy::disallowed_methods, reason = "a test has no turn to take the time from")]
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    (act(), began.elapsed())
}

/// How long the quickest of ten tries takes. A fault of the relay makes each of them slow; a busy machine hardly ever.
pub(crate) fn quickest(mut act: impl FnMut()) -> Duration {
    (0..10).map(|_| timed(&mut act).1).min().unwrap()
}

/// Lets others run for a moment, between two looks at a condition.
#[expect(clippy::disallowed_methods, reason = "no event tells of the other side's kernel; the caller has a limit")]
fn pause() {
    thread::sleep(Duration::from_millis(1));
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let gave_up = Instant::now_by(LIMIT);
    while !holds() {
        assert!(!gave_up(), "waited in vain until {what}");
        pause();
    }
}

/// Both ends of a session: `near` does something, `far` sees it.
pub(crate) struct Ends {
    pub(crate) near: TcpStream,
    pub(crate) far: TcpStream,
}

/// A listener on loopback whose accept(2) has a limit, too.
pub(crate) fn listener() -> TcpListener {
    listener_at("127.0.0.1:0")
}

pub(crate) fn listener_at(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(LIMIT)).unwrap();
    listener
}

/// A relay with an upstream that accepts when told to.
pub(crate) struct Bench {
    pub(crate) relay: Running,
    pub(crate) upstream: TcpListener,
}

pub(crate) fn bench(splice: Splice, change: impl FnOnce(&mut Config)) -> Bench {
    let upstream = listener();
    let mut config = config(splice, [upstream.local_addr().unwrap()]);
    change(&mut config);
    Bench { relay: start(config), upstream }
}

impl Bench {
    /// A session: the client's stream and the upstream's.
    pub(crate) fn session(&self) -> (TcpStream, TcpStream) {
        let client = self.relay.client();
        (client, limited(self.upstream.accept().unwrap().0))
    }
}

/// Runs a case in every splice mode: with the client as the near end, then with the upstream. A failure names both.
pub(crate) fn both_ways(change: impl Fn(&mut Config) + Sync, case: impl Fn(Ends) + Sync) {
    both_ways_then(change, case, |_, _| {});
}

/// The same with bulk, which goes through pipes if the mode says so; behind an urgent byte it is copied again.
pub(crate) fn bulk_both_ways(case: impl Fn(Ends) + Sync) {
    both_ways_then(
        |_| {},
        case,
        |splice, Totals { spliced, .. }| match splice {
            Splice::On if cfg!(target_os = "linux") => assert!(spliced > 0, "everything was copied"),
            Splice::Off => assert_eq!(spliced, 0),
            // How soon two reads bring much is the kernel's to say.
            Splice::On | Splice::Auto => {}
        },
    );
}

fn both_ways_then(
    change: impl Fn(&mut Config) + Sync,
    case: impl Fn(Ends) + Sync,
    judge: impl Fn(Splice, Totals) + Sync,
) {
    every_mode(|splice| {
        let bench = bench(splice, &change);
        for peer in Peer::BOTH {
            let (client, upstream) = bench.session();
            let ends = match peer {
                Peer::Client => Ends { near: client, far: upstream },
                Peer::Upstream => Ends { near: upstream, far: client },
            };
            let name = format!("splice {splice:?}, the near end is the {peer:?}");
            let ended = thread::scope(|scope| named(&name, scope, || case(ends)).join());
            assert!(ended.is_ok(), "failed with {name}");
        }
        judge(splice, bench.relay.stop());
    });
}

/// No call on this stream takes longer than the limit.
pub(crate) fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// How a stream ended, for who reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Fin,
    Reset,
}

/// Bytes that a test says at most. Somebody who never ends would fill the machine's memory.
const MOST: u64 = 1 << 30;

/// Everything there is to read, and how it ended.
pub(crate) fn read_all(stream: &TcpStream) -> (Vec<u8>, Ended) {
    let mut all = Vec::new();
    let ended = match stream.take(MOST).read_to_end(&mut all) {
        Ok(count) if count as u64 == MOST => panic!("there is no end"),
        Ok(_) => Ended::Fin,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ended::Reset,
        Err(error) => panic!("after {} bytes: {error}", all.len()),
    };
    (all, ended)
}

/// How it ends, after nothing.
pub(crate) fn end_of(stream: &TcpStream) -> Ended {
    let (rest, ended) = read_all(stream);
    assert_eq!(rest.len(), 0, "nothing was to come but the end");
    ended
}

/// How it ends, whatever comes before.
pub(crate) fn throw_away(mut stream: &TcpStream) -> Ended {
    match io::copy(&mut stream, &mut io::sink()) {
        Ok(_) => Ended::Fin,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            Ended::Reset
        }
    }
}

pub(crate) fn read_exactly(mut stream: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

pub(crate) fn say(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
}

/// A FIN.
pub(crate) fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// A reset.
pub(crate) fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// An urgent byte.
pub(crate) fn say_urgently(stream: &TcpStream, byte: u8) {
    assert_eq!(rustix::net::send(stream, &[byte], SendFlags::OOB).unwrap(), 1);
}

/// Writes until nobody takes anything any more, for a moment. How much was taken?
pub(crate) fn clog(mut stream: &TcpStream) -> u64 {
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let chunk = vec![0xC1; 256 << 10];
    let mut taken = 0;
    let error = loop {
        match stream.write(&chunk) {
            Ok(count) => taken += count as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    taken
}

/// Goes on writing until it is told that this is no use.
pub(crate) fn error_of_writing_on(mut stream: &TcpStream) -> ErrorKind {
    let chunk = vec![0; 64 << 10];
    loop {
        if let Err(error) = stream.write(&chunk) {
            return error.kind();
        }
    }
}

/// Byte `i` of the stream `key`: any loss, repetition or mix-up shows.
pub(crate) fn keyed(key: u64, length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(key);
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

/// Is a new client refused?
pub(crate) fn is_refused(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, LIMIT) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            true
        }
    }
}

/// The error of a call that should fail.
pub(crate) fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Takes its time, as a slow reader does: this is what the test is about and waits for nothing.
#[expect(clippy::disallowed_methods, reason = "slowness is the subject here, not a way to wait")]
pub(crate) fn linger() {
    thread::sleep(Duration::from_millis(10));
}

/// Tells other threads of the end when it is dropped, also if the test panics: a scope waits for them.
pub(crate) struct AtTheEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
