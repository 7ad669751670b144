//! Listening sockets.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SocketAddrAny, sockopt};

use super::Socket;
use super::inherited::{Inherited, Origin};
use super::options::{set_keepalive, set_options, set_unix_options, set_user_timeout, stream_socket};
use super::raw;
use super::socket::local;
use super::unix::{self, SocketFile};
use crate::net::{Address, Client, Closing, Handed, ListenOptions};

/// A listening socket, TCP or Unix.
#[derive(Debug)]
pub struct Listener {
    // First: the file goes before the socket, which keeps its number from being used again.
    file: Option<SocketFile>,
    socket: Arc<OwnedFd>,
    is_unix: bool,
    /// Its address as it was written.
    at: Address,
    origin: Origin,
    /// Clients may wait in its queue that came before it had these options (K23). None: it was seen empty since.
    unset: Option<ListenOptions>,
}

impl Listener {
    /// Listens at `address`, and returns it as it is bound.
    ///
    /// # Errors
    /// When one of the calls fails: socket(2), bind(2), listen(2), and those for the file of a Unix socket.
    pub fn bind(address: &Address, how: &ListenOptions) -> io::Result<(Self, Address)> {
        let (socket, file, bound) = match address {
            Address::Inet(inet) => {
                let socket = bind(*inet, how)?;
                let bound = local(&socket)?;
                (socket, None, bound)
            }
            Address::Unix(name) => {
                let (socket, file) = unix::bind(name, how)?;
                (socket, file, address.clone())
            }
        };
        let (is_unix, at) = (address.is_unix(), address.clone());
        Ok((Self { file, socket: Arc::new(socket), is_unix, at, origin: Origin::Bound, unset: None }, bound))
    }

    /// Listens with this socket, which listens already.
    pub(super) fn inherited(
        socket: Arc<OwnedFd>,
        at: Address,
        origin: Origin,
        file: Option<SocketFile>,
        how: ListenOptions,
    ) -> Self {
        Self { file, socket, is_unix: at.is_unix(), at, origin, unset: Some(how) }
    }

    /// Takes a client off the queue. Its options are those of the listener; a Unix socket inherits none and has one.
    ///
    /// # Errors
    /// WouldBlock if there is none; otherwise as accept(2).
    pub fn accept(&mut self) -> io::Result<(Socket, Client)> {
        let (stream, address) = accept(&self.socket).inspect_err(|error| {
            if error.kind() == ErrorKind::WouldBlock {
                self.unset = None;
            }
        })?;
        if self.is_unix {
            let _ = set_unix_options(&stream);
            // Not to know who it is does not matter enough to reset it.
            let (pid, uid) = raw::credentials(stream.as_fd()).unwrap_or((0, u32::MAX));
            return Ok((Socket::unix(stream), Client::unix(pid, uid)));
        }
        if let Some(how) = &self.unset {
            // Without the first, dropping it would be a FIN: rather no client than that. It is not there any more.
            set_options(&stream).map_err(|_| ErrorKind::ConnectionAborted)?;
            let _ = set_times(&stream, how);
        }
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        Ok((Socket::tcp(stream), address.ok_or(ErrorKind::ConnectionAborted)?.into()))
    }

    /// Listens this way from now on. The queue stays, and so do the options of those in it (K23).
    pub(super) fn change(&mut self, how: &ListenOptions) -> io::Result<()> {
        if let Some(unset) = &mut self.unset {
            *unset = *how;
        }
        if let Some(file) = &self.file {
            file.set_mode(how.unix_mode)?;
        }
        set_up(&self.socket, self.is_unix, how)
    }

    /// For another process.
    pub fn hand_over(&self) -> Handed {
        let has_file = self.file.as_ref().is_some_and(SocketFile::is_ours);
        Handed::new(self.at.clone(), Arc::clone(&self.socket), has_file)
    }

    /// Closes it. Its events have ended. Returns what stays open, without being listened on.
    pub fn close(mut self, why: Closing) -> Option<Inherited> {
        let leaves_file = match why {
            Closing::HandedOver => true,
            // It has not taken the other relay's place.
            Closing::Abandoned => self.origin != Origin::Bound,
            Closing::Stopped | Closing::Removed => false,
        };
        if leaves_file && let Some(file) = self.file.take() {
            file.leave();
        }
        let is_kept = self.origin == Origin::Lent && matches!(why, Closing::Removed | Closing::Abandoned);
        is_kept.then(|| Inherited::new(self.socket, self.at, self.origin))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What can be changed of a socket that listens.
pub(super) fn set_up(socket: &OwnedFd, is_unix: bool, how: &ListenOptions) -> io::Result<()> {
    if !is_unix {
        set_times(socket, how)?;
    }
    // Called again, listen(2) only sets the length of the queue (`__inet_listen_sk`).
    Ok(rustix::net::listen(socket, how.backlog.into())?)
}

fn set_times(socket: &OwnedFd, how: &ListenOptions) -> io::Result<()> {
    match how.keepalive {
        Some(idle) => set_keepalive(socket, idle)?,
        None => sockopt::set_socket_keepalive(socket, false)?,
    }
    set_user_timeout(socket, how.user_timeout)
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn accept(from: &OwnedFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    use rustix::net::SocketFlags;
    Ok(rustix::net::acceptfrom_with(from, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn accept(from: &OwnedFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (socket, address) = rustix::net::acceptfrom(from)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok((socket, address))
}

/// Listens on `address`. Port 0 lets the kernel choose one. A wildcard `[::]` takes IPv4 too, whatever the sysctl
/// `net.ipv6.bindv6only` says. On a machine without IPv6 it becomes `0.0.0.0`.
fn bind(address: SocketAddr, how: &ListenOptions) -> io::Result<OwnedFd> {
    let everywhere = address.ip() == Ipv6Addr::UNSPECIFIED;
    match bind_to(address, how) {
        Err(error) if everywhere && Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) => {
            bind_to((Ipv4Addr::UNSPECIFIED, address.port()).into(), how)
        }
        result => result,
    }
}

fn bind_to(address: SocketAddr, how: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = stream_socket(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // Accepted sockets inherit these (K13): set once here, they cost nothing per client.
    set_options(&socket)?;
    if let Some(idle) = how.keepalive {
        set_keepalive(&socket, idle)?;
    }
    if how.user_timeout.is_some() {
        set_user_timeout(&socket, how.user_timeout)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, how.backlog.into())?;
    Ok(socket)
}
