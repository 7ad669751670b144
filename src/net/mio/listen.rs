//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::TcpListener;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::options::{set_keepalive, set_options, set_user_timeout, stream_socket};
use crate::net::ListenOptions;

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener(pub(super) TcpListener);

impl Listener {
    /// Listens on `address`. Port 0 lets the kernel choose one. A wildcard `[::]` takes IPv4 too, whatever the sysctl
    /// `net.ipv6.bindv6only` says. On a machine without IPv6 it becomes `0.0.0.0`.
    pub(super) fn bind(address: SocketAddr, how: &ListenOptions) -> io::Result<Self> {
        let everywhere = address.ip() == Ipv6Addr::UNSPECIFIED;
        match Self::bind_to(address, how) {
            Err(error) if everywhere && Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) => {
                Self::bind_to((Ipv4Addr::UNSPECIFIED, address.port()).into(), how)
            }
            result => result,
        }
    }

    fn bind_to(address: SocketAddr, how: &ListenOptions) -> io::Result<Self> {
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
        Ok(Self(TcpListener::from_std(socket.into())))
    }

    /// Listens this way from now on. The queue stays, and so do the options of those in it (K23).
    pub(super) fn change(&self, how: &ListenOptions) -> io::Result<()> {
        match how.keepalive {
            Some(idle) => set_keepalive(&self.0, idle)?,
            None => sockopt::set_socket_keepalive(&self.0, false)?,
        }
        set_user_timeout(&self.0, how.user_timeout)?;
        // Called again, listen(2) only sets the length of the queue (`__inet_listen_sk`).
        Ok(rustix::net::listen(&self.0, how.backlog.into())?)
    }

    /// The address it is bound to, with the port that the kernel chose.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
