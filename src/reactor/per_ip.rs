//! How many sessions each client address has, where a route limits that.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Sessions by client address. IPv6 clients with the same 64 bits in front count as one: a site gets at least that many
/// addresses (RFC 6177), and a client may use any of them. Only addresses with sessions are in it.
#[derive(Debug, Default)]
pub(super) struct PerIp(HashMap<IpAddr, u32>);

impl PerIp {
    /// Sessions of this address.
    pub(super) fn count(&self, ip: IpAddr) -> usize {
        self.0.get(&key(ip)).map_or(0, |count| *count as usize)
    }

    /// A session of this address begins.
    pub(super) fn add(&mut self, ip: IpAddr) {
        *self.0.entry(key(ip)).or_default() += 1;
    }

    /// A session of this address, which was added, is over.
    pub(super) fn remove(&mut self, ip: IpAddr) {
        let ip = key(ip);
        let Some(count) = self.0.get_mut(&ip) else {
            return debug_assert!(false, "{ip} has no session");
        };
        *count -= 1;
        if *count == 0 {
            self.0.remove(&ip);
        }
    }

    /// Addresses with sessions.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_counted_as_long_as_it_has_sessions() {
        let mut clients = PerIp::default();
        for (text, count) in [("10.0.0.1", 1), ("::ffff:10.0.0.1", 2), ("10.0.0.2", 1), ("2001:db8::1", 1)] {
            clients.add(ip(text));
            assert_eq!(clients.count(ip(text)), count, "{text}");
        }
        clients.add(ip("2001:db8:0:0:ffff::2"));
        assert_eq!([ip("2001:db8::"), ip("2001:db8:0:1::1")].map(|ip| clients.count(ip)), [2, 0]);
        for text in ["10.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::7", "2001:db8::7"] {
            clients.remove(ip(text));
        }
        assert_eq!((clients.count(ip("10.0.0.1")), clients.len()), (0, 0));
    }
}
