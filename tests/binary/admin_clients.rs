//! Clients of `--admin` that are slow, go on sending, or want no body; and what a reload leaves to be seen there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::admin::{answer, get, json_of};
use crate::patience::{skipped, until};
use crate::peers::{Upstream, client, finish, limited, read_all, relayed, say};
use crate::served::Served;

/// A relay with a page to look at, and where that is.
fn shown(words: &[&str]) -> (Served, SocketAddr) {
    let relay = Served::with(&[words, &["--admin", "127.0.0.1:0"]].concat());
    let line = relay.log.wait_for("--admin on ");
    let admin = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    (relay, admin)
}

/// All that is said until the end.
fn rest_of(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_request_that_comes_in_drops_has_no_more_time_than_another() {
    let (mut relay, admin) = shown(&["-f", "127.0.0.1:0", "-t", "127.0.0.1:9"]);
    let stream = limited(TcpStream::connect(admin).unwrap());
    say(&stream, b"GET /healthz HTTP/1.1\r\nX: ");
    // 2 s in all. A byte whenever another request has been answered is many within each 2 s.
    until("the slow one to be reset", || {
        assert_eq!(get(admin, "/healthz", "Host: localhost\r\n").0, 200);
        (&stream).write_all(b"x").err()
    });
    // Nor did it come so far that its headers were too many.
    assert_eq!(read_all(&stream).0, b"");
    relay.stop();
}

#[test]
fn an_answer_arrives_whole_although_its_client_goes_on_sending() {
    let (mut relay, admin) = shown(&["-f", "127.0.0.1:0", "-t", "127.0.0.1:9"]);
    let goes_on = || {
        let stream = limited(TcpStream::connect(admin).unwrap());
        say(&stream, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(answer(&rest_of(&stream)).0, 405);
        // When sixteen others have been answered, what came before was read.
        (0..48).all(|_| {
            get(admin, "/healthz", "Host: localhost\r\n");
            (&stream).write_all(b"x").is_ok()
        })
    };
    // On a machine that is very busy, its 2 s may be over before.
    assert!((0..5).any(|_| goes_on()), "it can go on");
    relay.stop();
}

#[test]
fn who_wants_no_body_gets_none_also_with_a_refusal() {
    let (mut relay, admin) = shown(&["-f", "127.0.0.1:0", "-t", "127.0.0.1:9"]);
    for (host, status) in [("localhost", "200 OK"), ("example.com", "403 Forbidden")] {
        let stream = limited(TcpStream::connect(admin).unwrap());
        say(&stream, format!("HEAD /routes HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        let text = rest_of(&stream);
        assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")) && text.ends_with("\r\n\r\n"), "{text}");
        assert_eq!(text.matches("\r\n\r\n").count(), 1, "{text}");
    }
    relay.stop();
}

/// Its old entry stays for the sessions that it has, and does not listen; the two are one in what is counted.
#[test]
fn a_route_that_was_changed_is_seen_twice_and_counted_once() {
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("relay.toml");
    let write = |idle: u8| {
        let text = format!(
            "idle-timeout = \"{idle}m\"\n[[route]]\nname = \"a\"\nfrom = \"127.0.0.1:0\"\nto = \"{}\"\n",
            upstream.address
        );
        fs::write(&file, text).unwrap();
    };
    write(5);
    let (mut relay, admin) = shown(&["-c", file.to_str().unwrap()]);
    let session = || (client(relay.addresses[0]), upstream.accept());
    let (near, far) = session();
    relayed(&near, &far, b"before");
    write(6);
    relay.signal(Signal::HUP);
    relay.log.wait_for("] reloaded: ");
    let (other_near, other_far) = session();
    relayed(&other_near, &other_far, b"behind");

    let seen = json_of(admin, "/routes");
    let rows: Vec<_> = seen["routes"].as_array().unwrap().iter().map(|row| (&row["listening"], &row["live"])).collect();
    let listening = serde_json::Value::from(relay.addresses[0].to_string());
    assert!(rows.len() == 2 && rows.iter().all(|(_, live)| **live == 1), "{seen}");
    assert_eq!(rows.iter().filter(|(at, _)| **at == listening).count(), 1, "{seen}");
    assert_eq!(rows.iter().filter(|(at, _)| at.is_null()).count(), 1, "{seen}");
    let text = get(admin, "/metrics", "Host: localhost\r\n").1;
    assert!(text.contains("\ntproxy_sessions{route=\"a\"} 2\n"), "{text}");

    for (near, far) in [(other_near, other_far), (near, far)] {
        finish(&near);
        finish(&far);
    }
    let ended = until("both to be counted", || {
        Some(json_of(admin, "/routes")).filter(|seen| seen["sessions"] == 2 && seen["live"] == 0)
    });
    let rows = ended["routes"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["ends"]["client-eof"]), (1, &2.into()), "{ended}");
    // An object in JSON may have a name twice; then a reader sees the last.
    let text = get(admin, "/routes", "Host: localhost\r\n").1;
    assert_eq!(text.matches("client-eof").count(), 1, "{text}");
    relay.stop();
}

#[test]
fn no_counter_of_bytes_takes_from_the_other_direction() {
    let upstream = Upstream::new();
    let (mut relay, admin) = shown(&["-f", "127.0.0.1:0", "-t", &upstream.address.to_string()]);
    let near = client(relay.addresses[0]);
    let far = upstream.accept();
    relayed(&near, &far, b"12345");
    relayed(&far, &near, b"1");
    for _ in 0..3 {
        let text = get(admin, "/metrics", "Host: localhost\r\n").1;
        let count = |direction: &str, count| {
            text.contains(&format!("tproxy_bytes_total{{route=\"127.0.0.1:0\",direction=\"{direction}\"}} {count}\n"))
        };
        assert!(count("up", 5) && count("down", 1), "{text}");
    }
    drop((near, far));
    relay.stop();
}

/// A page whose policy names another script runs nothing.
#[test]
fn the_policy_of_the_page_names_what_is_in_the_page() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/admin");
    let script = "import sys, re, base64, hashlib\n\
        page = open(sys.argv[1] + '/page.html', encoding='utf-8', newline='').read()\n\
        policy = open(sys.argv[1] + '/page.policy').read()\n\
        for tag in 'style', 'script':\n    \
            [part] = re.findall(f'<{tag}>(.*?)</{tag}>', page, re.S)\n    \
            sum = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()\n    \
            assert f\"{tag}-src 'sha256-{sum}'\" in policy, tag + ' is ' + sum\n";
    let mut python = Command::new("python3");
    let Ok(output) = python.args(["-c", script, folder]).stdin(Stdio::null()).output() else {
        return skipped("this takes python3");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
