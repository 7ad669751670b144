//! A soak on real sockets: the real binary between peers that check every byte and how every stream ended.
//!
//! ```console
//! $ cargo test --release --test soak -- --ignored --nocapture
//! $ TPROXY_SOAK_CONNECTIONS=1000000 TPROXY_SOAK_GB=100 cargo test --release --test soak -- --ignored --nocapture
//! ```
//! The sessions go four ways, a route each ([`ways`]): to an address, to a name, with a header of the PROXY protocol for
//! the upstream, and with one that a client sends and that is passed on. Twice a second the relay reads a file with other
//! settings, while they run.
//!
//! It goes on until it has judged that many connections, compared that many bytes and seen each kind of trouble; prints
//! a line every ten seconds; and fails at the first byte out of place, end that no history explains, descriptor too
//! many, or growth of memory. A failure names the seed of its session, from which both ends draw what they do
//! ([`plan`]).
//!
//! A connection is *judged* when both ends compared every byte and heard the end, and the two agree ([`ledger`]). Where
//! one end resets, closes over unread input or is killed ([`victims`]), the other's story is held against that, and
//! counted apart.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation)]

mod ledger;
mod peers;
mod plan;
mod relay;
mod victims;
mod ways;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ledger::Ledger;
use relay::RelayProcess;
use rustix::net::sockopt;
use victims::Victims;
use ways::{Upstreams, Way};

/// Sessions at a time, and threads that play their clients.
const CLIENTS: usize = 48;

/// Threads that play upstreams, half of them with a header: more, for an upstream notices the end of its session after the
/// client does, and all sessions may go one way.
const UPSTREAMS: usize = 4 * CLIENTS;

fn wanted(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: not a number")))
}

#[expect(clippy::disallowed_methods, reason = "a soak lasts as long as it takes, and says how long that was")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the pace of the samples, not a synchronisation")]
fn pause(duration: Duration) {
    thread::sleep(duration);
}

#[test]
#[ignore = "takes minutes: see the head of this file"]
fn every_byte_and_every_end_is_as_planned() {
    let connections = wanted("TPROXY_SOAK_CONNECTIONS", 50_000);
    let bytes = wanted("TPROXY_SOAK_GB", 5) * 1_000_000_000;
    let seed = wanted("TPROXY_SOAK_SEED", 1);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Accepted sockets inherit it (K13): an upstream that is killed is heard as a reset, at whatever moment.
    sockopt::set_socket_linger(&listener, Some(Duration::ZERO)).unwrap();
    let with_header = TcpListener::bind("127.0.0.1:0").unwrap();
    sockopt::set_socket_linger(&with_header, Some(Duration::ZERO)).unwrap();
    let [plain, headed] = [&listener, &with_header].map(|listener| listener.local_addr().unwrap());
    let mut relay = RelayProcess::start(Upstreams { plain, with_header: headed });
    let fronts = relay.fronts;
    let before = relay.descriptors();
    let (ledger, done) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
    let next = Arc::new(AtomicU64::new(seed << 32));
    peers::prepare();

    for index in 0..UPSTREAMS {
        let has_header = index % 2 == 0;
        let listener = if has_header { &with_header } else { &listener };
        let (listener, ledger) = (listener.try_clone().unwrap(), Arc::clone(&ledger));
        thread::spawn(move || {
            loop {
                peers::upstream(listener.accept().unwrap().0, has_header, &*ledger);
            }
        });
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|i| {
            let (ledger, done, next) = (Arc::clone(&ledger), Arc::clone(&done), Arc::clone(&next));
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    peers::client(fronts[Way::of(seed) as usize], i, seed, &*ledger);
                }
            })
        })
        .collect();
    let mut victims = Victims::new(fronts[Way::Plain as usize], &listener, &ledger, seed);

    let began = now();
    let mut samples = Vec::new();
    while ledger.judged() < connections || ledger.bytes() < bytes || !ledger.is_varied() {
        pause(Duration::from_millis(500));
        victims.next_round();
        relay.reload();
        ledger.panic_if_wrong();
        samples.push(relay.resident_kib());
        if samples.len().is_multiple_of(20) {
            eprintln!("{ledger}; relay: {} KiB, {} descriptors", relay.resident_kib(), relay.descriptors());
        }
    }
    done.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    victims.kill();

    let settled = (0..200).any(|_| {
        pause(Duration::from_millis(50));
        // The route that comes and goes has to be gone.
        relay.reload();
        relay.descriptors() == before && ledger.close(victims.unnamed()).is_ok()
    });
    ledger.panic_if_wrong();
    assert_eq!(ledger.close(victims.unnamed()), Ok(()));
    assert!(settled, "{} descriptors before, {} after", before, relay.descriptors());
    // The kernel's buffers stall some flows more than others at first, so the first fifth does not count.
    let steady = &samples[samples.len() / 5..];
    let half = steady.len() / 2;
    let peak = |samples: &[u64]| samples.iter().copied().max().unwrap_or_default();
    let (first, second) = (peak(&steady[..half]), peak(&steady[half..]));
    assert!(second <= first + first / 4 + 1024, "resident memory grew from {first} KiB to {second} KiB");
    assert!(relay.reloads() > 0, "it never read its file again");
    eprintln!("{ledger} in {:.0?}, {} reloads", began.elapsed(), relay.reloads());
    eprintln!("descriptors: {before} before, {before} after; peak memory: {first} KiB, then {second} KiB");
    relay.stop();
}

/// Not a test: a process that plays clients or upstreams until it is killed.
#[test]
#[ignore = "run by the soak itself"]
fn victim() {
    victims::play();
}
