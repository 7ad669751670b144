//! What the kernel says of its sockets, and addresses where nobody answers.

use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::net::{AddressFamily, SocketType};

use crate::support::until;

/// Waits until the relay's kernel has acknowledged all that this end wrote.
pub(crate) fn delivered(stream: &TcpStream) {
    until("all is acknowledged", || unacked(stream) == 0);
}

/// Bytes this end wrote that were not acknowledged; none once the connection was reset.
pub(crate) fn unacked(stream: &TcpStream) -> u64 {
    let mut count = None;
    // While other connections come and go, the kernel may leave one out of a long table.
    until("the socket is listed, or its connection is over", || {
        let Ok(peer) = stream.peer_addr() else {
            count = Some(0);
            return true;
        };
        let queues = socket_table(stream.local_addr().unwrap(), &hex(peer), 4);
        count = queues.map(|queues| u64::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap());
        count.is_some()
    });
    count.unwrap()
}

/// Does anybody listen there? Asking by connecting would make a session of the question.
pub(crate) fn listens(address: SocketAddr) -> bool {
    socket_table(address, "00000000:0000", 3).as_deref() == Some("0A")
}

/// Was the socket with these ends closed while the kernel still has bytes for its peer? Then it has no inode.
pub(crate) fn is_orphaned(local: SocketAddr, remote: SocketAddr) -> bool {
    socket_table(local, &hex(remote), 9).as_deref() == Some("0")
}

/// A field of the kernel's table of sockets (`proc_pid_net(5)`), for the socket with these ends.
fn socket_table(local: SocketAddr, remote: &str, field: usize) -> Option<String> {
    let ends = format!(" {} {remote} ", hex(local));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().find(|line| line.contains(&ends))?;
    line.split_whitespace().nth(field).map(str::to_owned)
}

fn hex(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from(*v4.ip()).swap_bytes(), v4.port()),
        SocketAddr::V6(_) => panic!("these tests use IPv4"),
    }
}

/// An address that answers no SYN: its queue of one is full (K7). The sockets keep it so.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _sockets: Vec<rustix::fd::OwnedFd>,
}

pub(crate) fn black_hole() -> BlackHole {
    let socket = |nonblocking| {
        let flags = if nonblocking { rustix::net::SocketFlags::NONBLOCK } else { rustix::net::SocketFlags::empty() };
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap()
    };
    let listener = socket(false);
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
    let fillers = (0..3).map(|_| {
        let filler = socket(true);
        let begun = rustix::net::connect(&filler, &address);
        assert!(matches!(begun, Ok(()) | Err(rustix::io::Errno::INPROGRESS)));
        filler
    });
    let mut sockets: Vec<_> = fillers.collect();
    sockets.push(listener);
    BlackHole { address, _sockets: sockets }
}

/// An address that is taken, so that nobody else gets it, and refuses everybody: bound, but not listening.
pub(crate) struct Nobody {
    socket: rustix::fd::OwnedFd,
    pub(crate) address: SocketAddr,
}

pub(crate) fn nobody() -> Nobody {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
    Nobody { socket, address }
}

impl Nobody {
    /// Somebody after all.
    pub(crate) fn listen(self) -> TcpListener {
        rustix::net::listen(&self.socket, 16).unwrap();
        self.socket.into()
    }
}
