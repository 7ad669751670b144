//! An upstream that vanishes with bytes under way.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::network::{End, Network, Wire};
use crate::peers::Relay;

/// The longest that anything is waited for. The kernel alone would take about a quarter of an hour.
const LIMIT: Duration = Duration::from_secs(60);

/// At the far end: says one byte to each who comes, and reads for ever.
fn reader(network: &Network) -> SocketAddr {
    thread::scope(|scope| {
        let start = || {
            network.enter(End::Far);
            let listener = TcpListener::bind("10.99.0.2:0").unwrap();
            let address = listener.local_addr().unwrap();
            // It lives until the process ends: nobody can tell it that the world has gone.
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    stream.write_all(b"!").unwrap();
                    thread::spawn(move || while stream.read(&mut [0; 64 << 10]).is_ok_and(|count| count > 0) {});
                }
            });
            address
        };
        scope.spawn(start).join().unwrap()
    })
}

/// A client of this relay that has heard from the far end, and then says more and more.
fn talker(relay: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(relay).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream.write_all(&[7; 1 << 20]).unwrap();
    stream
}

#[test]
#[ignore = "needs root, iproute2, python3 and /dev/net/tun: see the head of main.rs"]
fn an_upstream_that_vanishes_with_bytes_under_way_is_noticed_within_the_user_timeout() {
    let network = Network::new(&Wire { delay_ms: 5, loss_percent: 0, seed: 1 });
    let upstream = reader(&network);
    let patient = Relay::start(&network, upstream, &[]);
    let relay = Relay::start(&network, upstream, &["--tcp-user-timeout", "3s"]);
    let (tell, told) = channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            network.enter(End::Near);
            let [mut one, mut other] = [relay.address, patient.address].map(talker);
            network.vanish();
            let error = std::iter::repeat(()).find_map(|()| one.write(&[7; 64 << 10]).err()).unwrap();
            assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
            // The one without waits on.
            other.set_nonblocking(true).unwrap();
            let error = std::iter::repeat(()).find_map(|()| other.write(&[7; 64 << 10]).err()).unwrap();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            tell.send(other).unwrap();
        });
    });
    let _other = told.recv().unwrap();
    let lines = relay.stop();
    let session = lines.iter().find(|line| line.contains(" session client=")).unwrap();
    assert!(session.contains(" end=upstream-timeout undelivered="), "{session}");
    eprintln!("{session}");
    let field = session.split(" time=").nth(1).unwrap().split('s').next().unwrap();
    let took: f64 = field.parse().unwrap();
    assert!((2.5..20.0).contains(&took), "{session}");
}
