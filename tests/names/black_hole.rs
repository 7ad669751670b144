//! The first address of a name swallows every packet.

use std::time::Duration;

use crate::machine::on_a_machine;
use crate::patience::timed;
use crate::relay::Relay;
use crate::upstream::Upstream;

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_first_address_that_is_a_black_hole_costs_one_session_a_moment_and_the_next_nothing() {
    on_a_machine(|machine| {
        machine.add_dead_device(&["fd98::1/64", "10.98.0.1/24"]);
        let _there = Upstream::new("10.98.0.1:80", "A");
        // getaddrinfo puts IPv6 first (RFC 6724), in whatever order they are here.
        machine.hosts(&["10.98.0.1 db.test", "fd98::9 db.test"]);
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "db.test:80"]);
        let (told, first) = timed(|| relay.ask(0).unwrap());
        assert_eq!(told, "A");
        let tried = Duration::from_millis(200)..Duration::from_millis(600);
        assert!(tried.contains(&first), "the black hole is given 250 ms, the first session took {first:?}");
        let next: Vec<_> = (0..10).map(|_| timed(|| assert_eq!(relay.ask(0).unwrap(), "A")).1).collect();
        let slowest = *next.iter().max().unwrap();
        eprintln!("the first session took {first:?}, the slowest of the next ten {slowest:?}");
        assert!(slowest < Duration::from_millis(50), "{next:?}");
        relay.wait_for(&["WARN", "[fd98::9]:80"]);
        let lines = relay.lines();
        let warnings = lines.iter().filter(|line| line.contains("WARN") && line.contains("fd98::9"));
        assert_eq!(warnings.count(), 1, "one line, not one for each session");
    });
}
