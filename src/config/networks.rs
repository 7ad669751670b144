//! Lists of networks, to say which addresses are meant.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use super::ranges::NETWORKS_MAX;

/// A list of networks, each an address and the length of its prefix: `10.0.0.0/8`, `2001:db8::/32`. At most 1,024.
///
/// An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4, in the list and in what is looked for. So
/// `::/0` is every IPv6 address, and no IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// The longest prefixes first.
    list: Arc<[IpNet]>,
}

impl Networks {
    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Is this address in one of them?
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.longest_prefix(ip).is_some()
    }

    /// Is every address of IPv4 or of IPv6 in one of them?
    pub fn contains_a_whole_family(&self) -> bool {
        self.list.iter().any(|network| network.prefix_len() == 0)
    }

    /// The longest prefix of those with this address, in bits.
    pub(crate) fn longest_prefix(&self, ip: IpAddr) -> Option<u8> {
        let ip = ip.to_canonical();
        self.list.iter().find(|network| network.contains(&ip)).map(IpNet::prefix_len)
    }

    /// Those of several lists.
    pub fn all(lists: impl IntoIterator<Item = Self>) -> Self {
        let mut all: Vec<_> = lists.into_iter().flat_map(|networks| networks.list.to_vec()).collect();
        all.sort_by_key(|network| std::cmp::Reverse(network.prefix_len()));
        Self { list: all.into() }
    }

    /// Are there at most as many as there may be?
    pub(super) fn check(&self) -> Result<(), String> {
        match self.list.len() {
            0..=NETWORKS_MAX => Ok(()),
            count => Err(format!("{count} networks; {NETWORKS_MAX} is the most (a firewall such as nft takes more)")),
        }
    }
}

impl FromStr for Networks {
    type Err = String;

    /// Reads one network, or several, separated by commas. An address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, String> {
        let list = text.split(',').map(|one| network(one.trim())).collect::<Result<_, _>>()?;
        Ok(Self::all([Self { list }]))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<_> = self.list.iter().map(ToString::to_string).collect();
        f.write_str(&list.join(","))
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let Some(network) = read(text) else {
        return Err(format!(
            "{text:?} is no network; write an address and the length of its prefix, such as 10.0.0.0/8"
        ));
    };
    if network.addr() != network.network() {
        let (meant, one) = (network.trunc(), network.addr());
        return Err(format!(
            "{text} has bits behind its prefix; write {meant} for the network, or {one} for the address"
        ));
    }
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(mapped), IpAddr::V4(ip)) if mapped.prefix_len() >= MAPPED_BITS => {
            Ipv4Net::new(ip, mapped.prefix_len() - MAPPED_BITS).map(IpNet::V4).map_err(|error| error.to_string())
        }
        (network, _) => Ok(network),
    }
}

/// An address, with the length of a prefix or alone. A number with a zero before it is refused: to some programs it is octal.
fn read(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().map(IpNet::from).ok();
    };
    let is_plain = length == "0" || (!length.starts_with('0') && length.bytes().all(|byte| byte.is_ascii_digit()));
    let length = length.parse().ok().filter(|_| is_plain)?;
    IpNet::new(address.parse().ok()?, length).ok()
}

/// The bits before the IPv4 address in `::ffff:a.b.c.d`.
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_a_network_if_the_bits_of_the_prefix_are_equal() {
        for (list, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.7", "10.0.0.7", "10.0.0.6"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("::/0", "::1", "::ffff:10.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("192.168.0.0/16, 172.16.0.0/12", "172.31.0.1", "172.32.0.1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
            ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:0:0/96", "1.2.3.4", "::1"),
        ] {
            let list_of = networks(list);
            assert!(list_of.contains(ip(inside)) && !list_of.contains(ip(outside)), "{list}");
        }
    }

    #[test]
    fn the_longest_prefix_is_found_wherever_it_stands() {
        for list in ["10.0.0.0/8,10.1.0.0/16,10.1.2.0/24", "10.1.2.0/24,10.1.0.0/16,10.0.0.0/8"] {
            let list = networks(list);
            let found = ["10.1.2.3", "10.1.3.3", "10.2.3.3", "11.1.2.3"].map(|text| list.longest_prefix(ip(text)));
            assert_eq!(found, [Some(24), Some(16), Some(8), None]);
        }
    }

    #[test]
    fn what_is_no_network_is_answered_with_one() {
        for (text, advice) in [
            ("", "such as 10.0.0.0/8"),
            ("10.0.0.0/33", "such as 10.0.0.0/8"),
            ("10.0.0/8", "such as 10.0.0.0/8"),
            ("010.0.0.0/8", "such as 10.0.0.0/8"),
            ("10.0.0.0/08", "such as 10.0.0.0/8"),
            ("10.0.0.0/+8", "such as 10.0.0.0/8"),
            ("10.0.0.0/00", "such as 10.0.0.0/8"),
            ("localhost", "such as 10.0.0.0/8"),
            ("10.0.0.0/8,", "such as 10.0.0.0/8"),
            ("10.0.0.5/8", "write 10.0.0.0/8 for the network, or 10.0.0.5 for the address"),
            ("2001:db8::1/32", "write 2001:db8::/32 for the network, or 2001:db8::1 for the address"),
        ] {
            let complaint = text.parse::<Networks>().unwrap_err();
            assert!(complaint.contains(advice), "{text}: {complaint}");
        }
    }

    #[test]
    fn lists_are_joined_and_printed() {
        let all = Networks::all([networks("10.0.0.0/8"), networks("::1,10.1.0.0/16")]);
        assert_eq!(all.to_string(), "::1/128,10.1.0.0/16,10.0.0.0/8");
        assert!(!all.contains_a_whole_family());
        assert!(Networks::all([all, networks("::/0")]).contains_a_whole_family());
    }

    #[test]
    fn a_list_has_at_most_1024() {
        let many = |count| networks(&vec!["10.0.0.1"; count].join(","));
        assert!(many(1024).check().is_ok());
        assert!(many(1025).check().unwrap_err().starts_with("1025 networks; 1024 is the most"));
    }
}
