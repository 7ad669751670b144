//! What is answered when the loop is slow, and when sessions come and go.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use log::LevelFilter;
use tproxy::{Config, Relay};

use super::super::http::{Answer, Request};
use super::super::role::Role;
use super::super::view::View;
use crate::logging::LogQueue;

fn relay(upstream: SocketAddr) -> (Relay, View) {
    let relay = Relay::bind(Config::new(SocketAddr::from(([127, 0, 0, 1], 0)), [upstream])).unwrap();
    let view = View::new(relay.control(), LogQueue::unwritten(LevelFilter::Off));
    (relay, view)
}

fn ask(view: &mut View, path: &str) -> Answer {
    let request = Request { path: path.to_owned(), query: String::new(), host: None, is_head: false };
    view.answer(Role::Admin, &request)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test of time")]
fn a_loop_that_stands_still_is_waited_for_once_and_asked_again() {
    let (relay, mut view) = relay(([127, 0, 0, 1], 9).into());
    let control = relay.control();
    // It does not run yet.
    assert!(ask(&mut view, "/healthz").status.starts_with("503"));
    let begun = Instant::now();
    for path in ["/healthz", "/readyz", "/metrics", "/routes", "/sessions"] {
        assert!(ask(&mut view, path).status.starts_with("503"), "{path}");
    }
    // The first question took a second, above. Each of these waits a moment for its answer.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?} for five", begun.elapsed());
    assert_eq!(ask(&mut view, "/").status, "200 OK", "it needs no numbers");
    let running = thread::spawn(move || relay.run());
    // The late answer to the first question has no routes, and is not taken for this one's.
    let first = (0..1000).map(|_| ask(&mut view, "/routes")).find(|answer| answer.status == "200 OK");
    assert!(first.expect("it runs, and answers").body.contains("\"endpoints\":"));
    assert!((0..1000).any(|_| ask(&mut view, "/healthz").status == "200 OK"), "and goes on");
    control.stop();
    running.join().unwrap().unwrap();
}

/// A session that ends between two questions is in neither answer: then a look sees less than the one before.
#[test]
fn a_counter_of_bytes_never_goes_back() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let (relay, mut view) = relay(upstream.local_addr().unwrap());
    let (control, address) = (relay.control(), relay.local_addr());
    let running = thread::spawn(move || relay.run());
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"12345").unwrap();
    let name = "127.0.0.1:0";
    let shows = |view: &mut View, [up, down]: [u64; 2]| {
        let text = ask(view, "/metrics").body;
        let line = |direction, count| {
            text.contains(&format!("\ntproxy_bytes_total{{route=\"{name}\",direction=\"{direction}\"}} {count}\n"))
        };
        line("up", up) && line("down", down)
    };
    assert!((0..100_000).any(|_| shows(&mut view, [5, 0])), "those of a session that lives");
    assert_eq!(view.bytes[name], [5, 0], "is remembered");
    view.bytes.insert(name.into(), [4, 7]);
    assert!((0..1000).any(|_| shows(&mut view, [5, 7])));
    assert_eq!(view.bytes[name], [5, 7]);
    // Or the drain would wait for its session.
    drop((client, upstream));
    control.stop();
    running.join().unwrap().unwrap();
}
