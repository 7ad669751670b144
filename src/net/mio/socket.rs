//! A connected socket, TCP or Unix.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketAddrUnix, sockopt};

use super::options;
use super::pipe::Pipe;
use super::raw::{self, MarkedFd};
use crate::net::{Address, Stream};

/// A connected socket, TCP or Unix; four bytes. The descriptor of a Unix socket has the mark.
#[derive(Debug)]
pub struct Socket(MarkedFd);

impl Socket {
    pub(super) fn tcp(socket: OwnedFd) -> Self {
        Self(MarkedFd::new(socket, false))
    }

    pub(super) fn unix(socket: OwnedFd) -> Self {
        Self(MarkedFd::new(socket, true))
    }

    /// Is it a Unix socket?
    pub(super) const fn is_unix(&self) -> bool {
        self.0.is_marked()
    }
}

/// The address that a socket is bound to.
pub(super) fn local(socket: impl AsFd) -> io::Result<Address> {
    let local = rustix::net::getsockname(socket)?;
    if let Ok(address) = SocketAddr::try_from(local.clone()) {
        return Ok(address.into());
    }
    let local = SocketAddrUnix::try_from(local)?;
    let name = local.abstract_name().map(|name| [b"\0", name].concat());
    Ok(Address::Unix(name.or_else(|| local.path_bytes().map(<[u8]>::to_vec)).unwrap_or_default().into()))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for Socket {
    type Pipe = Pipe;

    fn short_is_dry(&self) -> bool {
        cfg!(target_os = "linux") && !self.is_unix()
    }

    fn epipe_is_fin(&self) -> bool {
        !self.is_unix()
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(&*self, room, RecvFlags::empty())?.1)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&*self, data, NO_SIGNAL)?)
    }

    fn splice_in(&mut self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        pipe.splice_in(self.as_fd(), most)
    }

    fn splice_out(&mut self, pipe: &mut Pipe, count: usize) -> io::Result<usize> {
        pipe.splice_out(self.as_fd(), count)
    }

    fn read_pipe(&mut self, pipe: &mut Pipe, room: &mut [u8]) -> io::Result<usize> {
        pipe.read(room)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match rustix::net::shutdown(&*self, Shutdown::Write) {
            Err(Errno::NOTCONN) => self.take_error(),
            result => Ok(result?),
        }
    }

    fn take_error(&mut self) -> io::Result<()> {
        Ok(sockopt::socket_error(&*self)??)
    }

    fn unacked(&self) -> io::Result<usize> {
        // A Unix socket delivers what is queued also when it is closed (K21): there is nothing to wait for.
        if self.is_unix() { Ok(0) } else { raw::unacked(self.as_fd()) }
    }

    fn received(&self) -> io::Result<u64> {
        if self.is_unix() { Err(ErrorKind::Unsupported.into()) } else { raw::received(self.as_fd()) }
    }

    fn retransmission_timeout(&self) -> io::Result<Duration> {
        if self.is_unix() { Err(ErrorKind::Unsupported.into()) } else { raw::retransmission_timeout(self.as_fd()) }
    }

    fn local(&self) -> io::Result<Address> {
        local(self)
    }

    fn keep_alive(&mut self, idle: Duration) {
        // If it fails, a dead peer is noticed only when it is owed something. The peer of a Unix socket is this machine.
        if !self.is_unix() {
            let _ = options::set_keepalive(&*self, idle);
        }
    }

    fn set_user_timeout(&mut self, timeout: Duration) {
        // If it fails, a dead peer is noticed only when the kernel gives up by itself.
        if !self.is_unix() {
            let _ = options::set_user_timeout(&*self, Some(timeout));
        }
    }

    fn close(self) {
        // If disarming fails, closing resets, which the peer sees and is then the truth. A Unix socket was never armed.
        if !self.is_unix() {
            let _ = sockopt::set_socket_linger(&self, None);
        }
    }
}

/// No SIGPIPE.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(any(target_os = "macos", target_os = "ios"))]
const NO_SIGNAL: SendFlags = SendFlags::empty();
