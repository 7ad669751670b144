//! The kernel this test runs on, through the relay's own `net::mio`.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType, sockopt,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tproxy::net::mio::{Listener, Mio};
use tproxy::net::{Address, Control, ListenOptions, Net, Stream, Token};

use super::{QUIET, Rig};
use crate::plan::inet;

/// The kernel this test runs on.
pub(crate) struct Real {
    net: Mio,
    listener: Option<Listener>,
    front: SocketAddr,
    /// Where the Unix sockets are, if clients come by one.
    folder: Option<TempDir>,
    full: Option<OwnedFd>,
    back: TcpListener,
    /// Listeners with `listen(0)`, and who waits in the queue of those that are full.
    narrow: Vec<TcpListener>,
    waiting: Vec<TcpStream>,
    peers: Vec<Option<TcpStream>>,
}

impl Rig for Real {
    type Net = Mio;

    fn new() -> Self {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        let (listener, front) = net.listen(&at, &ListenOptions::default(), Token::listener(0)).unwrap();
        let front = inet(&front);
        let back = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            net,
            listener: Some(listener),
            front,
            folder: None,
            full: None,
            back,
            narrow: Vec::new(),
            waiting: Vec::new(),
            peers: Vec::new(),
        }
    }

    fn unix() -> Self {
        let (mut rig, folder) = (Self::new(), tempfile::tempdir().unwrap());
        let at = format!("unix:{}", folder.path().join("front").display()).parse().unwrap();
        let (listener, _) = rig.net.listen(&at, &ListenOptions::default(), Token::listener(0)).unwrap();
        (rig.listener, rig.folder) = (Some(listener), Some(folder));
        rig
    }

    fn net(&mut self) -> &mut Mio {
        &mut self.net
    }

    fn listener(&mut self) -> (&mut Mio, &mut Listener) {
        (&mut self.net, self.listener.as_mut().unwrap())
    }

    fn stop_listening(&mut self) {
        self.listener = None;
    }

    fn client(&mut self) -> usize {
        let Some(folder) = &self.folder else { return self.peer(TcpStream::connect(self.front).unwrap()) };
        let stream = UnixStream::connect(folder.path().join("front")).unwrap();
        // std's TCP stream does what is asked of it here with any socket.
        self.peer(OwnedFd::from(stream).into())
    }

    fn upstream(&mut self, there: bool) -> SocketAddr {
        if there {
            return self.back.local_addr().unwrap();
        }
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn full_upstream(&mut self) -> SocketAddr {
        let to = self.listen_for_one();
        self.waiting.push(TcpStream::connect(to).unwrap());
        to
    }

    fn full_unix(&mut self) -> Address {
        let path = self.folder.as_ref().unwrap().path().join("full");
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        self.waiting.push(OwnedFd::from(UnixStream::connect(&path).unwrap()).into());
        self.full = Some(socket);
        format!("unix:{}", path.display()).parse().unwrap()
    }

    fn pass(&mut self, peer: usize, what: &[u8]) {
        let (_reader, writer) = std::io::pipe().unwrap();
        let descriptors = [writer.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let sent = rustix::net::sendmsg(self.stream(peer), &[IoSlice::new(what)], &mut control, SendFlags::empty());
        assert_eq!(sent, Ok(what.len()));
    }

    /// The kernel tries the ports of its range one after the other, every second one first, so sooner or later it
    /// gives the socket the very port that it connects to.
    fn met_itself(&mut self, token: Token) -> tproxy::net::mio::Socket {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let bounds: Vec<u16> = range.split_whitespace().map(|bound| bound.parse().unwrap()).collect();
        // One that nobody has; from the middle on, for the lowest are given to others more often.
        let mut ports = (bounds[0]..=bounds[1]).step_by(2).skip(usize::from(bounds[1] - bounds[0]) / 4);
        let to = ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()).unwrap();
        for _ in 0..1 << 17 {
            let mut stream = self.net.connect(&to.into(), None, token).unwrap();
            // Over loopback the refusal is there when connect returns.
            if stream.take_error().is_ok() {
                return stream;
            }
        }
        panic!("no socket met itself at {to}");
    }

    fn narrow(&mut self) {
        self.front = self.listen_for_one();
    }

    fn knock(&mut self) -> usize {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        let _ = rustix::net::connect(&socket, &self.front);
        self.peer(socket.into())
    }

    fn is_answered(&mut self, peer: usize, within: Duration) -> bool {
        (0..within.as_millis().div_ceil(QUIET.as_millis())).any(|_| {
            self.events(Token::listener(0));
            // ENOTCONN as long as there is no answer.
            self.stream(peer).peer_addr().is_ok()
        })
    }

    fn make_room(&mut self) {
        self.narrow.last().unwrap().accept().unwrap();
    }

    fn answered(&mut self, _: &tproxy::net::mio::Socket) -> usize {
        let (stream, _) = self.back.accept().unwrap();
        self.peer(stream)
    }

    fn say(&mut self, peer: usize, what: &[u8]) {
        self.stream(peer).write_all(what).unwrap();
    }

    fn say_urgent(&mut self, peer: usize, what: u8) {
        assert_eq!(rustix::net::send(self.stream(peer), &[what], SendFlags::OOB).unwrap(), 1);
    }

    fn fin(&mut self, peer: usize) {
        self.stream(peer).shutdown(Shutdown::Write).unwrap();
    }

    fn close(&mut self, peer: usize) {
        self.peers[peer] = None;
    }

    fn reset(&mut self, peer: usize) {
        sockopt::set_socket_linger(self.stream(peer), Some(Duration::ZERO)).unwrap();
        self.peers[peer] = None;
    }

    /// It is handed to a process that does nothing with it, as its stdin, and that one is killed.
    fn kill(&mut self, peer: usize, armed: bool) {
        let stream = self.peers[peer].take().unwrap();
        sockopt::set_socket_linger(&stream, armed.then_some(Duration::ZERO)).unwrap();
        let mut process = Command::new("sleep").arg("60").stdin(OwnedFd::from(stream)).spawn().unwrap();
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    fn hear(&mut self, peer: usize) -> Result<Vec<u8>, ErrorKind> {
        let mut room = vec![0; 1 << 16];
        let count = self.stream(peer).read(&mut room).map_err(|error| error.kind())?;
        room.truncate(count);
        Ok(room)
    }

    /// Over loopback a segment is in the other queue before the call that sent it returns, unless the machine is busy
    /// and puts that off. Nothing tells when it is there, so this takes as long as it does in the simulation.
    #[expect(clippy::disallowed_methods, reason = "what is waited for raises no event, and an event must not be taken")]
    fn settle(&mut self) {
        std::thread::sleep(QUIET / 10);
    }
}

impl Real {
    /// One may wait in its queue, and nobody else is answered (K7).
    fn listen_for_one(&mut self) -> SocketAddr {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        self.narrow.push(socket.into());
        self.narrow.last().unwrap().local_addr().unwrap()
    }

    fn peer(&mut self, stream: TcpStream) -> usize {
        if self.folder.is_none() {
            stream.set_nodelay(true).unwrap();
        }
        stream.set_read_timeout(Some(10 * QUIET)).unwrap();
        self.peers.push(Some(stream));
        self.peers.len() - 1
    }

    fn stream(&mut self, peer: usize) -> &mut TcpStream {
        self.peers[peer].as_mut().unwrap()
    }
}
