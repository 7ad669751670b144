//! Each option arrives where it has an effect.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::patience::{skipped, timed, until};
use crate::peers::{
    BlackHole, Ended, Nobody, Upstream, answer, bytes, client, clog, end_of, fate_of_a_client, finish, has_ipv6, hear,
    read_all, relayed, reset, say,
};
use crate::ports::in_a_network_of_its_own;
use crate::process::relay_to;

#[test]
fn connect_timeout_bounds_the_connecting_to_a_black_hole() {
    let hole = BlackHole::new();
    let relay = relay_to(hole.address).with(["--connect-timeout", "300ms", "--connect-attempts", "1000"]).start();
    let client = client(relay.address);
    say(&client, b"is anybody there?");
    assert_eq!(end_of(&client), Ended::Reset);
    let session = relay.log.wait_for_session();
    // The default is 5 s.
    assert!((0.3..4.0).contains(&session.time), "{session:?}");
}

#[test]
fn connect_attempts_are_made_until_somebody_listens() {
    let nobody = Nobody::new();
    let relay = relay_to(nobody.address).with(["--connect-attempts", "1000", "--connect-timeout", "1m"]).start();
    let before = relay.descriptors().len();
    let client = client(relay.address);
    say(&client, b"hello");
    finish(&client);
    // The attempt's descriptor is gone, the client's is left, and nothing is being done: that is the pause.
    until("the first attempt to fail", || (relay.descriptors().len() == before + 1 && relay.is_asleep()).then_some(()));
    let upstream = nobody.listen();
    answer(upstream.accept());
    assert_eq!(read_all(&client), (b"hello".to_vec(), Ended::Fin));
    let session = relay.log.wait_for_session();
    assert_eq!(session.end, "client-eof");
    assert!(session.connect >= 0.05, "after a pause: {session:?}");
}

#[test]
fn connect_attempts_are_so_many_with_pauses_between() {
    let nobody = Nobody::new();
    let [hasty, patient] = ["1", "3"].map(|attempts| {
        let relay = relay_to(nobody.address).with(["--connect-attempts", attempts]).start();
        assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
        relay.log.wait_for_session()
    });
    assert_eq!((hasty.end.as_str(), patient.end.as_str()), ("refused", "refused"));
    // Two pauses, of at least 50 and 100 ms.
    assert!(hasty.time < patient.time && patient.time >= 0.15, "{hasty:?} {patient:?}");
}

#[test]
fn a_refusal_is_told_after_one_attempt_unless_more_are_asked_for() {
    for (arguments, attempts) in [(["-v", "-v"], 1), (["-v", "--connect-attempts=2"], 2)] {
        let nobody = Nobody::new();
        let relay = relay_to(nobody.address).with(arguments).start();
        assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
        assert_eq!(relay.log.wait_for_session().end, "refused");
        assert_eq!(relay.log.with("cannot connect to").len(), attempts);
    }
}

#[test]
fn every_address_of_a_name_is_used() {
    let addresses: Vec<SocketAddr> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    for address in addresses.into_iter().filter(|address| address.is_ipv4() || has_ipv6()) {
        // Somebody listens on this one only.
        let upstream = Upstream::on(address);
        let relay = relay_to(format!("localhost:{}", upstream.address.port())).start();
        upstream.brief_session(&relay);
        assert_eq!(relay.log.wait_for_session().upstream, Some(upstream.address));
    }
}

#[test]
fn an_ipv6_wildcard_takes_clients_of_both_families() {
    if !has_ipv6() {
        return skipped("this machine has no IPv6");
    }
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).from("[::]:0").start();
    assert!(relay.log.wait_for("listening on").contains(&format!("listening on [::]:{}", relay.address.port())));
    for ip in ["127.0.0.1", "::1"] {
        let client = client(SocketAddr::new(ip.parse().unwrap(), relay.address.port()));
        finish(&client);
        answer(upstream.accept());
        assert_eq!(end_of(&client), Ended::Fin);
        // Not ::ffff:127.0.0.1.
        relay.log.wait_for(&format!("session client={}", client.local_addr().unwrap()));
    }
    relay.log.wait_for_sessions(2);
}

/// `sysctl net.ipv6.bindv6only=1` makes a wildcard one of IPv6 only, unless a program says otherwise.
#[test]
fn an_ipv6_wildcard_takes_ipv4_clients_whatever_the_sysctl_says() {
    if !has_ipv6() {
        return skipped("this machine has no IPv6");
    }
    in_a_network_of_its_own(|| {
        std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).from("[::]:0").start();
        relay.address.set_ip(Ipv4Addr::LOCALHOST.into());
        upstream.brief_session(&relay);
    });
}

#[test]
fn an_ipv6_upstream_is_reached() {
    if !has_ipv6() {
        return skipped("this machine has no IPv6");
    }
    let upstream = Upstream::on("[::1]:0".parse().unwrap());
    let relay = relay_to(upstream.address).from("[::1]:0").start();
    upstream.brief_session(&relay);
    assert_eq!(relay.log.wait_for_session().upstream, Some(upstream.address));
}

#[test]
fn buffers_have_the_size_that_was_asked_for() {
    for (size, said) in [("4k", "buffers of 4 KiB"), ("4096", "buffers of 4 KiB"), ("1M", "buffers of 1024 KiB")] {
        let upstream = Upstream::new();
        let relay = relay_to(upstream.address).with(["--buffer-size", size]).start();
        relay.log.wait_for(said);
        let (client, server) = upstream.session(&relay);
        relayed(&client, &server, &bytes(1, 100_003));
        relayed(&server, &client, &bytes(2, 100_003));
    }
}

#[test]
fn reset_grace_is_how_long_a_peer_that_takes_nothing_is_waited_for() {
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).with(["--reset-grace", "2s"]).start();
    let (client, server) = upstream.session(&relay);
    // More than all the kernels take, so that something is left that the client does not acknowledge.
    clog(&server);
    let (session, took) = timed(|| {
        reset(server);
        relay.log.wait_for_session()
    });
    assert_eq!(session.end, "upstream-reset");
    // The default is three times the retransmission time-out, about 600 ms here.
    assert!(took >= Duration::from_secs(2), "{took:?}");
    drop(client);
}

/// The default follows the connection's retransmission time-out: about 200 ms here, which makes 600.
#[test]
fn by_default_a_peer_on_loopback_that_takes_nothing_is_told_within_a_second() {
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).start();
    // A busy machine makes some of them slow, hardly ever all.
    let quickest = (1..=5).map(|count| {
        let (client, server) = upstream.session(&relay);
        clog(&server);
        let ((), took) = timed(|| {
            reset(server);
            relay.log.wait_for_sessions(count);
        });
        assert!(took >= Duration::from_millis(300), "{took:?}");
        drop(client);
        took
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

#[test]
fn splice_says_whether_a_pipe_is_opened_and_when() {
    // On keeps one in hand, so while one is full there may be two.
    for (mode, after_words, after_bulk) in [("auto", 0..=0, 1..=1), ("on", 1..=1, 1..=2), ("off", 0..=0, 0..=0)] {
        let upstream = Upstream::new();
        let relay = relay_to(upstream.address).with(["--splice", mode]).start();
        let idle = relay.descriptors().len();
        let (client, server) = upstream.session(&relay);
        let holds = |pipes: RangeInclusive<usize>| {
            let expected = idle + 2 + 2 * pipes.start()..=idle + 2 + 2 * pipes.end();
            until(&format!("{pipes:?} pipes, {mode}"), || expected.contains(&relay.descriptors().len()).then_some(()));
        };
        for count in 1..5 {
            relayed(&server, &client, &bytes(count, 100));
        }
        holds(after_words);
        clog(&server);
        // What is read now fills every buffer, for it has been waiting.
        hear(&client, 2 << 20);
        clog(&server);
        holds(after_bulk);
        reset(server);
        drop(client);
        relay.log.wait_for_session();
        until(&format!("{idle} descriptors, {mode}"), || (relay.descriptors().len() == idle).then_some(()));
    }
}
