//! Addresses on the command line: parsing them, and looking up names.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs, UdpSocket};

/// Where to connect to, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Address(SocketAddr),
    Name(String, u16),
}

impl Target {
    /// All the addresses behind it, each once. Asks the system's resolver, and takes as long as that does.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let (name, port) = match self {
            Self::Address(address) => return Ok(vec![*address]),
            Self::Name(name, port) => (name.as_str(), *port),
        };
        let mut seen = HashSet::new();
        let found = (name, port).to_socket_addrs().map(|found| found.filter(|address| seen.insert(*address)).collect());
        match found {
            Ok(addresses) if !Vec::is_empty(&addresses) => Ok(addresses),
            Ok(_) => Err(format!("--to {name}:{port}: the name has no address")),
            Err(error) => Err(format!("--to {name}:{port}: the name does not resolve: {error}")),
        }
    }
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Some(address) = literal(text)? {
        return Ok(address);
    }
    Err(match text.rsplit_once(':') {
        _ if text.parse::<Ipv6Addr>().is_ok() => {
            format!("an IPv6 address goes in brackets, with a port: [{text}]:6101")
        }
        Some((_, port)) if port_number(port).is_none() => {
            format!("{port:?} is not a port; write 0 to 65535")
        }
        Some(("", port)) => {
            format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} or [::]:{port} for every interface")
        }
        Some((name, port)) => {
            format!("{name:?} is not an address of this machine; write one, such as 127.0.0.1:{port} or [::]:{port}")
        }
        None => format!("the port is missing; write an address and a port, such as {}", with_port(text, "6101")),
    })
}

pub(super) fn target(text: &str) -> Result<Target, String> {
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
        Some(port) if name.contains(|c: char| c.is_control() || c.is_whitespace() || ":[]/@".contains(c)) => Err(
            format!("{name:?} is neither an address nor a name; write one, such as localhost:{port} or [::1]:{port}"),
        ),
        Some(port) => Ok(Target::Name(name.to_owned(), port)),
    }
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

    #[test]
    fn an_address_to_listen_on_is_literal() {
        for text in ["127.0.0.1:6101", "0.0.0.0:0", "[::]:80", "[::1]:65535"] {
            assert_eq!(listen_address(text).unwrap().to_string(), text);
        }
        for (text, advice) in [
            (":8080", "0.0.0.0:8080"),
            (":8080", "[::]:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("127.0.0.1", "127.0.0.1:6101"),
            ("8080", "127.0.0.1:8080"),
            ("::1", "[::1]:6101"),
            ("127.0.0.1:http", "0 to 65535"),
            ("127.0.0.1:+80", "0 to 65535"),
            ("127.0.0.1:65536", "0 to 65535"),
            ("127.0.0.1:", "0 to 65535"),
            ("", "127.0.0.1:6101"),
        ] {
            let complaint = listen_address(text).unwrap_err();
            assert!(complaint.contains(advice), "{text}: {complaint}");
        }
    }

    /// `lo` is there everywhere, and has index 1 in every network namespace of Linux.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_scope_of_a_link_local_address_may_be_an_interface() {
        let expected: SocketAddr = "[fe80::1%1]:80".parse().unwrap();
        for text in ["[fe80::1%lo]:80", "[fe80::1%1]:80"] {
            assert_eq!(listen_address(text), Ok(expected), "{text}");
            assert_eq!(target(text), Ok(Target::Address(expected)), "{text}");
        }
        for (text, words) in [
            ("[fe80::1%no-such-one]:80", "no network interface \"no-such-one\""),
            ("[fe80::1%]:80", "no network interface"),
            ("[fe80::1]:80", "needs its interface, such as [fe80::1%eth0]:80"),
        ] {
            for message in [listen_address(text).unwrap_err(), target(text).unwrap_err()] {
                assert!(message.contains(words), "{text}: {message}");
            }
        }
    }

    #[test]
    fn a_target_is_an_address_or_a_name_with_a_port() {
        assert_eq!(target("127.0.0.1:80"), Ok(Target::Address("127.0.0.1:80".parse().unwrap())));
        assert_eq!(target("[::1]:80"), Ok(Target::Address("[::1]:80".parse().unwrap())));
        assert_eq!(target("db.example:5432"), Ok(Target::Name("db.example".into(), 5432)));
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
            ("[::1:80", "[::1]:80"),
            ("", "127.0.0.1:8888"),
        ] {
            let complaint = target(text).unwrap_err();
            assert!(complaint.contains(advice), "{text}: {complaint}");
        }
    }

    #[test]
    fn an_address_resolves_to_itself_and_a_name_to_each_address_once() {
        assert_eq!(target("127.0.0.1:80").unwrap().resolve().unwrap().len(), 1);
        let found = target("localhost:80").unwrap().resolve().unwrap();
        let distinct: HashSet<_> = found.iter().collect();
        assert!(!found.is_empty() && distinct.len() == found.len(), "{found:?}");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        let complaint = target("no-such-name.invalid:80").unwrap().resolve().unwrap_err();
        assert!(complaint.contains("--to no-such-name.invalid:80"), "{complaint}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>(), likely in "[0-9a-zA-Zµ.:+/\\[\\] -]{0,24}") {
            for text in [text, likely] {
                let _ = (listen_address(&text), target(&text));
            }
        }

        #[test]
        fn an_address_that_was_printed_is_read_back(ip in any::<IpAddr>(), port in 1_u16..) {
            // A link-local address needs a scope.
            prop_assume!(!matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(listen_address(&address.to_string()), Ok(address));
            prop_assert_eq!(target(&address.to_string()), Ok(Target::Address(address)));
        }

        #[test]
        fn a_name_that_was_printed_is_read_back(name in "[a-z][a-z0-9.-]{0,40}", port in 1_u16..) {
            prop_assert_eq!(target(&format!("{name}:{port}")), Ok(Target::Name(name, port)));
        }
    }
}
