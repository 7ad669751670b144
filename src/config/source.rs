//! Which addresses connections may come from.

use std::net::{IpAddr, SocketAddr};

use super::ranges::SOURCES_MAX;

/// Are these possible as sources? If not, says what is wrong and what to write.
pub(super) fn check_sources(sources: &[IpAddr]) -> Result<(), String> {
    if sources.len() > SOURCES_MAX {
        return Err(format!("{} source addresses; at most {SOURCES_MAX} are possible", sources.len()));
    }
    for (index, source) in sources.iter().enumerate() {
        let ip = source.to_canonical();
        if ip != *source {
            return Err(format!("{source} is an IPv4 address; write {ip}"));
        }
        let nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]);
        if nobody {
            return Err(format!(
                "{ip} is no address of a machine; write one of this machine's, as `ip address` shows them"
            ));
        }
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return Err(format!("{ip} is an address of one link only; write another of this machine's"));
        }
        if sources[..index].contains(source) {
            return Err(format!("{ip} is there twice; leave one out"));
        }
    }
    Ok(())
}

/// Why nothing can be connected to this address from these, if that is so: none is of its family.
pub(super) fn source_misses(sources: &[IpAddr], to: SocketAddr) -> Option<String> {
    let is_ipv4 = to.ip().to_canonical().is_ipv4();
    let fits = sources.is_empty() || sources.iter().any(|source| source.is_ipv4() == is_ipv4);
    let (its, theirs) = if is_ipv4 { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
    (!fits).then(|| {
        format!("{to} is {its}, and the source addresses are {theirs}; add an {its} one to them, or leave it out")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_source_is_an_address_of_a_machine_and_is_there_once() {
        for list in [&[][..], &["127.0.0.1"], &["192.0.2.1", "2001:db8::1", "192.0.2.2"], &["::1"]] {
            assert_eq!(check_sources(&ips(list)), Ok(()), "{list:?}");
        }
        for (list, words) in [
            (&["0.0.0.0"][..], "0.0.0.0 is no address of a machine; write one"),
            (&["::"], ":: is no address"),
            (&["10.0.0.1", "224.0.0.1"], "224.0.0.1 is no address"),
            (&["255.255.255.255"], "is no address"),
            (&["ff02::1"], "is no address"),
            (&["fe80::1"], "fe80::1 is an address of one link only"),
            (&["::ffff:10.0.0.1"], "write 10.0.0.1"),
            (&["10.0.0.1", "10.0.0.2", "10.0.0.1"], "10.0.0.1 is there twice"),
        ] {
            let complaint = check_sources(&ips(list)).unwrap_err();
            assert!(complaint.contains(words), "{complaint}");
        }
        let many: Vec<IpAddr> =
            (0..=256_u16).map(|n| IpAddr::from([10, 1, u8::from(n > 255), n.to_le_bytes()[0]])).collect();
        assert_eq!(check_sources(&many[..256]), Ok(()));
        assert_eq!(check_sources(&many), Err("257 source addresses; at most 256 are possible".to_owned()));
    }

    #[test]
    fn a_source_is_needed_of_each_family_that_is_connected_to() {
        let (v4, v6, mapped) = ("192.0.2.1:80", "[2001:db8::1]:80", "[::ffff:192.0.2.1]:80");
        for (list, to, fits) in [
            (&[][..], v4, true),
            (&[], v6, true),
            (&["10.0.0.1"], v4, true),
            (&["10.0.0.1"], mapped, true),
            (&["10.0.0.1"], v6, false),
            (&["::1"], v4, false),
            (&["::1"], mapped, false),
            (&["::1", "10.0.0.1"], v4, true),
        ] {
            assert_eq!(source_misses(&ips(list), to.parse().unwrap()).is_none(), fits, "{list:?} {to}");
        }
        let words =
            "[2001:db8::1]:80 is IPv6, and the source addresses are IPv4; add an IPv6 one to them, or leave it out";
        assert_eq!(source_misses(&ips(&["10.0.0.1"]), v6.parse().unwrap()).unwrap(), words);
    }
}
