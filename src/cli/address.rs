//! Addresses as people write them: one, a range of ports, a list.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::RangeInclusive;

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
            _ if self.host == ECHO => self.host.clone(),
            (first, last) if first == last => format!("{}:{first}", self.host),
            (first, last) => format!("{}:{first}-{last}", self.host),
        }
    }

    /// The ports, and for each what was written, as if it had been written alone.
    pub(super) fn each(&self) -> impl Iterator<Item = (u16, String)> {
        self.ports.clone().map(|port| (port, format!("{}:{port}", self.host)))
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
}

impl WithPort for Listen {
    fn with_port(self, port: u16) -> Self {
        match self {
            Self::Address(mut address) => {
                address.set_port(port);
                Self::Address(address)
            }
            Self::Name(name, _) => Self::Name(name, port),
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
        }
    }
}

/// How the built-in server is written.
const ECHO: &str = "echo:";

fn listeners(text: &str) -> Result<Vec<Ports<Listen>>, String> {
    text.split(',').map(|one| ports(one.trim(), listen)).collect()
}

fn upstream(text: &str) -> Result<Vec<Ports<Target>>, String> {
    text.split(',').map(|one| ports(one.trim(), target)).collect()
}

/// Reads an address with a port or a range of them.
fn ports<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Ports<T>, String> {
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

fn listen(text: &str) -> Result<Listen, String> {
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
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_to_listen_on_is_an_address_or_a_name_of_this_machine() {
        for text in ["127.0.0.1:6101", "0.0.0.0:0", "[::]:80", "[::1]:65535"] {
            assert_eq!(listen(text), Ok(Listen::Address(address(text))));
        }
        assert_eq!(listen(":8080"), Ok(Listen::Address(address("[::]:8080"))), "both families");
        assert_eq!(listen("localhost:0"), Ok(Listen::Name("localhost".into(), 0)));
        for (text, advice) in [
            ("*:8080", "127.0.0.1:8080, or :8080"),
            ("[::1:8080", "127.0.0.1:8080, or :8080"),
            ("127.0.0.1", "127.0.0.1:6101"),
            ("8080", "127.0.0.1:8080"),
            ("::1", "[::1]:6101"),
            ("127.0.0.1:http", "0 to 65535"),
            ("127.0.0.1:+80", "0 to 65535"),
            ("127.0.0.1:65536", "0 to 65535"),
            ("127.0.0.1:", "0 to 65535"),
            ("a b:80", "127.0.0.1:80, or :80"),
            ("", "127.0.0.1:6101"),
        ] {
            let complaint = listen(text).unwrap_err();
            assert!(complaint.contains(advice), "{text}: {complaint}");
        }
    }

    /// `lo` is there everywhere, and has index 1 in every network namespace of Linux.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_scope_of_a_link_local_address_may_be_an_interface() {
        let expected = address("[fe80::1%1]:80");
        for text in ["[fe80::1%lo]:80", "[fe80::1%1]:80"] {
            assert_eq!(listen(text), Ok(Listen::Address(expected)), "{text}");
            assert_eq!(target(text), Ok(Target::Address(expected)), "{text}");
        }
        for (text, words) in [
            ("[fe80::1%no-such-one]:80", "no network interface \"no-such-one\""),
            ("[fe80::1%]:80", "no network interface"),
            ("[fe80::1]:80", "needs its interface, such as [fe80::1%eth0]:80"),
        ] {
            for message in [listen(text).unwrap_err(), target(text).unwrap_err()] {
                assert!(message.contains(words), "{text}: {message}");
            }
        }
    }

    #[test]
    fn a_target_is_an_address_or_a_name_with_a_port_or_the_built_in_server() {
        assert_eq!(target("127.0.0.1:80"), Ok(Target::Address(address("127.0.0.1:80"))));
        assert_eq!(target("[::1]:80"), Ok(Target::Address(address("[::1]:80"))));
        assert_eq!(target("db.example:5432"), Ok(Target::Name("db.example".into(), 5432)));
        assert_eq!((target("echo:"), target("echo:7")), (Ok(Target::Echo), Ok(Target::Name("echo".into(), 7))));
        for (text, advice) in [
            ("127.0.0.1:0", "1 to 65535"),
            ("localhost:0", "1 to 65535"),
            ("localhost", "localhost:8888"),
            ("8888", "127.0.0.1:8888"),
            (":8888", "127.0.0.1:8888"),
            ("::1", "[::1]:8888"),
            ("localhost:http", "1 to 65535"),
            ("localhost:99999", "1 to 65535"),
            ("http://localhost:80/index.html", "write localhost:80"),
            ("127.0.0.1:+80", "1 to 65535"),
            ("a\nb:80", "localhost:80"),
            ("a b:80", "localhost:80"),
            ("[::1:80", "[::1]:80"),
            ("", "127.0.0.1:8888"),
        ] {
            let complaint = target(text).unwrap_err();
            assert!(complaint.contains(advice), "{text}: {complaint}");
        }
    }

    #[test]
    fn a_list_has_commas_and_a_range_has_each_of_its_ports() {
        let list = listeners(":7000-7002, [::1]:80,localhost:81-81").unwrap();
        let each: Vec<_> =
            list.iter().flat_map(|one| one.each().map(|(port, name)| (one.with_port(port), name))).collect();
        let everywhere = |port| Listen::Address((Ipv6Addr::UNSPECIFIED, port).into());
        let expected = [
            (everywhere(7000), ":7000"),
            (everywhere(7001), ":7001"),
            (everywhere(7002), ":7002"),
            (Listen::Address(address("[::1]:80")), "[::1]:80"),
            (Listen::Name("localhost".into(), 81), "localhost:81"),
        ];
        assert_eq!(each, expected.map(|(listen, name)| (listen, name.to_owned())));
        let written: Vec<_> = list.iter().map(Ports::written).collect();
        assert_eq!(written, [":7000-7002", "[::1]:80", "localhost:81"]);
        let hosts = upstream("my-host:7000-7001,echo:,10.0.0.1:7").unwrap();
        assert_eq!(hosts.iter().map(Ports::written).collect::<Vec<_>>(), ["my-host:7000-7001", "echo:", "10.0.0.1:7"]);
        assert_eq!(hosts[0].with_port(7001), Target::Name("my-host".into(), 7001));
        for text in [":7009-7000", ":0-3", ":70-", ":70-80-90", ":70-65536", ":7000 - 7009", ":70-http"] {
            let complaint = listeners(text).unwrap_err();
            assert!(complaint.contains("1 to 65535, the lower one first, such as 7000-7009"), "{text}: {complaint}");
        }
        for text in ["", ",", "127.0.0.1:80,", ",127.0.0.1:80"] {
            assert!(listeners(text).unwrap_err().contains("the port is missing"), "{text}");
            assert!(upstream(text).unwrap_err().contains("the port is missing"), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>(), likely in "[0-9a-zA-Zµ.:+,/\\[\\] -]{0,24}") {
            for text in [text, likely] {
                let (listeners, upstream) = (listeners(&text), upstream(&text));
                let counts = listeners.iter().flatten().map(Ports::count).chain(upstream.iter().flatten().map(Ports::count));
                prop_assert!(counts.into_iter().all(|count| (1..=65535).contains(&count)));
            }
        }

        #[test]
        fn an_address_that_was_printed_is_read_back(ip in any::<IpAddr>(), port in 1_u16..) {
            // A link-local address needs a scope.
            prop_assume!(!matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(listen(&address.to_string()), Ok(Listen::Address(address)));
            prop_assert_eq!(target(&address.to_string()), Ok(Target::Address(address)));
        }

        #[test]
        fn a_name_that_was_printed_is_read_back(name in "[a-z][a-z0-9.-]{0,40}", port in 1_u16..) {
            prop_assert_eq!(target(&format!("{name}:{port}")), Ok(Target::Name(name.clone(), port)));
            prop_assert_eq!(listen(&format!("{name}:{port}")), Ok(Listen::Name(name, port)));
        }
    }
}
