//! Writing a header.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Ends, INET_STREAM, INET6_STREAM, LOCAL, PROXY, ProxyVersion, SIGNATURE, UNIX_STREAM, UNSPEC};
use super::{UNIX_PATH, UNIX_PATHS, V2_FIXED};

/// A header to send. It has at most 232 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; V2_FIXED + UNIX_PATHS],
    length: u8,
}

impl Header {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn new(write: impl FnOnce(&mut &mut [u8]) -> std::io::Result<()>) -> Self {
        let mut bytes = [0; V2_FIXED + UNIX_PATHS];
        let size = bytes.len();
        let mut room = &mut bytes[..];
        let written = write(&mut room);
        debug_assert!(written.is_ok(), "a header has at most {size} bytes");
        let length = u8::try_from(size - room.len()).unwrap_or(u8::MAX);
        Self { bytes, length }
    }
}

/// The header that says so. A family that it cannot name becomes UNKNOWN, or LOCAL in v2.
///
/// IPv4 addresses that are written as IPv6 are IPv4. If only one of the two is, both are IPv6: a header has one family.
pub fn encode(version: ProxyVersion, ends: Ends<'_>) -> Header {
    match version {
        ProxyVersion::V1 => Header::new(|room| v1(room, ends)),
        ProxyVersion::V2 => Header::new(|room| v2(room, ends)),
    }
}

fn v1(room: &mut impl Write, ends: Ends<'_>) -> std::io::Result<()> {
    match ends {
        Ends::Inet { source, destination } => {
            let [from, to] = [source, destination].map(|end| end.port());
            match family(source, destination) {
                Family::Inet(source, destination) => write!(room, "PROXY TCP4 {source} {destination} {from} {to}\r\n"),
                Family::Inet6(source, destination) => write!(room, "PROXY TCP6 {source} {destination} {from} {to}\r\n"),
            }
        }
        Ends::Unix(_) | Ends::Unknown => room.write_all(b"PROXY UNKNOWN\r\n"),
    }
}

fn v2(room: &mut impl Write, ends: Ends<'_>) -> std::io::Result<()> {
    room.write_all(&SIGNATURE)?;
    match ends {
        Ends::Inet { source, destination } => {
            match family(source, destination) {
                Family::Inet(source, destination) => {
                    room.write_all(&[PROXY, INET_STREAM, 0, 12])?;
                    room.write_all(&[source.octets(), destination.octets()].concat())?;
                }
                Family::Inet6(source, destination) => {
                    room.write_all(&[PROXY, INET6_STREAM, 0, 36])?;
                    room.write_all(&[source.octets(), destination.octets()].concat())?;
                }
            }
            room.write_all(&source.port().to_be_bytes())?;
            room.write_all(&destination.port().to_be_bytes())
        }
        Ends::Unix(paths) => {
            room.write_all(&[PROXY, UNIX_STREAM, 0, 216])?;
            room.write_all(paths)
        }
        Ends::Unknown => room.write_all(&[LOCAL, UNSPEC, 0, 0]),
    }
}

/// Two addresses of one family.
enum Family {
    Inet(std::net::Ipv4Addr, std::net::Ipv4Addr),
    Inet6(Ipv6Addr, Ipv6Addr),
}

fn family(source: SocketAddr, destination: SocketAddr) -> Family {
    let six = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Family::Inet(source, destination),
        (source, destination) => Family::Inet6(six(source), six(destination)),
    }
}

/// Two paths for [`Ends::Unix`]. One that is too long is cut; one that begins with a NUL is abstract.
pub fn unix_paths(source: &[u8], destination: &[u8]) -> [u8; UNIX_PATHS] {
    let mut paths = [0; UNIX_PATHS];
    for (place, path) in paths.chunks_exact_mut(UNIX_PATH).zip([source, destination]) {
        place.iter_mut().zip(path).for_each(|(place, byte)| *place = *byte);
    }
    paths
}
