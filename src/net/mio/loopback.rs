//! Does an address lead back to a listener of ours?

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use crate::net::{Address, AddressKey};

/// Would a connection to `upstream` end at the listener bound to `listening`, under whatever alias?
pub fn leads_to_itself(listening: SocketAddr, upstream: SocketAddr) -> bool {
    let (here, mut there) = (listening.ip().to_canonical(), upstream);
    // As an upstream, a wildcard means loopback.
    there.set_ip(match upstream.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    });
    // A wildcard listener takes every address that is ours, `[::]` those of IPv4 too.
    let takes_all = here.is_unspecified() && (here.is_ipv6() || there.is_ipv4());
    listening.port() == there.port() && (here == there.ip() || (takes_all && is_ours(there)))
}

/// What addresses that lead to one socket have in common.
pub fn key(address: &Address) -> AddressKey {
    let name = match address {
        Address::Inet(address) => return AddressKey::Port(address.port()),
        Address::Unix(name) => name,
    };
    let file = address.path().and_then(|path| fs::metadata(OsStr::from_bytes(path)).ok());
    file.map_or_else(|| AddressKey::Name(Arc::clone(name)), |file| AddressKey::File(file.dev(), file.ino()))
}

/// Is this address one of this machine's? Then a socket can be bound to it (K18); and since the sysctl
/// `net.ipv4.ip_nonlocal_bind` lets a socket be bound to any, what is sent there would also come from there.
pub fn is_ours(address: SocketAddr) -> bool {
    let mut anywhere = address;
    anywhere.set_port(0);
    let comes_from_there = |socket: UdpSocket| {
        socket.connect(address).is_ok() && socket.local_addr().is_ok_and(|from| from.ip() == address.ip())
    };
    let unbound = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(anywhere).is_ok()
        && (address.ip().is_loopback() || UdpSocket::bind(unbound).is_ok_and(comes_from_there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_relay_to_itself_is_recognised_under_every_alias() {
        for (listening, upstream) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "0.0.0.0:80"),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("0.0.0.0:80", "[::ffff:127.9.9.9]:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "0.0.0.0:80"),
            ("[::]:80", "[::]:80"),
            ("[::]:80", "[::1]:80"),
            ("[::1]:80", "[::]:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
        ] {
            assert!(leads_to_itself(address(listening), address(upstream)), "{listening} <- {upstream}");
        }
    }

    #[test]
    fn a_unix_socket_is_recognised_under_another_path() {
        let folder = tempfile::tempdir().unwrap();
        let path =
            |name: &str| key(&Address::Unix(folder.path().join(name).into_os_string().into_encoded_bytes().into()));
        fs::write(folder.path().join("one"), "").unwrap();
        fs::write(folder.path().join("other"), "").unwrap();
        std::os::unix::fs::symlink("one", folder.path().join("link")).unwrap();
        for (upstream, expected) in [("one", true), ("link", true), ("./one", true), ("other", false), ("none", false)]
        {
            assert_eq!(path("one") == path(upstream), expected, "{upstream}");
        }
        assert_eq!(path("none"), path("none"));
        let named = |name: &[u8]| key(&Address::Unix(name.into()));
        assert!(named(b"\0name") == named(b"\0name") && named(b"\0name") != named(b"\0other"));
        assert_ne!(named(b"\0name"), named(b"name"));
    }

    #[test]
    fn another_port_another_address_or_another_host_is_no_loop() {
        for (listening, upstream) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("127.0.0.2:80", "0.0.0.0:80"),
            ("0.0.0.0:80", "192.0.2.1:80"),
            ("[::]:80", "192.0.2.1:80"),
            ("[::]:80", "[2001:db8::1]:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("127.0.0.1:80", "[::]:80"),
        ] {
            assert!(!leads_to_itself(address(listening), address(upstream)), "{listening} <- {upstream}");
        }
    }
}
