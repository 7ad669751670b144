//! Listening sockets that another program has left open for us: systemd, a supervisor, or the relay before this one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

use super::listen::{Listener, set_up};
use super::options::set_options;
use super::raw;
use super::socket::local;
use super::unix::SocketFile;
use crate::net::{Address, ListenOptions};

/// A listening socket that was inherited. The relay takes it where a route listens at its address.
#[derive(Debug)]
pub struct Inherited {
    socket: Arc<OwnedFd>,
    /// What it is known by.
    at: Address,
    origin: Origin,
    /// It stays open although no route has it.
    is_kept: bool,
}

/// Where a listening socket comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Another program owns it too, and it stays open when no route has it.
    Lent,
    /// The relay before this one bound it. It may have left a file.
    Left {
        /// It has.
        file: bool,
    },
    /// It is our own.
    Bound,
}

impl Inherited {
    /// Takes the listening socket with this number from the program that has started us, known by the address that it is
    /// bound to. To be called before anything is listened on, and once for each number.
    ///
    /// # Errors
    /// EBADF if nothing is open under this number, ENOTSOCK if that is no socket, and InvalidInput with words if it is a
    /// socket for datagrams, one that does not listen, or neither TCP nor Unix.
    pub fn lent(number: RawFd) -> io::Result<Self> {
        Self::take(number, None, Origin::Lent)
    }

    /// Takes the socket with this number from the relay before this one, known by the address as it was written there. See
    /// [`Handed`](crate::net::Handed) for the file.
    ///
    /// # Errors
    /// As [`lent`](Self::lent).
    pub fn left(number: RawFd, at: Address, has_file: bool) -> io::Result<Self> {
        Self::take(number, Some(at), Origin::Left { file: has_file })
    }

    fn take(number: RawFd, at: Option<Address>, origin: Origin) -> io::Result<Self> {
        let socket = raw::inherited(number, check)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        let at = at.map_or_else(|| local(&socket), Ok)?;
        Ok(Self { socket: Arc::new(socket), at, origin, is_kept: false })
    }

    /// It stays open also where no route has it: a reload may name it again.
    #[must_use]
    pub fn kept(self) -> Self {
        Self { is_kept: true, ..self }
    }

    /// Is it to stay open?
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Nothing listens with it: it is closed, and the file goes that the relay before left.
    pub fn discard(self) {
        match self.origin {
            Origin::Left { file } => {
                log::info!("nothing listens on {} any more: its socket is closed", self.at);
                drop(self.at.path().filter(|_| file).map(SocketFile::found));
            }
            Origin::Lent | Origin::Bound => {
                log::warn!("no route listens on {}: the inherited socket is closed (name it in --from)", self.at);
            }
        }
    }

    /// The address that it is known by.
    pub fn address(&self) -> &Address {
        &self.at
    }

    /// One that stays open without a route.
    pub(super) fn new(socket: Arc<OwnedFd>, at: Address, origin: Origin) -> Self {
        Self { socket, at, origin, is_kept: true }
    }

    pub(super) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Listens with it from now on, and returns it with the address that it is bound to.
    ///
    /// # Errors
    /// When an option cannot be set.
    pub fn listen(self, how: &ListenOptions) -> io::Result<(Listener, Address)> {
        let Self { socket, at, origin, is_kept: _ } = self;
        // The name that a Unix socket was bound to is not that of its file: see `unix.rs`.
        let bound = if origin == Origin::Lent || !at.is_unix() { local(&socket)? } else { at.clone() };
        rustix::io::ioctl_fionbio(&socket, true)?;
        if !bound.is_unix() {
            set_options(&socket)?;
        }
        set_up(&socket, bound.is_unix(), how)?;
        let file = match (origin, bound.path()) {
            (Origin::Left { file: true }, Some(path)) => SocketFile::found(path).ok(),
            (Origin::Left { .. } | Origin::Lent | Origin::Bound, _) => None,
        };
        if let Some(file) = &file {
            file.set_mode(how.unix_mode)?;
        }
        Ok((Listener::inherited(socket, at, origin, file, *how), bound))
    }
}

/// Is it a listening socket of a kind that can be relayed?
fn check(socket: BorrowedFd<'_>) -> io::Result<()> {
    let unfit = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    match sockopt::socket_type(socket)? {
        SocketType::STREAM => {}
        _ => return unfit("it is no stream socket; a relay needs one that listens (ListenStream= of systemd)"),
    }
    let family = sockopt::socket_domain(socket)?;
    // A pseudo protocol of the kernel, such as SCTP or MPTCP, has other options.
    let is_tcp = || sockopt::socket_protocol(socket).is_ok_and(|protocol| protocol.is_none_or(|it| it == ipproto::TCP));
    match family {
        AddressFamily::UNIX => {}
        AddressFamily::INET | AddressFamily::INET6 if is_tcp() => {}
        _ => return unfit("it is neither a TCP nor a Unix socket"),
    }
    if !sockopt::socket_acceptconn(socket)? {
        return unfit("it does not listen; a relay needs a listening socket (Accept=no of systemd)");
    }
    Ok(())
}
