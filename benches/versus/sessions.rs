//! Both ends of the relay's sessions: the clients and the upstream, all in this process.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::failure::{During as _, Outcome, failed};

/// How long a single step of opening a session may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Each run has a new one, so that no connection of an earlier run, in TIME_WAIT, is in its way.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    /// Bytes that come before the client's on each connection: a header that the relay adds.
    pub(crate) header: usize,
}

/// Both ends of a session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: TcpStream,
    pub(crate) upstream: TcpStream,
}

impl Upstream {
    pub(crate) fn open(host: Ipv4Addr, header: usize) -> Outcome<Self> {
        let listener = TcpListener::bind((host, 0)).during("opening an upstream")?;
        // On Linux, accept(2) obeys this time-out too.
        set_socket_timeout(&listener, Timeout::Recv, Some(STEP_TIMEOUT))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, header })
    }
}

/// Opens `count` sessions one after the other and pings each, so that client and upstream ends are matched.
pub(crate) fn open(address: SocketAddr, upstream: &Upstream, count: usize) -> Outcome<Vec<Session>> {
    let sessions = (0..count).map(|number| {
        let client = TcpStream::connect_timeout(&address, STEP_TIMEOUT).during("connecting")?;
        let upstream = ping(&client, upstream, number as u64)?;
        Ok(Session { client, upstream })
    });
    let sessions: Outcome<Vec<_>> = sessions.collect();
    for session in sessions.iter().flatten() {
        session.client.set_nonblocking(true)?;
        session.upstream.set_nonblocking(true)?;
    }
    sessions
}

/// The client sends a number and the upstream returns it. Returns the upstream's end.
pub(crate) fn ping(mut client: &TcpStream, upstream: &Upstream, number: u64) -> Outcome<TcpStream> {
    let (sent, mut received) = (number.to_ne_bytes(), [0; 8]);
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(STEP_TIMEOUT))?;
    client.write_all(&sent).during("sending a ping")?;
    let (mut stream, _) = upstream.listener.accept().during("waiting for it to connect to the upstream")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.read_exact(&mut vec![0; upstream.header]).during("reading a header")?;
    stream.read_exact(&mut received).during("reading a ping")?;
    stream.write_all(&received)?;
    (&mut client).read_exact(&mut received).during("reading the answer to a ping")?;
    if received == sent { Ok(stream) } else { failed("a ping returned with another number") }
}
