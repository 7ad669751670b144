//! What a client's connection begins with where a proxy announces it, and what an upstream is to be told of that: by the
//! specification (`proxy-protocol.txt`), and by nothing that the relay has.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tproxy::ProxyVersion;

/// The first 12 bytes of a binary header.
const SIGNATURE: [u8; 12] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

/// What a client says before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hello {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is: Is,
}

/// What that is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Is {
    /// Nothing.
    #[default]
    Nothing,
    /// A header.
    Header(Announced),
    /// The beginning of one. The client says nothing behind it.
    Part,
    /// None, as so many of its bytes show.
    Garbage(usize),
}

/// Between whom a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Announced {
    Inet(SocketAddr, SocketAddr),
    /// Two paths of 108 bytes.
    Unix(Vec<u8>),
    Unknown,
}

/// What the relay must think of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// So many bytes are a header.
    Header(u64, Announced),
    /// So many bytes show that it is none.
    Bad(u64),
    /// The rest does not come.
    Part,
}

impl Hello {
    /// The header that says so.
    pub(crate) fn header(version: ProxyVersion, announced: Announced, tlvs: &[u8]) -> Self {
        let mut bytes = header(version, &announced);
        if version == ProxyVersion::V2 {
            bytes.extend(tlvs);
            let length = u16::try_from(bytes.len() - 16).unwrap().to_be_bytes();
            bytes[14..16].copy_from_slice(&length);
        }
        Self { bytes, is: Is::Header(announced) }
    }

    /// The verdict on it, with what the client says behind it.
    pub(crate) fn verdict(&self, behind: &[u8]) -> Verdict {
        match &self.is {
            Is::Header(announced) => Verdict::Header(self.bytes.len() as u64, announced.clone()),
            Is::Part => Verdict::Part,
            Is::Garbage(at) => Verdict::Bad(*at as u64),
            // Payload: the first byte at which it differs from the beginning of either kind of header.
            Is::Nothing => {
                let begins = |count: &usize| {
                    b"PROXY ".starts_with(&behind[..*count]) || SIGNATURE.starts_with(&behind[..*count])
                };
                let at = (1..=behind.len()).find(|count| !begins(count)).expect("random bytes are no header");
                Verdict::Bad(at as u64)
            }
        }
    }
}

/// "IPv4 addresses that are written as IPv6 are IPv4; a header has one family."
pub(crate) fn header(version: ProxyVersion, announced: &Announced) -> Vec<u8> {
    match (version, announced) {
        (ProxyVersion::V1, Announced::Inet(from, to)) => {
            let (family, [source, destination]) = match (plain(from.ip()), plain(to.ip())) {
                (IpAddr::V4(one), IpAddr::V4(other)) => ("TCP4", [one.to_string(), other.to_string()]),
                (one, other) => ("TCP6", [one, other].map(|ip| wide(ip).to_string())),
            };
            format!("PROXY {family} {source} {destination} {} {}\r\n", from.port(), to.port()).into_bytes()
        }
        (ProxyVersion::V1, Announced::Unix(_) | Announced::Unknown) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyVersion::V2, Announced::Inet(from, to)) => {
            let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
            match (plain(from.ip()), plain(to.ip())) {
                (IpAddr::V4(one), IpAddr::V4(other)) => {
                    binary(0x21, 0x11, &[&one.octets()[..], &other.octets(), &ports].concat())
                }
                (one, other) => binary(0x21, 0x21, &[&wide(one).octets()[..], &wide(other).octets(), &ports].concat()),
            }
        }
        (ProxyVersion::V2, Announced::Unix(paths)) => binary(0x21, 0x31, paths),
        (ProxyVersion::V2, Announced::Unknown) => binary(0x20, 0x00, &[]),
    }
}

/// A binary header with this command, family and block.
pub(crate) fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets().map(u16::from);
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a << 8 | b, c << 8 | d)
        }
        IpAddr::V6(ip) => ip,
    }
}
