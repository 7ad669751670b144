//! The two HTTP listeners, and what each shows.

use std::net::{IpAddr, Ipv4Addr};

use tproxy::net::Address;

/// What an HTTP listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// `--admin`: everything.
    Admin,
    /// `--metrics`: what names no client.
    Metrics,
}

impl Role {
    pub(crate) const ALL: [Self; 2] = [Self::Admin, Self::Metrics];

    /// The option.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    /// May it be there? What shows the clients is for this machine.
    pub(crate) fn may_be(self, address: &Address) -> bool {
        match address {
            Address::Inet(address) => self == Self::Metrics || address.ip().to_canonical().is_loopback(),
            // An abstract name has no permissions.
            other => self == Self::Metrics || other.path().is_some(),
        }
    }

    /// Is this the `Host` of a request that was meant for it? A page of another site can make a browser ask for a name that
    /// leads here; then the name is that site's.
    pub(super) fn takes(self, host: Option<&str>, is_unix: bool) -> bool {
        if self == Self::Metrics || is_unix {
            return true;
        }
        let Some(host) = host else { return false };
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port),
            _ => (host, ""),
        };
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        let is_ours = name.eq_ignore_ascii_case("localhost")
            || name == "[::1]"
            || name.parse::<Ipv4Addr>().is_ok_and(|ip| IpAddr::from(ip).is_loopback());
        is_port && is_ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_the_clients_is_for_this_machine() {
        for (text, is_right) in [
            ("127.0.0.1:80", true),
            ("127.9.9.9:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("unix:/run/a", true),
            ("unix:@a", false),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("10.0.0.1:80", false),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((Role::Admin.may_be(&address), Role::Metrics.may_be(&address)), (is_right, true), "{text}");
        }
    }

    #[test]
    fn a_request_for_another_name_was_meant_for_another_site() {
        for host in ["localhost", "localhost:9000", "LOCALHOST", "127.0.0.1", "127.1.2.3:1", "[::1]", "[::1]:65535"] {
            assert!(Role::Admin.takes(Some(host), false), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "[::2]",
            "::1",
            "localhost:x",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(!Role::Admin.takes(Some(host), false), "{host}");
        }
        assert!(!Role::Admin.takes(None, false));
        for role in Role::ALL {
            assert!(role.takes(Some("example.com"), true) && Role::Metrics.takes(None, false));
        }
    }
}
