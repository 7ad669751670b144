//! Both ends of the sessions that a relay relays: clients on one side, the upstream on the other, all in this process.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::failure::{During as _, Outcome, failed};

/// How long a single step of opening a session may take.
const STEP: Duration = Duration::from_secs(5);

/// Where upstreams listen: not where relays do.
const UPSTREAM: &str = "127.0.0.3:0";

/// A new one for each run, so that a port that waits for late packets of the last run is nobody's trouble.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// A session, seen from both of its ends.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: TcpStream,
    pub(crate) upstream: TcpStream,
}

impl Upstream {
    pub(crate) fn open() -> Outcome<Self> {
        let listener = TcpListener::bind(UPSTREAM).during("opening an upstream")?;
        // On Linux, accept(2) keeps to it too.
        set_socket_timeout(&listener, Timeout::Recv, Some(STEP))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }
}

/// Opens so many, one after the other, so that it is known which upstream connection is whose; each exchanges a word.
pub(crate) fn open(front: SocketAddr, upstream: &Upstream, count: usize) -> Outcome<Vec<Session>> {
    let sessions = (0..count).map(|number| {
        let client = TcpStream::connect_timeout(&front, STEP).during("connecting")?;
        let upstream = greet(&client, upstream, number as u64)?;
        Ok(Session { client, upstream })
    });
    let sessions: Outcome<Vec<_>> = sessions.collect();
    for session in sessions.iter().flatten() {
        session.client.set_nonblocking(true)?;
        session.upstream.set_nonblocking(true)?;
    }
    sessions
}

/// A word from the client that the upstream returns. Returns the upstream's end.
pub(crate) fn greet(mut client: &TcpStream, upstream: &Upstream, number: u64) -> Outcome<TcpStream> {
    let (word, mut heard) = (number.to_ne_bytes(), [0; 8]);
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(STEP))?;
    client.write_all(&word).during("greeting")?;
    let (mut stream, _) = upstream.listener.accept().during("waiting for it to connect to the upstream")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.read_exact(&mut heard).during("reading the client's greeting")?;
    stream.write_all(&heard)?;
    (&mut client).read_exact(&mut heard).during("reading the upstream's greeting")?;
    if heard == word { Ok(stream) } else { failed("a greeting came back as another") }
}
