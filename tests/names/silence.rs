//! A name server that never answers, and files that cannot be read to an end.

use std::time::Duration;

use crate::machine::{Machine, on_a_machine};
use crate::name_server::SilentServer;
use crate::patience::{age, timed, until};
use crate::relay::{Relay, told};
use crate::upstream::Upstream;

/// Much less than the name server may take (150 s), the connect deadline (5 s) and the drain's (15 s).
const AT_ONCE: Duration = Duration::from_secs(2);

/// A relay with one route to an address, and routes to so many names.
fn relay_to_names(machine: &Machine, there: &Upstream, names: usize) -> Relay {
    let mut arguments = vec!["-f".to_owned(), "127.0.0.1:0".to_owned(), "-t".to_owned(), there.address.to_string()];
    for number in 0..names {
        arguments.extend(["-f", "127.0.0.1:0", "-t"].map(str::to_owned));
        arguments.push(format!("db{number}.test:80"));
    }
    arguments.extend(["--connect-timeout", "1h"].map(str::to_owned));
    Relay::on(machine, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_name_server_that_never_answers_delays_no_session_of_an_address_and_no_stop() {
    on_a_machine(|machine| {
        let (server, there) = (SilentServer::new(), Upstream::new("127.0.0.2:80", "A"));
        let mut relay = relay_to_names(machine, &there, 1);
        let waiting = relay.connect(1);
        assert_eq!(server.asked(), "db0.test");
        for _ in 0..20 {
            let (told, time) = timed(|| relay.ask(0).unwrap());
            assert_eq!(told, "A");
            assert!(time < AT_ONCE, "{time:?}");
        }
        assert_eq!(relay.resolver_threads(), 1);
        let (code, time) = relay.stop();
        assert!(code == 4 && time < AT_ONCE, "exit {code} after {time:?}");
        assert!(told(&waiting).is_err(), "it waited for a name, and should be reset");
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_lookup_that_hangs_for_ever_delays_no_session_of_an_address_and_no_stop() {
    on_a_machine(|machine| {
        machine.hang_hosts();
        let there = Upstream::new("127.0.0.2:80", "A");
        let mut relay = relay_to_names(machine, &there, 1);
        let waiting = relay.connect(1);
        until("a thread to hang", || (relay.resolver_threads() == 1).then_some(()));
        assert_eq!(relay.ask(0).unwrap(), "A");
        let (code, time) = relay.stop();
        assert!(code == 4 && time < AT_ONCE, "exit {code} after {time:?}");
        assert!(told(&waiting).is_err(), "it waited for a name, and should be reset");
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn however_many_names_hang_there_are_eight_threads() {
    on_a_machine(|machine| {
        let (server, there) = (SilentServer::new(), Upstream::new("127.0.0.2:80", "A"));
        let mut relay = relay_to_names(machine, &there, 12);
        let waiting: Vec<_> = (1..=12).map(|route| relay.connect(route)).collect();
        assert_eq!(server.asked_for(8).len(), 8);
        for _ in 0..20 {
            assert_eq!(relay.ask(0).unwrap(), "A");
            assert_eq!(relay.resolver_threads(), 8);
        }
        let (_, time) = relay.stop();
        assert!(time < AT_ONCE, "{time:?}");
        waiting.iter().for_each(|client| assert!(told(client).is_err()));
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn while_a_name_server_is_silent_the_last_answer_is_used() {
    on_a_machine(|machine| {
        let (server, _there) = (SilentServer::new(), Upstream::new("127.0.0.2:80", "A"));
        machine.hosts(&["127.0.0.2 db.test"]);
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "db.test:80", "--resolve-ttl", "1ms"]);
        assert_eq!(relay.ask(0).unwrap(), "A");
        // Now only the name server could know it.
        machine.hosts(&[]);
        age();
        let (told, time) = timed(|| relay.ask(0).unwrap());
        assert_eq!((told.as_str(), server.asked().as_str()), ("A", "db.test"));
        let waits = Duration::from_millis(200)..Duration::from_millis(600);
        assert!(waits.contains(&time), "the session that asks waits for 250 ms: {time:?}");
        for _ in 0..10 {
            let (told, time) = timed(|| relay.ask(0).unwrap());
            assert_eq!(told, "A");
            assert!(time < Duration::from_millis(50), "nobody waits again: {time:?}");
        }
        assert_eq!(relay.resolver_threads(), 1);
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_relay_that_leads_to_an_address_looks_nothing_up() {
    on_a_machine(|machine| {
        let (server, there) = (SilentServer::new(), Upstream::new("127.0.0.2:80", "A"));
        let relay = relay_to_names(machine, &there, 0);
        for _ in 0..3 {
            assert_eq!(relay.ask(0).unwrap(), "A");
        }
        assert_eq!((relay.resolver_threads(), server.is_idle()), (0, true), "a literal address is no name");
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_stop_request_does_not_wait_for_the_name_of_a_listener() {
    on_a_machine(|machine| {
        let server = SilentServer::new();
        let mut relay = Relay::begin(machine, &["-f", "here.test:80", "-t", "127.0.0.2:80"]);
        assert_eq!(server.asked(), "here.test");
        let (code, time) = relay.stop();
        assert!(code == 0 && time < AT_ONCE, "exit {code} after {time:?}");
    });
}
