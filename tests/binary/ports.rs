//! No source port is left: sessions wait for one. In a network namespace of the test's own, with a port or two.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::patience::skipped;
use crate::peers::{Ended, Upstream, end_of, hear, limited, reset, say};
use crate::process::relay_to;

/// The process that the namespace belongs to.
struct Network(Child);

impl Network {
    /// None where only root could make one.
    fn new() -> Option<Self> {
        let script = "ip link set lo up && echo up && exec sleep 600";
        let child = Command::new("unshare")
            .args(["-n", "sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut network = Self(child.ok()?);
        let mut line = String::new();
        BufReader::new(network.0.stdout.take()?).read_line(&mut line).ok()?;
        (line == "up\n").then_some(network)
    }

    /// This thread and what it starts are in the namespace from now on.
    fn enter(&self) {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a test in a namespace of its own.
pub(crate) fn in_a_network_of_its_own(test: fn()) {
    let Some(network) = Network::new() else {
        return skipped("only root can have a network of its own, with unshare and ip");
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            network.enter();
            test();
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// So many source ports to each address from each address, from now on.
pub(crate) fn limit_ports(count: u16) {
    let range = format!("40000 {}", 40000 + count - 1);
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
}

/// A client with an address of its own, at a port that the kernel does not choose from: one that is bound is nobody else's.
pub(crate) fn client(number: u8, relay: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 1, number], 50_000))).unwrap();
    rustix::net::connect(&socket, &relay).unwrap();
    let client = limited(socket.into());
    say(&client, &[number]);
    client
}

/// The number that the next client said.
pub(crate) fn next(upstream: &Upstream) -> (u8, TcpStream) {
    let server = upstream.accept();
    (hear(&server, 1)[0], server)
}

#[test]
fn sessions_wait_in_their_order_until_a_source_port_is_free() {
    in_a_network_of_its_own(|| {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).with(["--connect-timeout", "1m"]).start();
        limit_ports(1);
        let _clients: Vec<_> = (1..=2).map(|number| client(number, relay.address)).collect();
        let warning = relay.log.wait_for("connect: no source port is left to ");
        for word in [&upstream.address.to_string(), "net.ipv4.ip_local_port_range", "net.ipv4.tcp_tw_reuse", "second"] {
            assert!(warning.contains(word), "{word}: {warning}");
        }
        // One waits: more are accepted all the same, and wait behind it.
        let _later: Vec<_> = (3..=5).map(|number| client(number, relay.address)).collect();
        let (number, server) = next(&upstream);
        assert_eq!(number, 1);
        assert!(upstream.is_left_alone());
        let served = relay.descriptors().len();
        // A session's end gives its port to the first that waits.
        reset(server);
        let (number, server) = next(&upstream);
        assert_eq!((number, relay.descriptors().len()), (2, served - 1));
        reset(server);
        let (number, third) = next(&upstream);
        assert_eq!(number, 3);
        // No session ends: only an alarm tells the relay to try again.
        limit_ports(8);
        let servers = [4, 5].map(|expected| {
            let (number, server) = next(&upstream);
            assert_eq!(number, expected);
            server
        });
        servers.into_iter().chain([third]).for_each(reset);
        relay.log.wait_for_sessions(5);
        relay.stop();
        assert_eq!(relay.log.with("WARN").len(), 1, "{:?}", relay.log.lines());
    });
}

#[test]
fn no_ports_when_none_came_free_within_the_connect_timeout() {
    in_a_network_of_its_own(|| {
        let upstream = Upstream::new();
        let relay = relay_to(upstream.address).with(["--connect-timeout", "300ms"]).start();
        limit_ports(1);
        let _first = client(1, relay.address);
        let (_, _server) = next(&upstream);
        assert_eq!(end_of(&client(2, relay.address)), Ended::Reset);
        let session = relay.log.wait_for_session();
        assert_eq!((session.end.as_str(), session.upstream), ("no-ports", Some(upstream.address)));
        assert_eq!(session.client.ip(), IpAddr::from(Ipv4Addr::new(127, 0, 1, 2)));
    });
}
