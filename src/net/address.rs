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

impl Address {
    /// Can these two not be listened on at once? A wildcard takes every address of its family, and `[::]` those of IPv4 too.
    /// The kernel chooses another port 0 for each.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (Self::Inet(one), Self::Inet(other)) = (self, other);
        let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
        let takes = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4());
        let scope = |address: &SocketAddr| match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(address) => address.scope_id(),
        };
        let same = ip == other_ip && scope(one) == scope(other);
        one.port() != 0 && one.port() == other.port() && (same || takes(ip, other_ip) || takes(other_ip, ip))
    }
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
    fn a_wildcard_overlaps_every_address_of_its_family_with_its_port() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "0.0.0.0:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("[fe80::1%1]:80", "[fe80::1%2]:80", false),
        ] {
            let [one, other]: [Address; 2] = [one, other].map(|text| text.parse().unwrap());
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (expected, expected), "{one} {other}");
        }
    }

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
