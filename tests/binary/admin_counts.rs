//! What `--admin` counts: sessions, their ends and their bytes, each once.

use std::fs;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::admin::{Inside, get, http_address, json_of};
use crate::patience::until;
use crate::peers::{Upstream, client, finish, read_all, relayed, say};
use crate::served::Served;

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
    let mut relay = Served::with(&["-c", file.to_str().unwrap(), "--admin", "127.0.0.1:0"]);
    let admin = http_address(&relay.log, "admin");
    let session = || (client(relay.addresses[0]), upstream.accept());
    let end = |(near, far): (TcpStream, TcpStream)| {
        finish(&near);
        finish(&far);
    };
    (0..2).for_each(|_| end(session()));
    until("two to be counted", || (json_of(admin, "/routes")["sessions"] == 2).then_some(()));
    let (near, far) = session();
    relayed(&near, &far, b"before");
    write(6);
    relay.signal(Signal::HUP);
    relay.log.wait_for("] reloaded: ");
    let (other_near, other_far) = session();
    relayed(&other_near, &other_far, b"behind");

    let seen = json_of(admin, "/routes");
    let rows: Vec<_> = seen["routes"].as_array().unwrap().iter().map(|row| (&row["listening"], &row["live"])).collect();
    let listening = Value::from(relay.addresses[0].to_string());
    assert!(rows.len() == 2 && rows.iter().all(|(_, live)| **live == 1), "{seen}");
    assert_eq!(rows.iter().filter(|(at, _)| **at == listening).count(), 1, "{seen}");
    assert_eq!(rows.iter().filter(|(at, _)| at.is_null()).count(), 1, "{seen}");
    let text = get(admin, "/metrics", "Host: localhost\r\n").1;
    assert!(text.contains("\ntproxy_sessions{route=\"a\"} 2\n"), "{text}");

    [(other_near, other_far), (near, far)].into_iter().for_each(end);
    let ended = until("all to be counted", || {
        Some(json_of(admin, "/routes")).filter(|seen| seen["sessions"] == 4 && seen["live"] == 0)
    });
    let rows = ended["routes"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["ends"]["client-eof"]), (1, &4.into()), "{ended}");
    // An object in JSON may have a name twice; then a reader sees the last.
    let text = get(admin, "/routes", "Host: localhost\r\n").1;
    assert_eq!(text.matches("client-eof").count(), 1, "{text}");
    relay.stop();
}

#[test]
fn a_refused_client_is_among_the_ends() {
    let inside = Inside::with(&["--deny", "127.0.0.0/8"]);
    // It may be reset before connect(2) has returned.
    drop(TcpStream::connect(inside.address()));
    let seen = until("it to be counted", || Some(inside.json("/routes")).filter(|seen| seen["denied"] == 1));
    assert_eq!(seen["routes"][0]["ends"]["denied"], 1, "{seen}");
}

#[test]
fn listeners_of_one_name_are_counted_together() {
    let upstream = Upstream::new();
    let to = upstream.address.to_string();
    let words = ["-f", "127.0.0.1:0,127.0.0.1:0", "-t", &to, "--admin", "127.0.0.1:0"];
    let mut relay = Served::with(&words);
    let admin = http_address(&relay.log, "admin");
    for (address, said) in relay.addresses.iter().zip([&b"12345"[..], b"123"]) {
        let near = client(*address);
        let far = upstream.accept();
        relayed(&near, &far, said);
        relayed(&far, &near, &said[1..]);
        finish(&near);
        finish(&far);
        relay.log.wait_for(&format!("up={} down={} ", said.len(), said.len() - 1));
    }
    let text = get(admin, "/metrics", "Host: localhost\r\n").1;
    let route = "route=\"127.0.0.1:0\"";
    for line in [
        format!("tproxy_sessions_total{{{route},end=\"client-eof\"}} 2"),
        format!("tproxy_bytes_total{{{route},direction=\"up\"}} 8"),
        format!("tproxy_bytes_total{{{route},direction=\"down\"}} 6"),
    ] {
        assert_eq!(text.lines().filter(|it| *it == line).count(), 1, "{line}: {text}");
    }
    assert_eq!(relay.stop(), 0);
}

#[test]
fn no_counter_of_bytes_takes_from_the_other_direction() {
    let inside = Inside::with(&[]);
    let near = client(inside.address());
    let far = inside.upstream.accept();
    relayed(&near, &far, b"12345");
    relayed(&far, &near, b"1");
    for _ in 0..3 {
        let text = inside.get("/metrics").1;
        let count = |direction: &str, count| {
            text.contains(&format!("tproxy_bytes_total{{route=\"127.0.0.1:0\",direction=\"{direction}\"}} {count}\n"))
        };
        assert!(count("up", 5) && count("down", 1), "{text}");
    }
}

/// A look asks for routes first and for sessions later. One that ends in between may be missed, and is not counted twice.
#[test]
fn no_look_counts_bytes_that_nobody_has_sent() {
    let inside = Inside::with(&[]);
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            // Were one with many bytes counted twice, those with one byte behind it would not make up for that.
            for bytes in [10_000, 1, 1, 1].into_iter().cycle().take(1_000) {
                let near = client(inside.address());
                sent.fetch_add(bytes as u64, Ordering::SeqCst);
                say(&near, &vec![7; bytes]);
                finish(&near);
                let far = inside.upstream.accept();
                assert_eq!(read_all(&far).0.len(), bytes);
            }
        });
        while !load.is_finished() {
            let text = inside.get("/metrics").1;
            let count = text.lines().find_map(|line| line.split_once("direction=\"up\"} ")).unwrap().1;
            let (count, sent) = (count.parse::<u64>().unwrap(), sent.load(Ordering::SeqCst));
            assert!(count <= sent, "{count} are counted, {sent} were sent");
        }
    });
}
