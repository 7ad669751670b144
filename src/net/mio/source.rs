//! The address that a connection comes from.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::raw;
use crate::net::errno::is_shortage;

/// Can a socket be bound to this address? The sysctl `net.ipv4.ip_nonlocal_bind` allows it for any.
pub(super) fn check(source: IpAddr) -> io::Result<()> {
    UdpSocket::bind((source, 0)).map(drop)
}

/// Binds the socket to this address of the destination's family. connect(2) chooses the port: several connections may share
/// one, as long as they lead to different destinations.
pub(super) fn bind(socket: &OwnedFd, source: IpAddr, to: SocketAddr) -> io::Result<()> {
    // Without it there are fewer ports, and no other difference.
    let _ = raw::bind_address_no_port(socket.as_fd());
    let source = match (source, to) {
        // The socket of `[::ffff:192.0.2.1]:80` is one of IPv6.
        (IpAddr::V4(source), SocketAddr::V6(_)) => source.to_ipv6_mapped().into(),
        (source, _) => source,
    };
    match rustix::net::bind(socket, &SocketAddr::new(source, 0)) {
        Ok(()) => Ok(()),
        // Where bind(2) chooses the port: none is left.
        Err(Errno::ADDRINUSE) => Err(Errno::ADDRNOTAVAIL.into()),
        Err(error) if is_shortage(&error.into()) => Err(error.into()),
        Err(error) => Err(io::Error::new(ErrorKind::AddrNotAvailable, io::Error::from(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::stream_socket;
    use super::*;
    use crate::net::errno::{ConnectError, on_connect};

    fn bound(source: &str, to: &str) -> io::Result<SocketAddr> {
        let to: SocketAddr = to.parse().unwrap();
        let socket = stream_socket(to)?;
        bind(&socket, source.parse().unwrap(), to)?;
        Ok(SocketAddr::try_from(rustix::net::getsockname(&socket)?).unwrap())
    }

    #[test]
    fn the_port_is_left_to_connect() {
        for (source, to, bound_to) in [
            ("127.0.0.2", "127.0.0.1:80", "127.0.0.2:0"),
            ("127.0.0.2", "[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.2]:0"),
            ("::1", "[::1]:80", "[::1]:0"),
        ] {
            assert_eq!(bound(source, to).unwrap().to_string(), bound_to, "{source} {to}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_no_lack_of_ports() {
        let error = bound("192.0.2.1", "127.0.0.1:80").unwrap_err();
        assert_eq!(on_connect(&error, &"127.0.0.1:80".parse().unwrap()), ConnectError::NoSource, "{error:?}");
        assert!(error.to_string().starts_with("Cannot assign requested address"), "{error}");
        assert!(check("192.0.2.1".parse().unwrap()).is_err());
        check("127.0.0.2".parse().unwrap()).unwrap();
        check("::1".parse().unwrap()).unwrap();
    }
}
