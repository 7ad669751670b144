//! A log for programs, a log for the journal, and what a line that repeats becomes.

use std::net::TcpStream;
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::patience::until;
use crate::peers::{Ended, Nobody, Upstream, bytes, end_of, finish, relayed};
use crate::process::{Relay, relay_to};
use crate::served::Served;

fn objects(relay: &Relay) -> Vec<Map<String, Value>> {
    let read = |line: &String| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    relay.log.lines().iter().map(read).collect()
}

#[test]
fn each_line_of_json_is_an_object_and_a_session_has_its_fields() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--log-format", "json", "--log-open"]).start();
    let (near, far) = upstream.session(&relay);
    relayed(&near, &far, &bytes(1, 70_000));
    relayed(&far, &near, &bytes(2, 9));
    finish(&near);
    assert_eq!(end_of(&far), Ended::Fin);
    finish(&far);
    assert_eq!(end_of(&near), Ended::Fin);
    relay.log.wait_for("\"session\"");
    assert_eq!(relay.stop(), 0);
    let objects = objects(&relay);
    for object in &objects {
        let at = humantime::parse_rfc3339(object["ts"].as_str().unwrap());
        assert!(at.is_ok() && object["level"] == "info", "{object:?}");
        assert_ne!(object.contains_key("message"), object.contains_key("event"), "{object:?}");
    }
    let [open, session] = ["open", "session"]
        .map(|event| objects.iter().find(|object| object.get("event").is_some_and(|it| *it == event)).unwrap().clone());
    for object in [&open, &session] {
        assert_eq!(object["client"], near.local_addr().unwrap().to_string());
        assert_eq!(object["upstream"], upstream.address.to_string());
        assert!(object["connect"].as_f64().unwrap() < 60.0);
    }
    let numbers = ["up", "down", "undelivered_up", "undelivered_down"].map(|key| session[key].as_u64().unwrap());
    assert_eq!((numbers, session["end"].as_str()), ([70_000, 9, 0, 0], Some("client-eof")));
    assert!(session["time"].as_f64() >= session["connect"].as_f64() && !session.contains_key("route"));
    let last = objects.last().unwrap();
    assert_eq!(
        (&last["event"], last["sessions"].as_u64(), last["up"].as_u64()),
        (&"stopped".into(), Some(1), Some(70_000))
    );
}

/// `sd-daemon(3)`: a priority, and neither a time nor a name.
#[test]
fn the_journal_gets_priorities_and_no_times() {
    let upstream = Upstream::new();
    let journal = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)";
    let mut relay = relay_to(upstream.address).after_shell(journal).start();
    assert_eq!(relay.stop(), 0);
    let lines = relay.log.lines();
    assert!(lines[0].starts_with("<6>listening on 127.0.0.1:"), "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("<6>")), "{lines:?}");
    // Another file than the one it names.
    let mut relay = relay_to(upstream.address).after_shell("export JOURNAL_STREAM=1:2").start();
    assert_eq!(relay.stop(), 0);
    assert!(relay.log.lines()[0].contains("Z INFO  [tproxy] listening on"), "{:?}", relay.log.lines());
}

/// Each is written or counted, and each session has its line.
#[test]
fn ten_lines_of_a_kind_are_written_in_a_second_and_the_rest_is_counted() {
    const CLIENTS: usize = 60;
    let nobody = Nobody::new();
    let begun = SystemTime::now();
    let mut relay = relay_to(nobody.address).with(["-v"]).start();
    // It may be reset before connect(2) has returned.
    (0..CLIENTS).for_each(|_| drop(TcpStream::connect(relay.address)));
    until("a line for each", || (relay.log.sessions().len() == CLIENTS).then_some(()));
    let seconds = begun.elapsed().unwrap_or_default().as_secs() as usize + 1;
    assert_eq!(relay.stop(), 0);
    let said = "cannot connect to ";
    let counts: Vec<usize> = relay
        .log
        .with("more like this one were left out: cannot connect to ")
        .iter()
        .map(|line| line.split(" [tproxy] ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap())
        .collect();
    let written = relay.log.with(said).len() - counts.len();
    assert_eq!(written + counts.iter().sum::<usize>(), CLIENTS);
    assert!(written <= 10 * (seconds + 1), "{written} lines in {seconds} s");
    assert_eq!(relay.log.sessions().len(), CLIENTS);
}

/// Each is about another listener.
#[test]
fn lines_that_differ_are_all_written() {
    let upstream = Upstream::new();
    let to = upstream.address.to_string();
    let mut words = vec!["-f".to_owned(), vec!["127.0.0.1:0"; 30].join(",")];
    words.extend(["-t".to_owned(), to]);
    let relay = Served::with(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(relay.addresses.len(), 30);
}
