//! Addresses: where to listen, where to connect to, where a client connected from.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of a Unix socket's path or name, at most: `sun_path` has 108, and a path ends with a NUL (`unix(7)`).
pub const UNIX_NAME_MAX: usize = 107;

/// Where to listen or to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A Unix socket: the path of its file or, behind a leading NUL, its abstract name (`unix(7)`). See
    /// [`Address::check`].
    Unix(Arc<[u8]>),
}

impl Address {
    /// Can these two not be listened on at once? A wildcard takes every address of its family, and `[::]` those of IPv4 too.
    /// The kernel chooses another port 0 for each. Paths are compared as they were written.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (one, other) = match (self, other) {
            (Self::Inet(one), Self::Inet(other)) => (one, other),
            (Self::Unix(one), Self::Unix(other)) => return one == other,
            (Self::Inet(_), Self::Unix(_)) | (Self::Unix(_), Self::Inet(_)) => return false,
        };
        let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
        let takes = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4());
        let scope = |address: &SocketAddr| match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(address) => address.scope_id(),
        };
        let same = ip == other_ip && scope(one) == scope(other);
        one.port() != 0 && one.port() == other.port() && (same || takes(ip, other_ip) || takes(other_ip, ip))
    }

    /// Can a socket have this address?
    ///
    /// # Errors
    /// When the path or the name of a Unix socket is empty or longer than [`UNIX_NAME_MAX`], or a path contains a NUL.
    pub fn check(&self) -> Result<(), AddressError> {
        let Self::Unix(bytes) = self else { return Ok(()) };
        let (what, name) = match bytes.strip_prefix(b"\0") {
            Some(name) => ("name", name),
            None => ("path", &bytes[..]),
        };
        let error = |text: String| Err(AddressError(text));
        match name.len() {
            0 => error(format!("the {what} of the Unix socket is missing; write unix:/run/app.sock or unix:@name")),
            length if length > UNIX_NAME_MAX => error(format!(
                "the {what} of a Unix socket has at most {UNIX_NAME_MAX} bytes, and {self} has {length}; choose a shorter one"
            )),
            _ if what == "path" && name.contains(&0) => error(format!("{self} is no path: it contains a NUL")),
            _ => Ok(()),
        }
    }

    /// The path of a Unix socket that has a file.
    pub fn path(&self) -> Option<&[u8]> {
        match self {
            Self::Unix(path) if path.first() != Some(&0) => Some(path),
            Self::Unix(_) | Self::Inet(_) => None,
        }
    }

    /// Is it a Unix socket's?
    pub const fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// The IP address and the port, if it has them.
    pub const fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

/// What was written is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.inet() == Some(*other)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads an IP address with a port, such as `127.0.0.1:80` or `[::1]:80`, or a Unix socket: `unix:/run/app.sock`, or
    /// `unix:@name` for the abstract name `name`. Every byte stands for itself.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some(name) = text.strip_prefix("unix:") else {
            let inet = text.parse().map(Self::Inet);
            return inet
                .map_err(|_| AddressError(format!("{text:?} is neither an IP address with a port nor unix:/path")));
        };
        let address = match name.strip_prefix('@') {
            Some(name) => Self::Unix([b"\0", name.as_bytes()].concat().into()),
            None => Self::Unix(name.as_bytes().into()),
        };
        address.check().map(|()| address)
    }
}

impl fmt::Display for Address {
    /// As it is written. Of a Unix socket, bytes outside 0x21 to 0x7e and `\` are shown as `\xNN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(bytes) => match bytes.strip_prefix(b"\0") {
                Some(name) => write!(f, "unix:@{}", Visible(name)),
                None => write!(f, "unix:{}", Visible(bytes)),
            },
        }
    }
}

/// Bytes as one word of the log: those that are no visible characters are shown as `\xNN`.
#[derive(Debug)]
pub struct Visible<'a>(pub &'a [u8]);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| match byte {
            b'\\' => f.write_str("\\x5c"),
            0x21..=0x7e => f.write_char((*byte).into()),
            byte => write!(f, "\\x{byte:02x}"),
        })
    }
}

/// Where a client connected from, in 22 bytes without alignment. getpeername fails after a reset, so each session keeps
/// it. An IPv4 address is kept as `::ffff:a.b.c.d` and shown as IPv4. Of a client that came by a Unix socket, its process and
/// its user are kept instead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Client {
    ip: [u8; 16],
    scope: [u8; 4],
    port: [u8; 2],
}

/// What is kept instead of a scope and a port if the client came by a Unix socket. No interface has this scope. The port
/// alone would not do: a proxy may announce a client with port 0.
const UNIX: ([u8; 4], [u8; 2]) = ([0xff; 4], [0; 2]);

impl Client {
    /// A client of a Unix socket: its process, 0 if that is not visible from here, and its user (SO_PEERCRED, `unix(7)`).
    pub fn unix(pid: u32, uid: u32) -> Self {
        let mut ip = [0; 16];
        ip[..4].copy_from_slice(&pid.to_ne_bytes());
        ip[4..8].copy_from_slice(&uid.to_ne_bytes());
        let (scope, port) = UNIX;
        Self { ip, scope, port }
    }

    /// The address with its port. The scope of a link-local address is kept. None if it came by a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        let (ip, port) = (Ipv6Addr::from(self.ip), u16::from_ne_bytes(self.port));
        (!self.is_unix()).then(|| match ip.to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(self.scope)).into(),
        })
    }

    fn is_unix(&self) -> bool {
        (self.scope, self.port) == UNIX
    }

    /// The IP address. None if it came by a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address().map(|address| address.ip())
    }

    /// The process and the user of a client that came by a Unix socket.
    pub fn credentials(&self) -> Option<(u32, u32)> {
        let [a, b, c, d, e, f, g, h, ..] = self.ip;
        let number = u32::from_ne_bytes;
        self.is_unix().then(|| (number([a, b, c, d]), number([e, f, g, h])))
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
        match (self.address(), self.credentials()) {
            (Some(address), _) => address.fmt(f),
            (None, Some((pid, uid))) => write!(f, "unix:pid={pid},uid={uid}"),
            (None, None) => f.write_str("unix:"),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
            ("unix:/run/a", "unix:/run/a", true),
            ("unix:@a", "unix:@a", true),
            ("unix:/run/a", "unix:/run/b", false),
            ("unix:/a", "unix:@/a", false),
            ("unix:/a", "127.0.0.1:80", false),
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

    #[test]
    fn a_unix_socket_has_a_path_or_a_name() {
        for (text, bytes, path) in [
            ("unix:/run/app.sock", &b"/run/app.sock"[..], true),
            ("unix:./app", b"./app", true),
            ("unix:@app", b"\0app", false),
            ("unix:@@", b"\0@", false),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address::Unix(bytes.into()));
            assert_eq!((address.path().is_some(), address.to_string().as_str()), (path, text));
        }
        let long = |length| "x".repeat(length);
        assert!(format!("unix:{}", long(107)).parse::<Address>().is_ok());
        assert!(format!("unix:@{}", long(107)).parse::<Address>().is_ok());
        for (text, words) in [
            ("unix:".to_owned(), "the path of the Unix socket is missing"),
            ("unix:@".to_owned(), "the name of the Unix socket is missing"),
            (format!("unix:{}", long(108)), "the path of a Unix socket has at most 107 bytes"),
            (format!("unix:@{}", long(108)), "the name of a Unix socket has at most 107 bytes"),
            ("unix:/a\0b".to_owned(), "contains a NUL"),
            ("127.0.0.1".to_owned(), "neither an IP address with a port nor unix:/path"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_is_one_word_of_the_log() {
        let shown = |bytes: &[u8]| Address::Unix(bytes.into()).to_string();
        assert_eq!(shown(b"/a b\\\xc3\xa4\n"), "unix:/a\\x20b\\x5c\\xc3\\xa4\\x0a");
        assert_eq!(shown(b"\0a\0b"), "unix:@a\\x00b");
    }

    #[test]
    fn a_client_of_a_unix_socket_has_a_process_and_a_user_and_no_address() {
        let client = Client::unix(123, u32::MAX - 1);
        assert_eq!((client.address(), client.ip()), (None, None));
        assert_eq!(client.credentials(), Some((123, u32::MAX - 1)));
        assert_eq!(client.to_string(), "unix:pid=123,uid=4294967294");
        for port in [0, 1] {
            let client = Client::from(SocketAddr::from(([10, 0, 0, 1], port)));
            assert_eq!((client.credentials(), client.ip()), (None, Some([10, 0, 0, 1].into())), "port {port}");
            assert_eq!(client.to_string(), format!("10.0.0.1:{port}"));
        }
    }
}
