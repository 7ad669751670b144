//! An upstream that says everything again, and the clients that check it.

use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Clients a second, and the threads that are they.
const RATE: u32 = 1000;
const CLIENTS: u32 = 40;

/// What comes later is a failure, and does not hold up the test.
const LIMIT: Duration = Duration::from_secs(20);

/// What became of the clients.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) served: usize,
    /// Those that took more than 100 ms, and more than a second.
    pub(crate) slow: usize,
    pub(crate) over_second: usize,
    pub(crate) failed: Vec<String>,
    worst: Duration,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { served, slow, over_second, failed, worst } = self;
        write!(
            f,
            "{served} served, {slow} over 100 ms, {over_second} over 1 s, {} failed, worst {worst:?}",
            failed.len()
        )
    }
}

/// Says everything again.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        rustix::net::listen(&listener, 4096).unwrap();
        for _ in 0..2 * CLIENTS {
            let listener = listener.try_clone().unwrap();
            thread::spawn(move || {
                loop {
                    listener.accept().map(|(stream, _)| repeat(stream)).unwrap()
                }
            });
        }
        Self { address }
    }

    /// Clients come there as long as this takes.
    pub(crate) fn load(&self, relay: SocketAddr, act: impl FnOnce()) -> Ledger {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let is_over = &is_over;
            let clients: Vec<_> =
                (0..CLIENTS).map(|number| scope.spawn(move || come(relay, number, is_over))).collect();
            act();
            is_over.store(true, Ordering::Relaxed);
            clients.into_iter().map(|client| client.join().unwrap()).fold(Ledger::default(), |mut all, one| {
                all.served += one.served;
                all.slow += one.slow;
                all.over_second += one.over_second;
                all.failed.extend(one.failed);
                all.worst = all.worst.max(one.worst);
                all
            })
        })
    }
}

fn repeat(mut stream: TcpStream) {
    let mut room = [0; 16 << 10];
    while let Ok(count @ 1..) = stream.read(&mut room) {
        if stream.write_all(&room[..count]).is_err() {
            return;
        }
    }
}

/// One client after the other, each at its time.
fn come(relay: SocketAddr, number: u32, is_over: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::default();
    let gap = Duration::from_secs(1) * CLIENTS / RATE;
    let mut next = Instant::now() + gap * number / CLIENTS;
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next = (next + gap).max(Instant::now());
        let begun = Instant::now();
        match visit(relay, ledger.served) {
            Ok(()) => ledger.served += 1,
            Err(why) => ledger.failed.push(why),
        }
        let took = begun.elapsed();
        ledger.slow += usize::from(took > Duration::from_millis(100));
        ledger.over_second += usize::from(took > Duration::from_secs(1));
        ledger.worst = ledger.worst.max(took);
    }
    ledger
}

/// Is all said again, with a clean end?
fn visit(relay: SocketAddr, number: usize) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let length = 1 + number * 7919 % 4096;
    let said: Vec<u8> = (0..length).map(|place| (place * 31 + number).to_le_bytes()[0]).collect();
    let mut stream = TcpStream::connect_timeout(&relay, LIMIT).map_err(|error| failed("connect", error))?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&said).map_err(|error| failed("write", error))?;
    match stream.shutdown(Shutdown::Write) {
        Err(error) if error.kind() != ErrorKind::NotConnected => return Err(failed("shutdown", error)),
        Ok(()) | Err(_) => {}
    }
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).map_err(|error| failed("read", error))?;
    if heard == said { Ok(()) } else { Err(format!("{} bytes came of {length}", heard.len())) }
}
