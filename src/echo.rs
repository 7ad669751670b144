//! `--to echo:`: a server that sends back what it gets, on a thread of its own.
//!
//! It is one small event loop and not a thread for each connection: it takes as many connections as the relay has sessions,
//! and one that does not read costs a buffer and holds up no other. Like the relay it tells the truth about the end: its FIN
//! follows the client's, after the last byte, and a connection that fails is dropped.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use log::error;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::process::{Resource, getrlimit};
use slab::Slab;
use tproxy::Config;

/// Bytes that are read at once, and the most that a connection holds.
const CHUNK: usize = 64 << 10;

/// Chunks of one connection, before another has its turn.
const TURN: usize = 4;

/// Connections that are accepted in a row.
const ACCEPT_MAX: usize = 64;

/// When accepting failed, it is tried again after this time.
const PAUSE: Duration = Duration::from_millis(100);

/// Descriptors for all else than sessions.
const SPARE: u64 = 64;

const LISTENER: Token = Token(usize::MAX);

/// Where the server listens, once it does.
static ADDRESS: Mutex<Option<SocketAddr>> = Mutex::new(None);

/// Where the server listens. The first call starts it.
pub(crate) fn address() -> io::Result<SocketAddr> {
    let mut address = ADDRESS.lock().unwrap_or_else(PoisonError::into_inner);
    match *address {
        Some(address) => Ok(address),
        None => Ok(*address.insert(start()?)),
    }
}

/// The other end of a session that leads here is a descriptor of this process too: three for each session, not two.
pub(crate) fn limit(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(limit.saturating_sub(SPARE) / 3).unwrap_or(usize::MAX).max(1);
    let sessions = config.max_sessions.map_or(room, |asked| asked.min(room));
    // Beyond it the relay has a limit of its own, which needs no warning.
    if sessions < 1 << 20 {
        config.max_sessions = Some(sessions);
    }
}

fn start() -> io::Result<SocketAddr> {
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = listener.local_addr()?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let server =
        Server { poll, listener, connections: Slab::new(), ready: Vec::new(), accepting: false, failing: false };
    thread::Builder::new().name("echo".into()).spawn(|| {
        if let Err(error) = server.run() {
            error!("the built-in echo server has failed: {error}");
        }
    })?;
    Ok(address)
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    /// Those that may have something to do, each once.
    ready: Vec<usize>,
    /// Clients may wait in the queue.
    accepting: bool,
    /// Accepting has failed, and is tried again after a pause.
    failing: bool,
}

struct Connection {
    stream: TcpStream,
    /// What was read and not written yet, from `sent` on. It has memory only then.
    held: Vec<u8>,
    sent: usize,
    is_ready: bool,
}

/// What became of a connection in its turn.
#[derive(Debug, PartialEq, Eq)]
enum After {
    /// It waits for an event.
    Blocked,
    /// It has more to do.
    Ready,
    /// It is over.
    Over,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut chunk = vec![0; CHUNK];
        loop {
            let timeout = match (self.ready.is_empty(), self.accepting, self.failing) {
                (true, false, _) => None,
                (true, true, true) => Some(PAUSE),
                (false, _, _) | (_, true, false) => Some(Duration::ZERO),
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            events.iter().for_each(|event| self.mark(event));
            for key in std::mem::take(&mut self.ready) {
                self.serve(key, &mut chunk);
            }
            if self.accepting {
                self.accept();
            }
        }
    }

    fn mark(&mut self, event: &Event) {
        match event.token() {
            LISTENER => self.accepting = true,
            Token(key) => self.wake(key),
        }
    }

    fn wake(&mut self, key: usize) {
        // A stranger's late event costs one turn, in which nothing moves.
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.is_ready, true)
        {
            self.ready.push(key);
        }
    }

    fn serve(&mut self, key: usize, chunk: &mut [u8]) {
        let connection = &mut self.connections[key];
        connection.is_ready = false;
        match connection.turn(chunk) {
            After::Blocked => {}
            After::Ready => self.wake(key),
            // Dropping closes it.
            After::Over => drop(self.connections.remove(key)),
        }
    }

    /// Goes on with the next turn if there may be more, or after a pause if accepting fails.
    fn accept(&mut self) {
        self.failing = false;
        for _ in 0..ACCEPT_MAX {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.accepting = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted || is_the_clients(&error) => {}
                Err(_) => {
                    self.failing = true;
                    return;
                }
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        if register(self.poll.registry(), &mut stream, key).is_ok() {
            entry.insert(Connection { stream, held: Vec::new(), sent: 0, is_ready: false });
            self.wake(key);
        }
    }
}

fn register(registry: &Registry, stream: &mut TcpStream, key: usize) -> io::Result<()> {
    registry.register(stream, Token(key), Interest::READABLE | Interest::WRITABLE)
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::TimedOut)
}

impl Connection {
    /// Writes what it holds and reads more, until it would block or another has its turn.
    fn turn(&mut self, chunk: &mut [u8]) -> After {
        let mut left = TURN;
        loop {
            while self.sent < self.held.len() {
                match (&self.stream).write(&self.held[self.sent..]) {
                    Ok(count) => self.sent += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Blocked,
                    Err(_) => return After::Over,
                }
            }
            (self.held, self.sent) = (Vec::new(), 0);
            if left == 0 {
                return After::Ready;
            }
            left -= 1;
            match (&self.stream).read(chunk) {
                Ok(0) => {
                    // All was written: the FIN goes out behind it.
                    let _ = self.stream.shutdown(Shutdown::Write);
                    return After::Over;
                }
                Ok(count) => match self.write(&chunk[..count]) {
                    Ok(()) => {}
                    Err(_) => return After::Over,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Blocked,
                Err(_) => return After::Over,
            }
        }
    }

    /// Writes as much as the socket takes, and keeps the rest.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = match (&self.stream).write(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            result => result?,
        };
        self.held.extend_from_slice(&bytes[count..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn client() -> TcpStream {
        let client = TcpStream::connect(address().unwrap()).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.set_write_timeout(Some(LIMIT)).unwrap();
        client
    }

    #[test]
    fn what_was_said_comes_back_and_the_fin_behind_it() {
        let bytes: Vec<u8> = (0..3_000_007_u32).map(|count| count.to_le_bytes()[usize::from(count % 3 == 0)]).collect();
        let client = client();
        thread::scope(|scope| {
            scope.spawn(|| {
                (&client).write_all(&bytes).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            let mut heard = Vec::new();
            (&client).read_to_end(&mut heard).unwrap();
            assert!(heard == bytes, "{} bytes of {}", heard.len(), bytes.len());
        });
    }

    #[test]
    fn a_client_that_does_not_read_holds_up_no_other() {
        let stalled = client();
        stalled.set_nonblocking(true).unwrap();
        let chunk = vec![7; CHUNK];
        let mut written = 0;
        // Until all buffers are full, ours and the kernel's.
        loop {
            match (&stalled).write(&chunk) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        for word in [b"one", b"two"] {
            let mut other = client();
            other.write_all(word).unwrap();
            let mut heard = [0; 3];
            other.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, word);
        }
        // And it loses nothing.
        stalled.set_nonblocking(false).unwrap();
        stalled.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        (&stalled).read_to_end(&mut heard).unwrap();
        assert_eq!(heard.len(), written);
    }

    #[test]
    fn many_are_served_at_a_time() {
        let clients: Vec<_> = (0..200).map(|_| client()).collect();
        for (number, mut client) in clients.iter().enumerate() {
            client.write_all(&number.to_le_bytes()).unwrap();
        }
        for (number, mut client) in clients.iter().enumerate().rev() {
            let mut heard = [0; size_of::<usize>()];
            client.read_exact(&mut heard).unwrap();
            assert_eq!(usize::from_le_bytes(heard), number);
        }
    }

    #[test]
    fn a_third_of_the_descriptors_is_the_most_sessions() {
        let limit = getrlimit(Resource::Nofile).current.unwrap();
        let mut config = Config::of([]);
        config.max_sessions = Some(7);
        super::limit(&mut config);
        assert_eq!(config.max_sessions, Some(7));
        config.max_sessions = None;
        super::limit(&mut config);
        if let Some(sessions) = config.max_sessions {
            assert!(sessions as u64 * 3 + SPARE <= limit, "{sessions} of {limit}");
        }
    }
}
