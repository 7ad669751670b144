//! The relay's process, the upstream beside it, and a client at the other end of the path.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tproxy::net::mio::Mio;
use tproxy::net::{Address, Control, ListenOptions, Message, Net as _, Sleep, Stream, Time, Token};

use crate::network::{End, Network};

/// How often the upstream looks how much is acknowledged.
const LOOK: Duration = Duration::from_millis(5);

/// A reset is sent once and may be lost too. So a client that has heard nothing for this long says something, which is
/// answered with another reset; and after so many times it gives up.
const SILENCE: Duration = Duration::from_secs(5);
const SILENCES: usize = 12;

/// Byte `place` of what every client is sent.
fn byte(place: usize) -> u8 {
    (place ^ place >> 8 ^ place >> 16).to_le_bytes()[0]
}

/// Sends so many bytes to each who comes, and resets as soon as all is acknowledged.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    control: Control,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn start(network: &Network, bytes: usize) -> Self {
        let control = Control::new().unwrap();
        let (stop, (tell, told)) = (control.clone(), channel());
        let thread = thread::scope(|scope| {
            // A thread that lives longer cannot borrow the network: it is started by one that is at that end.
            let serve = move || serve(stop, bytes, |address| tell.send(address).unwrap());
            let started = scope.spawn(|| {
                network.enter(End::Near);
                thread::spawn(serve)
            });
            started.join().unwrap()
        });
        Self { address: told.recv().unwrap(), control, thread: Some(thread) }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.control.stop();
        let _ = self.thread.take().unwrap().join();
    }
}

/// It uses the relay's own seam: there, dropping a stream resets it, and SIOCOUTQ is a call.
fn serve(control: Control, bytes: usize, tell: impl FnOnce(SocketAddr)) {
    let data: Vec<_> = (0..bytes).map(byte).collect();
    let mut net = Mio::new(control).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let (mut listener, bound) = net.listen(&at, &ListenOptions::default(), Token::listener(0)).unwrap();
    let Address::Inet(address) = bound else { panic!("{bound} is no IP address") };
    tell(address);
    let (mut streams, mut now) = (Vec::new(), Time::START);
    let (mut ready, mut messages) = (Vec::new(), Vec::new());
    while !messages.iter().any(|message| matches!(message, Message::Stop)) {
        now = net.wait(Sleep::Until(now + LOOK), &mut ready, &mut messages).unwrap();
        ready.clear();
        while let Ok((stream, _)) = net.accept(&mut listener) {
            streams.push((stream, 0));
        }
        streams.retain_mut(|(stream, sent)| {
            while let Ok(count) = stream.write(&data[*sent..]) {
                *sent += count;
                if *sent == bytes {
                    break;
                }
            }
            *sent < bytes || stream.unacked().unwrap() > 0
        });
    }
}

/// A client that has read to the end.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) received: usize,
    pub(crate) was_reset: bool,
}

impl Client {
    /// Connects to the relay and reads to the end. The calling thread is at the far end.
    pub(crate) fn run(relay: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(relay).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let address = stream.local_addr().unwrap();
        let (mut room, mut received, mut silences) = (vec![0; 64 << 10], 0, 0);
        loop {
            match stream.read(&mut room) {
                Ok(0) => return Self { address, received, was_reset: false },
                Ok(count) => {
                    let right = room[..count].iter().zip(received..).all(|(got, place)| *got == byte(place));
                    assert!(right, "a wrong byte after {received}");
                    received += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && silences < SILENCES => {
                    silences += 1;
                    let _ = stream.write(b"?");
                }
                Err(error) => {
                    let ends = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                    assert!(ends.contains(&error.kind()), "after {received} bytes: {error}");
                    return Self { address, received, was_reset: true };
                }
            }
        }
    }
}

/// The relay's process, at the near end.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    child: Child,
    lines: Option<JoinHandle<Vec<String>>>,
}

impl Relay {
    pub(crate) fn start(network: &Network, upstream: SocketAddr, options: &[&str]) -> Self {
        let spawn = || {
            network.enter(End::Near);
            Command::new(env!("CARGO_BIN_EXE_tproxy"))
                .args(["--from", "10.99.0.1:0", "--to", &upstream.to_string()])
                .args(options)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut child = thread::scope(|scope| scope.spawn(spawn).join().unwrap());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let listening = lines.next().unwrap();
        let address = listening.split("listening on ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        Self { address, child, lines: Some(thread::spawn(|| lines.collect())) }
    }

    /// Stops it, and returns what it logged.
    pub(crate) fn stop(mut self) -> Vec<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.lines.take().unwrap().join().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
