//! Addresses as people write them: one, a range of ports, a list.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::RangeInclusive;

use tproxy::net::{Address, AddressError};

use super::inherited::{Which, inherited, is_inherited};
use super::value::value;

value! {
    /// Where to listen: a list of addresses.
    Listeners(Vec<Ports<Listen>>) = listeners, "an address to listen on, such as \"127.0.0.1:8080\" or \":8080\""
}

value! {
    /// Where to connect to: a list of addresses and names.
    Upstream(Vec<Ports<Target>>) = upstream, "an address or a name, such as \"db.internal:5432\""
}

/// An address with all its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports<T> {
    /// With the first port.
    first: T,
    ports: RangeInclusive<u16>,
    /// The address without its port, as it was written.
    host: String,
}

impl<T: Clone> Ports<T> {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.ports.len()
    }

    /// As it was written.
    pub(super) fn written(&self) -> String {
        match (self.ports.start(), self.ports.end()) {
            _ if self.has_no_port() => self.host.clone(),
            (first, last) if first == last => format!("{}:{first}", self.host),
            (first, last) => format!("{}:{first}-{last}", self.host),
        }
    }

    /// The ports, and for each what was written, as if it had been written alone.
    pub(super) fn each(&self) -> impl Iterator<Item = (u16, String)> {
        self.ports.clone().map(|port| match self.has_no_port() {
            true => (port, self.host.clone()),
            false => (port, format!("{}:{port}", self.host)),
        })
    }

    /// Is it something that has no port?
    pub(super) fn has_no_port(&self) -> bool {
        self.host == ECHO || self.host.starts_with(UNIX) || is_inherited(&self.host)
    }

    /// The port that belongs to this port of another range, which has as many: all of them to the one, if there is one.
    pub(super) fn nth_port(&self, nth: usize) -> u16 {
        self.ports.clone().nth(nth).unwrap_or_else(|| *self.ports.start())
    }

    /// The address with one of its ports.
    pub(super) fn with_port(&self, port: u16) -> T
    where
        T: WithPort,
    {
        self.first.clone().with_port(port)
    }
}

/// What a range of ports belongs to.
pub(super) trait WithPort {
    /// With this port instead of its own.
    fn with_port(self, port: u16) -> Self;
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listen {
    Address(SocketAddr),
    /// All addresses of this name that are ours.
    Name(String, u16),
    Unix(Address),
    /// A socket that was inherited, or several.
    Inherited(Which),
}

impl WithPort for Listen {
    fn with_port(self, port: u16) -> Self {
        match self {
            Self::Address(mut address) => {
                address.set_port(port);
                Self::Address(address)
            }
            Self::Name(name, _) => Self::Name(name, port),
            Self::Unix(address) => Self::Unix(address),
            Self::Inherited(which) => Self::Inherited(which),
        }
    }
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Address(SocketAddr),
    Name(String, u16),
    /// The built-in server.
    Echo,
    Unix(Address),
}

impl WithPort for Target {
    fn with_port(self, port: u16) -> Self {
        match self {
            Self::Address(mut address) => {
                address.set_port(port);
                Self::Address(address)
            }
            Self::Name(name, _) => Self::Name(name, port),
            Self::Echo => Self::Echo,
            Self::Unix(address) => Self::Unix(address),
        }
    }
}

/// How the built-in server is written.
const ECHO: &str = "echo:";

/// How the path or the name of a Unix socket begins.
const UNIX: &str = "unix:";

fn listeners(text: &str) -> Result<Vec<Ports<Listen>>, String> {
    let one = |text: &str| match inherited(text)? {
        Some(which) => Ok(Ports { first: Listen::Inherited(which), ports: 0..=0, host: text.to_owned() }),
        None => ports(text, listen),
    };
    text.split(',').map(|text| one(text.trim())).collect()
}

fn upstream(text: &str) -> Result<Vec<Ports<Target>>, String> {
    text.split(',').map(|one| ports(one.trim(), target)).collect()
}

/// Reads an address with a port or a range of them.
fn ports<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Ports<T>, String> {
    if text.starts_with(UNIX) {
        return Ok(Ports { first: read(text)?, ports: 0..=0, host: text.to_owned() });
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let Some((first, last)) = port.split_once('-').filter(|(first, _)| !first.is_empty()) else {
        let port = port_number(port).unwrap_or_default();
        let first = read(text)?;
        let host = if text == ECHO { text } else { host };
        return Ok(Ports { first, ports: port..=port, host: host.to_owned() });
    };
    match (port_number(first), port_number(last)) {
        (Some(from), Some(to)) if 0 < from && from <= to => {
            Ok(Ports { first: read(&format!("{host}:{from}"))?, ports: from..=to, host: host.to_owned() })
        }
        (Some(_), Some(_)) | (None, _) | (_, None) => Err(format!(
            "{port:?} is not a range of ports; write two of 1 to 65535, the lower one first, such as 7000-7009"
        )),
    }
}

/// A Unix socket: a path that begins with / or ., or @ and a name. None if it is something else.
fn unix(text: &str) -> Result<Option<Address>, String> {
    let Some(name) = text.strip_prefix(UNIX) else { return Ok(None) };
    if let Some((path, port)) = name.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Err(format!("a Unix socket has no port; leave out :{port} and write {UNIX}{path}"));
    }
    if !name.is_empty() && !name.starts_with(['/', '.', '@']) {
        return Err(format!(
            "{name:?} is no path; write {UNIX}/{name}, {UNIX}./{name} (from the working directory) or {UNIX}@{name} (abstract)"
        ));
    }
    text.parse().map(Some).map_err(|error: AddressError| error.to_string())
}

fn listen(text: &str) -> Result<Listen, String> {
    if let Some(address) = unix(text)? {
        return Ok(Listen::Unix(address));
    }
    if let Some(address) = literal(text)? {
        return Ok(Listen::Address(address));
    }
    Err(match text.rsplit_once(':') {
        _ if text.parse::<Ipv6Addr>().is_ok() => {
            format!("an IPv6 address goes in brackets, with a port: [{text}]:6101")
        }
        None => format!("the port is missing; write an address and a port, such as {}", with_port(text, "6101")),
        Some((name, port)) => match port_number(port) {
            None => format!("{port:?} is not a port; write 0 to 65535"),
            // [::] takes both families.
            Some(port) if name.is_empty() => return Ok(Listen::Address((Ipv6Addr::UNSPECIFIED, port).into())),
            Some(port) if is_name(name) && name != "*" => return Ok(Listen::Name(name.to_owned(), port)),
            Some(port) => {
                format!(
                    "{name:?} is neither an address nor a name; write one, such as 127.0.0.1:{port}, or :{port} for every address"
                )
            }
        },
    })
}

fn target(text: &str) -> Result<Target, String> {
    if text == ECHO {
        return Ok(Target::Echo);
    }
    if let Some(address) = unix(text)? {
        return Ok(Target::Unix(address));
    }
    if let Some(address) = literal(text)? {
        return match address.port() {
            0 => Err("port 0 cannot be connected to; write 1 to 65535".to_owned()),
            _ => Ok(Target::Address(address)),
        };
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or(rest);
        return Err(format!("leave out {scheme}://; write {rest}"));
    }
    let (name, port) = match text.rsplit_once(':') {
        _ if text.parse::<Ipv6Addr>().is_ok() => {
            return Err(format!("an IPv6 address goes in brackets, with a port: [{text}]:8888"));
        }
        None => {
            return Err(format!("the port is missing; write {}", with_port(text, "8888")));
        }
        Some(parts) => parts,
    };
    match port_number(port) {
        None => Err(format!("{port:?} is not a port; write 1 to 65535")),
        Some(0) => Err("port 0 cannot be connected to; write 1 to 65535".to_owned()),
        Some(port) if name.is_empty() => Err(format!("the address is missing; write 127.0.0.1:{port} or a name")),
        Some(port) if !is_name(name) => Err(format!(
            "{name:?} is neither an address nor a name; write one, such as localhost:{port} or [::1]:{port}"
        )),
        Some(port) => Ok(Target::Name(name.to_owned(), port)),
    }
}

/// One address to listen on, without a name.
pub(super) fn one_address(text: &str) -> Result<Address, String> {
    match listen(text)? {
        Listen::Address(address) => Ok(address.into()),
        Listen::Unix(address) => Ok(address),
        Listen::Name(_, port) => Err(format!("{text:?} is a name; write an address, such as 127.0.0.1:{port}")),
        Listen::Inherited(which) => Err(format!("{which} cannot be used here; write an address")),
    }
}

/// May this be the name of a host?
fn is_name(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || c.is_whitespace() || ":[]/@".contains(c))
}

/// An IP address with a port. None if it is something else. The scope of a link-local address may be the name of an
/// interface, which is looked up, or its index.
fn literal(text: &str) -> Result<Option<SocketAddr>, String> {
    let named = || {
        let (start, (scope, end)) =
            text.split_once('%').and_then(|(start, rest)| Some((start, rest.split_once(']')?)))?;
        // Without its scope it has to be an address.
        let address = format!("{start}]{end}").parse::<SocketAddrV6>().ok()?;
        Some((address, scope))
    };
    let address = match (text.parse(), named()) {
        (Ok(address), _) => address,
        (Err(_), None) => return Ok(None),
        (Err(_), Some((mut address, name))) => {
            let index = interface(name).map_err(|error| format!("there is no network interface {name:?}: {error}"))?;
            address.set_scope_id(index);
            address.into()
        }
    };
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let (ip, port) = (v6.ip(), v6.port());
            Err(format!("a link-local address needs its interface, such as [{ip}%eth0]:{port}"))
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Ok(Some(address)),
    }
}

/// The index of the network interface with this name.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn interface(name: &str) -> io::Result<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn interface(_: &str) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A port is digits: no sign, no name of a service.
fn port_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The example in a complaint, with what was written if that makes sense.
fn with_port(text: &str, port: &str) -> String {
    let host = if text.is_empty() || text.parse::<u16>().is_ok() { "127.0.0.1" } else { text };
    let port = if text.parse::<u16>().is_ok() { text } else { port };
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests;
