//! Too few descriptors, and a limit of sessions: clients wait in the kernel's queue, nobody is reset, all are served.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::patience::{a_while, skipped, until};
use crate::peers::{Ended, Upstream, answer, bytes, client, finish, hear, is_quiet, read_all, relayed, say};
use crate::process::{Relay, relay_to};

#[test]
fn an_even_number_of_descriptors_is_used_up_and_everybody_is_served() {
    shortage(4);
}

#[test]
fn an_odd_number_of_descriptors_is_used_up_and_everybody_is_served() {
    shortage(5);
}

/// A client was accepted, and there is none for its upstream.
const CONNECT_COMPLAINT: &str = "connect: too many open files; new clients wait";

/// A relay that lost descriptors it counted on: so many are left, and more clients come than they are enough for.
fn shortage(free: usize) {
    const CLIENTS: usize = 8;
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--connect-timeout", "1m"]).start();
    relay.leave_descriptors(free);
    let clients: Vec<_> = (0..CLIENTS).map(|key| speaker(&relay, key)).collect();
    let served: VecDeque<_> = (0..free / 2).map(|_| upstream.accept()).collect();
    // Whichever call is the first to go without.
    let complaint = if free.is_multiple_of(2) { "accept: too many open files; pausing " } else { CONNECT_COMPLAINT };
    assert!(relay.log.wait_for(complaint).contains("(raise `ulimit -n`)"));
    idles_and_lets_nobody_in(&relay, &upstream, &clients);
    // The first time, not each that followed it.
    assert_eq!(relay.log.with("too many open files").len(), 1, "{:?}", relay.log.lines());
    serve_all(&upstream, served, &clients);
    relay.log.wait_for_sessions(CLIENTS);
    assert_eq!(relay.stop(), 0);
    // However many came through one by one, it was one shortage, and it was over once nobody waited.
    assert_eq!(relay.log.with("too many open files").len(), 1, "{:?}", relay.log.lines());
    assert_eq!(relay.log.with("accept: resumed").len(), 1, "{:?}", relay.log.lines());
    assert!(relay.log.sessions().iter().all(|session| session.end == "client-eof"));
}

#[test]
fn accepting_resumes_by_itself_when_the_limit_is_raised() {
    // Whether the first who waits is in the kernel's queue or has been accepted and lacks a descriptor for its
    // upstream.
    for free in [4, 5] {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).with(["--connect-timeout", "1m"]).start();
        let limit = relay.descriptor_limit();
        relay.leave_descriptors(free);
        let clients: Vec<_> = (0..5).map(|key| speaker(&relay, key)).collect();
        let mut served: VecDeque<_> = (0..2).map(|_| upstream.accept()).collect();
        assert!(upstream.is_left_alone());
        relay.limit_descriptors(limit);
        // No session has ended: only an alarm tells the relay to try again.
        served.extend((2..5).map(|_| upstream.accept()));
        serve_all(&upstream, served, &clients);
        relay.log.wait_for_sessions(5);
        assert_eq!(relay.stop(), 0);
    }
}

/// The first clients may take all that is left, because there were enough before. Those who come later are served.
#[test]
fn descriptors_that_are_gone_for_good_are_not_counted_on_twice() {
    const LEFT: usize = 5;
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).with(["--connect-timeout", "300ms"]).start();
    let before: Vec<_> = (0..2 * LEFT).map(|_| upstream.session(&relay)).collect();
    drop(before);
    relay.log.wait_for_sessions(2 * LEFT);
    relay.leave_descriptors(LEFT);
    // All at once.
    let _clients: Vec<_> = relay.while_it_stands_still(|| (0..3 * LEFT).map(|key| speaker(&relay, key)).collect());
    answer(upstream.accept());
}

#[test]
fn clients_beyond_max_sessions_wait_and_are_served_later() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--max-sessions", "2"]).start();
    let clients: Vec<_> = (0..5).map(|key| speaker(&relay, key)).collect();
    let served: VecDeque<_> = (0..2).map(|_| upstream.accept()).collect();
    relay.log.wait_for(" WARN  [tproxy] at the limit of 2 sessions; new clients wait in the kernel's queue");
    idles_and_lets_nobody_in(&relay, &upstream, &clients);
    serve_all(&upstream, served, &clients);
    relay.log.wait_for_sessions(5);
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.with("at the limit of").len(), 1);
}

#[test]
fn more_sessions_than_descriptors_allow_are_a_warning() {
    let mut relay = relay_to("127.0.0.1:9").after_shell("ulimit -n 100").with(["--max-sessions", "4000000000"]).start();
    let line = relay.log.wait_for(" WARN  [tproxy] the limit of open files has room for ");
    assert!(line.ends_with(" sessions, not for 4000000000 (raise `ulimit -n`)"), "{line}");
    let limit = sessions_max(&relay);
    assert!(line.contains(&format!("room for {limit} sessions")), "{line}");
    assert!((20..50).contains(&limit), "{limit}");
    assert_eq!(relay.stop(), 0);
}

#[test]
fn as_many_sessions_as_there_is_room_for_may_be_asked_for_without_a_warning() {
    let default = relay_to("127.0.0.1:9").after_shell("ulimit -n 100").start();
    let room = sessions_max(&default);
    for (asked, warnings) in [(room, 0), (room + 1, 1)] {
        let plan = relay_to("127.0.0.1:9").after_shell("ulimit -n 100");
        let mut relay = plan.with(["--max-sessions", &asked.to_string()]).start();
        assert_eq!((sessions_max(&relay), relay.stop()), (room, 0));
        assert_eq!(relay.log.with("WARN").len(), warnings, "{:?}", relay.log.lines());
    }
}

#[test]
fn more_memory_than_there_is_is_a_warning_unless_the_sessions_were_asked_for() {
    const LARGEST: [&str; 2] = ["--buffer-size", "16M"];
    const WARNING: &str = " WARN  [tproxy] buffers may need ";
    let mut default = relay_to("127.0.0.1:9").with(LARGEST).start();
    let sessions = sessions_max(&default).to_string();
    assert_eq!(default.stop(), 0);
    if default.log.with(WARNING).is_empty() {
        return skipped("there is memory for as many sessions as there may be");
    }
    let mut asked = relay_to("127.0.0.1:9").with(LARGEST).with(["--max-sessions", &sessions]).start();
    assert_eq!(asked.stop(), 0);
    assert_eq!(asked.log.with(WARNING), [""; 0]);
    // What an operator compares with the machine: a buffer for each direction of each session.
    let expected = format!("at most {} MiB in total", 2 * 16 * sessions.parse::<u64>().unwrap());
    assert!(default.log.wait_for("buffers of 16384 KiB").ends_with(&expected), "{:?}", default.log.lines());
}

#[test]
fn as_many_sessions_as_were_promised_are_served_at_a_time() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).after_shell("ulimit -n 60").start();
    let limit = sessions_max(&relay);
    let clients: Vec<_> = (0..limit + 3).map(|key| speaker(&relay, key)).collect();
    let served: VecDeque<_> = (0..limit).map(|_| upstream.accept()).collect();
    relay.log.wait_for(&format!("at the limit of {limit} sessions"));
    assert!(upstream.is_left_alone());
    serve_all(&upstream, served, &clients);
    relay.log.wait_for_sessions(limit + 3);
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.with("too many open files").len(), 0);
}

/// A pipe takes two descriptors, which no session may have been promised. With 700 descriptors, 21 pipes may be open.
#[test]
fn as_many_sessions_as_were_promised_are_served_beside_every_pipe() {
    const PIPES: usize = 21;
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).after_shell("ulimit -n 700").with(["--splice", "on"]).start();
    let (limit, before) = (sessions_max(&relay), relay.pipes());
    let bulk: Vec<_> = (0..PIPES + 3).map(|_| upstream.session(&relay)).collect();
    let mut under_way = vec![0; bulk.len()];
    // A flow that waits with bytes in a buffer gets no pipe: each goes on a little in every round.
    until("every pipe to be open", || {
        for ((client, server), under_way) in bulk.iter().zip(&mut under_way) {
            *under_way += say_what_is_taken(client);
            *under_way -= hear(server, 32 << 10).len();
        }
        (relay.pipes() == before + PIPES).then_some(())
    });
    let small: Vec<_> = (bulk.len()..limit).map(|_| upstream.session(&relay)).collect();
    for (client, server) in &small {
        relayed(client, server, b"request");
        relayed(server, client, b"answer");
    }
    assert_eq!(relay.pipes(), before + PIPES);
    relay.log.wait_for(&format!("at the limit of {limit} sessions"));
    assert_eq!(relay.log.with("too many open files").len(), 0);
    for ((client, server), under_way) in bulk.iter().zip(under_way) {
        finish(client);
        assert_eq!(read_all(server).0.len(), under_way);
    }
    drop((bulk, small));
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.with("too many open files").len(), 0);
}

/// Writes for as long as somebody takes it at once. How much was taken?
fn say_what_is_taken(mut client: &TcpStream) -> usize {
    client.set_nonblocking(true).unwrap();
    let chunk = bytes(1, 64 << 10);
    let mut taken = 0;
    while let Ok(count) = client.write(&chunk) {
        taken += count;
    }
    client.set_nonblocking(false).unwrap();
    taken
}

#[test]
fn a_soft_limit_of_files_is_raised_to_the_hard_one() {
    let relay = relay_to("127.0.0.1:9").after_shell("ulimit -n 80; ulimit -S -n 40").start();
    let limit = relay.descriptor_limit();
    assert_eq!((limit.current, limit.maximum), (Some(80), Some(80)));
    assert!(sessions_max(&relay) > 20);
}

/// A client that has said all it has to say.
fn speaker(relay: &Relay, key: usize) -> TcpStream {
    let client = client(relay.address);
    say(&client, &bytes(key as u64, 1000));
    finish(&client);
    client
}

/// Those who wait are neither let in nor reset, and waiting for descriptors takes no processor time worth mentioning.
fn idles_and_lets_nobody_in(relay: &Relay, upstream: &Upstream, clients: &[TcpStream]) {
    let before = relay.processor_time();
    assert!(upstream.is_left_alone());
    a_while();
    // A loop that spins would have used all of the time that went by, or half of it on a busy machine.
    let used = relay.processor_time() - before;
    assert!(used < Duration::from_millis(100), "{used:?}");
    assert!(clients.iter().all(is_quiet));
}

/// Answers those who are served, and then those who come when they are gone.
fn serve_all(upstream: &Upstream, mut served: VecDeque<TcpStream>, clients: &[TcpStream]) {
    for _ in 0..clients.len() {
        answer(served.pop_front().unwrap_or_else(|| upstream.accept()));
    }
    for (key, client) in clients.iter().enumerate() {
        assert_eq!(read_all(client), (bytes(key as u64, 1000), Ended::Fin));
    }
}

/// What the relay says it can serve at a time.
fn sessions_max(relay: &Relay) -> usize {
    let line = relay.log.wait_for("listening on");
    line.strip_suffix(" sessions").unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}
