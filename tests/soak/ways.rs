//! The ways through the relay: a route each, in a file that is read again and again while sessions run.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use proxy_header::{ParseConfig, ProxyHeader};

use crate::plan::VICTIM;

/// How a session goes through the relay. Its seed says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To an address.
    Plain,
    /// To a name.
    Named,
    /// To an address, with a header that names the client.
    Sent,
    /// The client announces another in a header of its own, and that one is passed on.
    Accepted,
}

/// The client that is announced, and where it says that it connected to.
const ANNOUNCED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 4711);
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.9 4711 80\r\n";

/// Bytes of a header of version 2 for IPv4.
pub(crate) const HEADER: usize = 28;

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Named, Self::Sent, Self::Accepted];

    /// Clients and upstreams that are killed know only the first.
    pub(crate) fn of(seed: u64) -> Self {
        if seed & VICTIM != 0 { Self::Plain } else { Self::ALL[(seed >> 3) as usize % 4] }
    }

    /// What the client says before its seed.
    pub(crate) const fn greeting(self) -> &'static [u8] {
        match self {
            Self::Plain | Self::Named | Self::Sent => b"",
            Self::Accepted => LINE,
        }
    }

    /// Does the upstream hear a header first?
    pub(crate) const fn has_header(self) -> bool {
        matches!(self, Self::Sent | Self::Accepted)
    }

    /// Does this header name the client of a session that came this way?
    pub(crate) fn is_true(self, header: &[u8; HEADER]) -> bool {
        let Ok((read, HEADER)) = ProxyHeader::parse(header, ParseConfig::default()) else { return false };
        let Some(SocketAddr::V4(source)) = read.proxied_address().map(|addresses| addresses.source) else {
            return false;
        };
        match self {
            Self::Plain | Self::Named => false,
            Self::Sent => source.ip().octets()[..3] == [127, 0, 1],
            Self::Accepted => SocketAddr::V4(source) == ANNOUNCED,
        }
    }
}

/// Where upstreams listen: those that hear no header, and those that do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstreams {
    pub(crate) plain: SocketAddr,
    pub(crate) with_header: SocketAddr,
}

/// Writes the file as it is to be the `round`th time: the four routes stay, a setting of theirs changes, and a fifth route
/// comes and goes. Port 0 stays the port that it was: the address is the same.
pub(crate) fn write_file(path: &Path, to: Upstreams, round: u64) {
    let Upstreams { plain, with_header } = to;
    let named = format!("localhost:{}", plain.port());
    let routes = [
        ("plain", plain.to_string(), ""),
        ("named", named, ""),
        ("sent", with_header.to_string(), "send-proxy = \"v2\"\n"),
        (
            "accepted",
            with_header.to_string(),
            "send-proxy = \"v2\"\naccept-proxy = true\nproxy-from = \"127.0.0.0/8\"\n",
        ),
    ];
    let mut text = format!("resolve-ttl = \"1s\"\nconnect-timeout = \"{}s\"\n", 5 + round % 2);
    for (place, (name, to, more)) in routes.into_iter().enumerate() {
        // Each has an address of its own, so that none takes the socket of another.
        text += &format!("[[route]]\nname = \"{name}\"\nfrom = \"127.0.2.{}:0\"\nto = \"{to}\"\n{more}", place + 1);
    }
    if round % 3 == 1 {
        text += &format!("[[route]]\nname = \"guest\"\nfrom = \"127.0.2.9:0\"\nto = \"{plain}\"\n");
    }
    fs::write(path, text).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its signature, version and command, family and protocol, length; two addresses and two ports follow.
    const BEGIN: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";

    #[test]
    fn a_header_that_names_another_is_not_true() {
        let header = |ip: [u8; 4], port: u16| {
            let bytes = [BEGIN, &ip, &[127, 0, 0, 1], &port.to_be_bytes(), &[0, 80]].concat();
            <[u8; HEADER]>::try_from(bytes).unwrap()
        };
        let (client, announced) = (header([127, 0, 1, 5], 4712), header([192, 0, 2, 7], 4711));
        assert!(Way::Sent.is_true(&client) && Way::Accepted.is_true(&announced));
        assert!(!Way::Sent.is_true(&announced) && !Way::Accepted.is_true(&client));
        let mut local = client;
        local[12] = 0x20;
        assert!(!Way::Sent.is_true(&local) && !Way::Plain.is_true(&client));
    }
}
