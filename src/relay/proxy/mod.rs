//! The header of the PROXY protocol, versions 1 and 2: what a proxy writes in front of a connection, to say between whom
//! it is. (`proxy-protocol.txt`, HAProxy.)
//!
//! ```text
//!   v1   PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n      one line, at most 107 bytes
//!   v2   12 bytes of signature, command, family, length       then so many bytes: addresses, TLVs
//! ```
//! This is pure: bytes in, addresses out, and the other way round. It is not the crate `proxy-header`, because what it
//! leaves unchecked is all that is difficult: it takes any byte behind `PROXY`, ports as `+80` and `0080`, and lines of
//! any length. It asks for more bytes than a short v2 header announces, and refuses a LOCAL header for its family. What
//! would be left for it are two addresses and two ports. The tests compare with it.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use decode::{Decoded, decode};
pub use encode::{Header, encode, unix_paths};

/// Bytes of the longest header that is accepted, whatever a v2 header announces: its addresses need 232, the rest are TLVs.
pub const ACCEPTED_MAX: usize = 4 << 10;

/// The version of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Between whom a connection is, as a header says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends<'a> {
    /// TCP.
    Inet {
        /// Where the client connected from.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// A stream of AF_UNIX: both paths, each filled up with NULs.
    Unix(&'a [u8; UNIX_PATHS]),
    /// The header does not say (UNKNOWN), or the proxy speaks for itself (LOCAL): the connection's own ends count.
    Unknown,
}

/// Bytes of the two paths in a header.
pub const UNIX_PATHS: usize = 2 * UNIX_PATH;
const UNIX_PATH: usize = 108;

/// The first 12 bytes of a v2 header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of a v1 header.
const GREETING: [u8; 6] = *b"PROXY ";

/// Bytes of a v1 header, at most.
const V1_MAX: usize = 107;

/// Bytes of a v2 header before its addresses.
const V2_FIXED: usize = 16;

/// The byte behind the signature: the version, 2, and the command.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The byte behind that: the family, and whether it is a stream or datagrams.
const UNSPEC: u8 = 0x00;
const INET_STREAM: u8 = 0x11;
const INET_DATAGRAM: u8 = 0x12;
const INET6_STREAM: u8 = 0x21;
const INET6_DATAGRAM: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;
