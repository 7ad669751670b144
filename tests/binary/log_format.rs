//! What a line of the log looks like, for a person, a program and the journal; and what a line that repeats becomes.

use std::fs::File;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::{Map, Value};

use crate::patience::until;
use crate::peers::{Ended, Nobody, Upstream, bytes, end_of, finish, relayed};
use crate::process::{Relay, command, relay_to};
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
    relay.signal(Signal::USR1);
    let live = relay.log.wait_for("\"event\":\"live\"");
    assert!(live.contains("\"up\":70000"), "{live}");
    finish(&near);
    assert_eq!(end_of(&far), Ended::Fin);
    finish(&far);
    assert_eq!(end_of(&near), Ended::Fin);
    relay.log.wait_for("\"event\":\"session\"");
    assert_eq!(relay.stop(), 0);
    let objects = objects(&relay);
    for object in &objects {
        let at = humantime::parse_rfc3339(object["ts"].as_str().unwrap());
        assert!(at.is_ok() && object["level"] == "info", "{object:?}");
        assert_ne!(object.contains_key("message"), object.contains_key("event"), "{object:?}");
    }
    let report = objects.iter().find(|object| object.get("event").is_some_and(|it| it == "report")).unwrap();
    let keys: Vec<_> = report.keys().map(String::as_str).collect();
    let expected = "denied down empty event level limited listeners live sessions spliced stopping ts undelivered_down \
                    undelivered_up up";
    assert_eq!(keys.join(" "), expected);
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

/// Words of a shell: stderr is the journal.
const TO_JOURNAL: &str = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)";

/// `sd-daemon(3)`: a priority, and neither a time nor a name.
#[test]
fn the_journal_gets_priorities_and_no_times() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).after_shell(TO_JOURNAL).start();
    assert_eq!(relay.stop(), 0);
    let lines = relay.log.lines();
    assert!(lines[0].starts_with("<6>listening on 127.0.0.1:"), "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("<6>")), "{lines:?}");
    // Another file than the one it names.
    let mut relay = relay_to(upstream.address).after_shell("export JOURNAL_STREAM=1:2").start();
    assert_eq!(relay.stop(), 0);
    assert!(relay.log.lines()[0].contains("Z INFO  [tproxy] listening on"), "{:?}", relay.log.lines());
}

/// At a hand-over two relays write to one stderr, and a line in two writes can be torn.
#[test]
fn each_line_is_one_write() {
    for (format, shell) in [("text", ":"), ("text", TO_JOURNAL), ("json", ":")] {
        let upstream = Upstream::new();
        let (near, far) = packets();
        let plan = relay_to(upstream.address).with(["--log-format", format]).after_shell(shell);
        let mut relay = plan.stderr(far).start();
        upstream.brief_session(&relay);
        assert_eq!(relay.stop(), 0);
        // It listens, a session, the drain, the end.
        let writes = writes(near);
        assert!(writes.len() >= 4 && writes.iter().all(|write| is_a_line(write)), "{writes:?}");
    }
    let (near, far) = packets();
    assert_eq!(command(["--nonsense"]).stderr(far).status().unwrap().code(), Some(2));
    assert_eq!(writes(near).len(), 1);
}

fn is_a_line(write: &str) -> bool {
    write.ends_with('\n') && write.lines().count() == 1
}

/// A stderr of which each read takes what one write brought.
fn packets() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// All there were, once nobody writes any more.
fn writes(stderr: OwnedFd) -> Vec<String> {
    let (mut stderr, mut room) = (File::from(stderr), vec![0; 65_536]);
    let write = || match stderr.read(&mut room).unwrap() {
        0 => None,
        count => Some(String::from_utf8(room[..count].to_vec()).unwrap()),
    };
    std::iter::from_fn(write).collect()
}

#[test]
fn a_terminal_gets_the_level_in_colour_unless_it_wants_none() {
    let colours = |shell: &str| -> Vec<String> {
        let upstream = Upstream::new();
        let (mut near, far) = terminal();
        let mut relay = relay_to(upstream.address).with(["--max-sessions", "1"]).after_shell(shell).stderr(far).start();
        upstream.brief_session(&relay);
        assert_eq!(relay.stop(), 0);
        let mut said = Vec::new();
        // A terminal that nobody writes to any more is an error (EIO).
        let _ = near.read_to_end(&mut said);
        String::from_utf8(said).unwrap().lines().map(str::to_owned).collect()
    };
    let lines = colours(":");
    assert!(lines[0].contains("Z \x1b[36mINFO \x1b[0m [tproxy] listening on 127.0.0.1:"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("Z \x1b[33mWARN \x1b[0m [tproxy] ")), "{lines:?}");
    let lines = colours("export NO_COLOR=1");
    assert!(lines[0].contains("Z INFO  [tproxy] listening on 127.0.0.1:"), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains('\x1b')), "{lines:?}");
}

/// The end of whoever looks at it, and the program's.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let far = ioctl_tiocgptpeer(&near, flags).unwrap();
    (near.into(), far)
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
