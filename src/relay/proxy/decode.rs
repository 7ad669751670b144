//! Reading a header, in whatever pieces it comes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{ACCEPTED_MAX, Ends, GREETING, LOCAL, PROXY, SIGNATURE, UNIX_PATHS, V1_MAX, V2_FIXED};
use super::{INET_DATAGRAM, INET_STREAM, INET6_DATAGRAM, INET6_STREAM, UNIX_DATAGRAM, UNIX_STREAM, UNSPEC};

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The beginning of a header. More is to come.
    Incomplete,
    /// A header.
    Header {
        /// Its bytes, TLVs included. What is behind them is no part of it.
        length: usize,
        /// Between whom the connection is.
        ends: Ends<'a>,
    },
    /// No header, whatever follows.
    Bad,
}

/// What are these first bytes of a connection?
///
/// The answer depends on the header's bytes alone, and not on how many are behind them. A checksum among the TLVs is not
/// compared: TCP has one.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    match bytes.first() {
        None => Decoded::Incomplete,
        Some(b'P') => v1(bytes),
        Some(_) => v2(bytes).unwrap_or(Decoded::Bad),
    }
}

/// Does one begin with the other?
fn agree(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(one, other)| one == other)
}

fn v1(bytes: &[u8]) -> Decoded<'_> {
    let line = &bytes[..bytes.len().min(V1_MAX)];
    if !agree(line, &GREETING) {
        return Decoded::Bad;
    }
    // A CR ends the line, or is an error: no field has one.
    match line.iter().position(|byte| *byte == b'\r') {
        None if line.len() == V1_MAX => Decoded::Bad,
        None => Decoded::Incomplete,
        Some(end) => match line.get(end + 1) {
            None if line.len() == V1_MAX => Decoded::Bad,
            None => Decoded::Incomplete,
            Some(b'\n') => match line.get(GREETING.len()..end).and_then(v1_ends) {
                Some(ends) => Decoded::Header { length: end + 2, ends },
                None => Decoded::Bad,
            },
            Some(_) => Decoded::Bad,
        },
    }
}

/// What the line says behind `PROXY `. Nothing may be there but what the specification names, for the sender of anything
/// else may mean something else.
fn v1_ends(text: &[u8]) -> Option<Ends<'static>> {
    // What follows UNKNOWN is to be ignored, and need not be text.
    if text == b"UNKNOWN" || text.starts_with(b"UNKNOWN ") {
        return Some(Ends::Unknown);
    }
    let mut fields = std::str::from_utf8(text).ok()?.split(' ');
    let mut field = || fields.next();
    let family = field()?;
    let ends = [field()?, field()?, field()?, field()?];
    if field().is_some() {
        return None;
    }
    match family {
        "TCP4" => inet_of::<Ipv4Addr>(ends),
        "TCP6" => inet_of::<Ipv6Addr>(ends),
        _ => None,
    }
}

fn inet_of<Ip: FromStr + Into<IpAddr>>([source, destination, from, to]: [&str; 4]) -> Option<Ends<'static>> {
    let ip = |text: &str| text.parse::<Ip>().ok().map(Into::into);
    Some(Ends::Inet {
        source: SocketAddr::new(ip(source)?, port(from)?),
        destination: SocketAddr::new(ip(destination)?, port(to)?),
    })
}

/// Digits, and no zero in front of others.
fn port(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}

/// None is no header.
fn v2(bytes: &[u8]) -> Option<Decoded<'_>> {
    if !agree(bytes, &SIGNATURE) {
        return None;
    }
    let is_local = match bytes.get(12) {
        None => return Some(Decoded::Incomplete),
        Some(&LOCAL) => true,
        Some(&PROXY) => false,
        Some(_) => return None,
    };
    // The family of a LOCAL header is to be ignored.
    let least = match bytes.get(13) {
        None => return Some(Decoded::Incomplete),
        Some(_) if is_local => 0,
        Some(&UNSPEC) => 0,
        Some(&(INET_STREAM | INET_DATAGRAM)) => 12,
        Some(&(INET6_STREAM | INET6_DATAGRAM)) => 36,
        Some(&(UNIX_STREAM | UNIX_DATAGRAM)) => UNIX_PATHS,
        Some(_) => return None,
    };
    let Some(&[high, low]) = bytes.get(14..V2_FIXED) else {
        return Some(Decoded::Incomplete);
    };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let length = V2_FIXED + announced;
    if announced < least || length > ACCEPTED_MAX {
        return None;
    }
    let Some(rest) = bytes.get(V2_FIXED..length) else {
        return Some(Decoded::Incomplete);
    };
    let ends = if is_local { Some(Ends::Unknown) } else { v2_ends(bytes[13], rest) };
    ends.map(|ends| Decoded::Header { length, ends })
}

/// The addresses in front of the TLVs. Those of datagrams are not for a stream: its own count.
fn v2_ends(family: u8, rest: &[u8]) -> Option<Ends<'_>> {
    match family {
        INET_STREAM => {
            let (source, destination, ports) = split::<4>(rest)?;
            Some(inet(Ipv4Addr::from(source), Ipv4Addr::from(destination), ports))
        }
        INET6_STREAM => {
            let (source, destination, ports) = split::<16>(rest)?;
            Some(inet(Ipv6Addr::from(source), Ipv6Addr::from(destination), ports))
        }
        UNIX_STREAM => rest.first_chunk().map(Ends::Unix),
        _ => Some(Ends::Unknown),
    }
}

/// Two addresses of this many bytes, and the ports.
fn split<const N: usize>(rest: &[u8]) -> Option<([u8; N], [u8; N], [u8; 4])> {
    let (source, rest) = rest.split_first_chunk()?;
    let (destination, rest) = rest.split_first_chunk()?;
    Some((*source, *destination, *rest.first_chunk()?))
}

fn inet(source: impl Into<IpAddr>, destination: impl Into<IpAddr>, [s1, s0, d1, d0]: [u8; 4]) -> Ends<'static> {
    Ends::Inet {
        source: SocketAddr::new(source.into(), u16::from_be_bytes([s1, s0])),
        destination: SocketAddr::new(destination.into(), u16::from_be_bytes([d1, d0])),
    }
}
