//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::TcpListener;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::Socket;
use super::options::{set_keepalive, set_options, set_unix_options, set_user_timeout, stream_socket};
use super::raw;
use super::unix::UnixListener;
use crate::net::{Address, Client, ListenOptions};

/// A listening socket, TCP or Unix.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `address`, and returns it as it is bound.
    pub(super) fn bind(address: &Address, how: &ListenOptions) -> io::Result<(Self, Address)> {
        match address {
            Address::Inet(address) => {
                let listener = bind(*address, how)?;
                let bound = listener.local_addr()?;
                Ok((Self(Kind::Tcp(listener)), bound.into()))
            }
            Address::Unix(name) => Ok((Self(Kind::Unix(UnixListener::bind(name, how)?)), address.clone())),
        }
    }

    /// Takes a client off the queue. Its options are those of the listener; a Unix socket inherits none and has one.
    pub(super) fn accept(&self) -> io::Result<(Socket, Client)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                Ok((Socket::tcp(stream.into()), address.into()))
            }
            Kind::Unix(listener) => {
                let stream = listener.accept()?;
                let _ = set_unix_options(&stream);
                // Not to know who it is does not matter enough to reset it.
                let (pid, uid) = raw::credentials(stream.as_fd()).unwrap_or((0, u32::MAX));
                Ok((Socket::unix(stream), Client::unix(pid, uid)))
            }
        }
    }

    /// Listens this way from now on. The queue stays, and so do the options of those in it (K23).
    pub(super) fn change(&self, how: &ListenOptions) -> io::Result<()> {
        let listener = match &self.0 {
            Kind::Tcp(listener) => listener,
            Kind::Unix(listener) => return listener.change(how),
        };
        match how.keepalive {
            Some(idle) => set_keepalive(listener, idle)?,
            None => sockopt::set_socket_keepalive(listener, false)?,
        }
        set_user_timeout(listener, how.user_timeout)?;
        // Called again, listen(2) only sets the length of the queue (`__inet_listen_sk`).
        Ok(rustix::net::listen(listener, how.backlog.into())?)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Listens on `address`. Port 0 lets the kernel choose one. A wildcard `[::]` takes IPv4 too, whatever the sysctl
/// `net.ipv6.bindv6only` says. On a machine without IPv6 it becomes `0.0.0.0`.
fn bind(address: SocketAddr, how: &ListenOptions) -> io::Result<TcpListener> {
    let everywhere = address.ip() == Ipv6Addr::UNSPECIFIED;
    match bind_to(address, how) {
        Err(error) if everywhere && Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) => {
            bind_to((Ipv4Addr::UNSPECIFIED, address.port()).into(), how)
        }
        result => result,
    }
}

fn bind_to(address: SocketAddr, how: &ListenOptions) -> io::Result<TcpListener> {
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
    Ok(TcpListener::from_std(socket.into()))
}
