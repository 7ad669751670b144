//! /etc/hosts changes while the relay runs.

use crate::machine::on_a_machine;
use crate::patience::{age, until};
use crate::relay::Relay;
use crate::upstream::Upstream;

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_name_whose_address_changes_leads_the_next_connection_to_the_new_one() {
    on_a_machine(|machine| {
        let (_a, _b) = (Upstream::new("127.0.0.2:80", "A"), Upstream::new("127.0.0.3:80", "B"));
        machine.hosts(&["127.0.0.2 db.test"]);
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "db.test:80", "--resolve-ttl", "1ms"]);
        for (host, label) in [("127.0.0.2", "A"), ("127.0.0.3", "B"), ("127.0.0.2", "A"), ("127.0.0.3", "B")] {
            machine.hosts(&[&format!("{host} db.test")]);
            age();
            assert_eq!(relay.ask(0).unwrap(), label);
            relay.wait_for(&["session ", &format!(" upstream={host}:80 ")]);
        }
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn an_answer_is_used_until_it_is_old() {
    on_a_machine(|machine| {
        let (_a, _b) = (Upstream::new("127.0.0.2:80", "A"), Upstream::new("127.0.0.3:80", "B"));
        machine.hosts(&["127.0.0.2 db.test"]);
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "db.test:80", "--resolve-ttl", "1h"]);
        assert_eq!(relay.ask(0).unwrap(), "A");
        machine.hosts(&["127.0.0.3 db.test"]);
        for _ in 0..10 {
            assert_eq!(relay.ask(0).unwrap(), "A");
        }
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn an_answer_whose_addresses_all_fail_is_old() {
    on_a_machine(|machine| {
        let a = Upstream::new("127.0.0.2:80", "A");
        let _b = Upstream::new("127.0.0.3:80", "B");
        machine.hosts(&["127.0.0.2 db.test"]);
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "db.test:80", "--resolve-ttl", "1h"]);
        assert_eq!(relay.ask(0).unwrap(), "A");
        machine.hosts(&["127.0.0.3 db.test"]);
        drop(a);
        // It is asked again at most once a second.
        until("the new address to be found", || relay.ask(0).is_ok_and(|told| told == "B").then_some(()));
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_name_that_is_gone_leads_where_it_led_last() {
    on_a_machine(|machine| {
        // No name server listens, so the lookup fails at once.
        let _a = Upstream::new("127.0.0.2:80", "A");
        machine.hosts(&["127.0.0.2 db.test"]);
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "db.test:80", "--resolve-ttl", "1ms"]);
        assert_eq!(relay.ask(0).unwrap(), "A");
        machine.hosts(&[]);
        age();
        for _ in 0..10 {
            assert_eq!(relay.ask(0).unwrap(), "A");
        }
        relay.wait_for(&["WARN", "db.test"]);
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_name_that_does_not_exist_at_start_is_a_warning_and_is_found_later() {
    on_a_machine(|machine| {
        let _a = Upstream::new("127.0.0.2:80", "A");
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "db.test:80", "--resolve-ttl", "1ms"]);
        assert!(relay.ask(0).is_err());
        relay.wait_for(&["WARN", "db.test"]);
        relay.wait_for(&["session ", " end=unresolved"]);
        machine.hosts(&["127.0.0.2 db.test"]);
        // A lookup that failed is repeated after a pause.
        until("the name to be found", || relay.ask(0).is_ok_and(|told| told == "A").then_some(()));
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn of_300_addresses_the_first_256_are_used_and_that_is_said_once() {
    on_a_machine(|machine| {
        let _a = Upstream::new("127.0.0.2:80", "A");
        let mut lines = vec!["127.0.0.2 db.test".to_owned()];
        lines.extend((1..300).map(|number| format!("127.0.{}.{} db.test", 1 + number / 200, 1 + number % 200)));
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        machine.hosts(&lines);
        let relay = Relay::on(machine, &["-f", "127.0.0.1:0", "-t", "db.test:80", "--resolve-ttl", "1ms"]);
        for count in [300, 299, 298] {
            machine.hosts(&lines[..count]);
            age();
            assert_eq!(relay.ask(0).unwrap(), "A");
        }
        relay.wait_for(&["WARN", "256"]);
        assert_eq!(relay.lines().iter().filter(|line| line.contains("256")).count(), 1);
    });
}

#[test]
#[ignore = "needs root, iproute2 and util-linux: see main.rs"]
fn a_name_that_leads_to_the_relay_itself_is_refused_at_start_and_left_out_later() {
    on_a_machine(|machine| {
        let arguments = ["-f", "127.0.0.1:80", "-t", "db.test:80", "--resolve-ttl", "1ms"];
        machine.hosts(&["127.0.0.1 db.test"]);
        assert_eq!(Relay::start_in_vain(machine, &arguments), 2);
        let _a = Upstream::new("127.0.0.2:80", "A");
        machine.hosts(&["127.0.0.2 db.test"]);
        let relay = Relay::on(machine, &arguments);
        assert_eq!(relay.ask(0).unwrap(), "A");
        machine.hosts(&["127.0.0.1 db.test", "127.0.0.2 db.test"]);
        age();
        assert_eq!(relay.ask(0).unwrap(), "A");
        relay.wait_for(&["WARN", "db.test", "127.0.0.1:80", "left out"]);
    });
}
