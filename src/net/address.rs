//! Addresses: where to listen, where to connect to, where a client connected from.

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// Where to listen or to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Inet(SocketAddr),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    /// Reads an IP address with a port, such as `127.0.0.1:80` or `[::1]:80`.
    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        text.parse().map(Self::Inet)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
        }
    }
}

/// Where a client connected from, in 22 bytes without alignment. getpeername fails after a reset, so each session keeps
/// it. An IPv4 address is kept as `::ffff:a.b.c.d` and shown as IPv4.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Client {
    ip: [u8; 16],
    scope: [u8; 4],
    port: [u8; 2],
}

impl Client {
    /// The address with its port. The scope of a link-local address is kept.
    pub fn address(&self) -> SocketAddr {
        let (ip, port) = (Ipv6Addr::from(self.ip), u16::from_ne_bytes(self.port));
        match ip.to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(self.scope)).into(),
        }
    }
}

impl From<SocketAddr> for Client {
    fn from(address: SocketAddr) -> Self {
        let (ip, scope) = match address {
            SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(address) => (*address.ip(), address.scope_id()),
        };
        Self { ip: ip.octets(), scope: scope.to_ne_bytes(), port: address.port().to_ne_bytes() }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_shown_as_it_came_and_takes_22_bytes() {
        for (text, shown) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:65535", "[::1]:65535"),
            ("[::ffff:10.1.2.3]:9", "10.1.2.3:9"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ] {
            assert_eq!(Client::from(text.parse::<SocketAddr>().unwrap()).to_string(), shown);
        }
        assert_eq!((size_of::<Client>(), align_of::<Client>()), (22, 1));
    }
}
