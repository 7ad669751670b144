//! One connection, whose client is slow or never stops.
#![expect(clippy::disallowed_methods, reason = "a test has no turn to take the time from")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use log::LevelFilter;
use tproxy::Control;
use tproxy::net::mio::Listener;

use super::super::connection::{Connection, Next};
use super::super::how;
use super::super::role::Role;
use super::super::view::View;
use crate::logging::LogQueue;

/// The longest that a test waits. Nothing takes this long but on a machine that is very busy.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection and its client.
fn connected() -> (Connection, TcpStream, View) {
    let (mut listener, address) = Listener::bind(&"127.0.0.1:0".parse().unwrap(), &how()).unwrap();
    let client = TcpStream::connect(address.inet().unwrap()).unwrap();
    let began = Instant::now();
    let mut accepted = listener.accept();
    while accepted.is_err() && began.elapsed() < LIMIT {
        thread::yield_now();
        accepted = listener.accept();
    }
    let socket = accepted.expect("it has connected").0;
    let view = View::new(Control::new().unwrap(), LogQueue::unwritten(LevelFilter::Off));
    (Connection::new(socket, Role::Admin, false, Instant::now()), client, view)
}

const REQUEST: &[u8] = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Runs it until it is over.
fn run(connection: &mut Connection, view: &mut View, mut between: impl FnMut()) -> Next {
    let began = Instant::now();
    loop {
        let next = connection.run(view);
        if next != Next::Wait {
            return next;
        }
        assert!(began.elapsed() < LIMIT, "it still waits");
        between();
    }
}

/// The deadline is set once and not renewed.
#[test]
fn its_time_is_that_of_all_it_does() {
    let (mut connection, mut client, mut view) = connected();
    let until = connection.until;
    let (mut sent, mut said) = (REQUEST.chunks(5), [0; 4096]);
    // The client sends five bytes at a time, and reads one at a time.
    client.set_nonblocking(true).unwrap();
    let mut heard = 0;
    let next = run(&mut connection, &mut view, || {
        match sent.next() {
            Some(part) => client.write_all(part).unwrap(),
            None => match client.read(&mut said[..1]) {
                Ok(0) => client.shutdown(std::net::Shutdown::Write).unwrap_or_default(),
                Ok(count) => heard += count,
                Err(_) => {}
            },
        };
    });
    assert!(next == Next::Close && heard > 100, "{next:?} after {heard} bytes");
    assert_eq!(connection.until, until);
}

/// It has its answer, and the thread does not read for ever what comes behind its request.
#[test]
fn one_that_never_stops_sending_does_not_keep_the_thread() {
    let (mut connection, mut client, mut view) = connected();
    // More than the sockets hold, and than comes in one run.
    let flood = thread::spawn(move || {
        let block = vec![b'x'; 64 << 10];
        client.write_all(REQUEST).unwrap();
        (0..32 << 10).try_for_each(|_| client.write_all(&block)).map(|()| client)
    });
    // While nothing comes it waits, as it should.
    let next = run(&mut connection, &mut view, thread::yield_now);
    assert_eq!(next, Next::Reset);
    drop(connection);
    assert!(flood.join().unwrap().is_err(), "it was cut off in the middle");
}
