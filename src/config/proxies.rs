//! Which clients are proxies that are believed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::networks::Networks;

/// The proxies whose headers are believed: networks, and whether clients of Unix sockets are among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    networks: Networks,
    unix: bool,
}

/// What stands for clients of Unix sockets in a list.
const UNIX: &str = "unix";

impl Proxies {
    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Is a client with this address one of them? None is a client of a Unix socket.
    pub fn contains(&self, client: Option<IpAddr>) -> bool {
        client.map_or(self.unix, |ip| self.networks.contains(ip))
    }

    /// Is every address of IPv4 or of IPv6 one of them?
    pub fn contains_a_whole_family(&self) -> bool {
        self.networks.contains_a_whole_family()
    }

    /// Those of several lists.
    pub fn all(lists: impl IntoIterator<Item = Self>) -> Self {
        let (networks, unix): (Vec<_>, Vec<_>) = lists.into_iter().map(|it| (it.networks, it.unix)).unzip();
        Self { networks: Networks::all(networks), unix: unix.contains(&true) }
    }

    /// Are there at most as many networks as there may be?
    pub(super) fn check(&self) -> Result<(), String> {
        self.networks.check()
    }
}

impl FromStr for Proxies {
    type Err = String;

    /// Reads networks and `unix`, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let one = |one: &str| match one.trim() {
            UNIX => Ok(Self { networks: Networks::default(), unix: true }),
            network => {
                let networks = network.parse().map_err(|error| format!("{error}, or unix"))?;
                Ok(Self { networks, unix: false })
            }
        };
        text.split(',').map(one).collect::<Result<Vec<_>, String>>().map(Self::all)
    }
}

impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.networks.is_empty(), self.unix) {
            (_, false) => self.networks.fmt(f),
            (true, true) => f.write_str(UNIX),
            (false, true) => write!(f, "{},{UNIX}", self.networks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_in_a_network_or_comes_by_a_unix_socket_if_that_is_listed() {
        for (list, inside, outside, unix) in [
            ("10.0.0.0/8", "10.0.0.1", "11.0.0.1", false),
            ("10.0.0.0/8, unix", "::ffff:10.0.0.1", "::1", true),
            ("unix,::1", "::1", "127.0.0.1", true),
        ] {
            let proxies: Proxies = list.parse().unwrap();
            let has = |ip: &str| proxies.contains(Some(ip.parse().unwrap()));
            assert!(has(inside) && !has(outside) && !proxies.is_empty(), "{list}");
            assert_eq!(proxies.contains(None), unix, "{list}");
            assert_eq!(proxies.to_string().parse(), Ok(proxies), "{list}");
        }
        assert!(Proxies::default().is_empty() && !Proxies::default().contains(None));
        assert_eq!("unix".parse::<Proxies>().unwrap().to_string(), "unix");
    }

    #[test]
    fn what_is_neither_is_answered_with_both() {
        for text in ["", "10.0.0.0/8,", "UNIX", "haproxy.internal"] {
            let complaint = text.parse::<Proxies>().unwrap_err();
            assert!(complaint.ends_with("such as 10.0.0.0/8, or unix"), "{complaint}");
        }
    }
}
