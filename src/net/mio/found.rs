//! What a name lookup found, as the reactor wants it.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;

use crate::net::message::Answer;

/// Its addresses in the order in which they are to be tried, or why there are none.
pub(super) fn answer(found: io::Result<Vec<SocketAddr>>) -> Answer {
    let addresses = interleave(&found.map_err(|error| in_words(&error))?);
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}

/// Each address once, IPv6 and IPv4 by turns, so that a family that leads nowhere costs every other attempt at most. The
/// family that the resolver put first begins, and within a family its order stays: it has sorted them by what can be
/// reached from here (RFC 6724).
fn interleave(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let (mut begins, mut follows): (VecDeque<_>, VecDeque<_>) = found
        .iter()
        .copied()
        .filter(|address| seen.insert(*address))
        .partition(|address| address.is_ipv6() == found[0].is_ipv6());
    let mut order = Vec::with_capacity(begins.len() + follows.len());
    while !(begins.is_empty() && follows.is_empty()) {
        order.extend(begins.pop_front());
        order.extend(follows.pop_front());
    }
    order
}

/// The system's own words, which people know from other programs. What std puts before them says nothing.
fn in_words(error: &io::Error) -> String {
    let words = error.to_string();
    words.strip_prefix("failed to lookup address information: ").unwrap_or(&words).to_owned()
}

#[cfg(test)]
pub(super) fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    let port_0 = |text: &&str| if text.contains(':') { format!("[{text}]:0") } else { format!("{text}:0") };
    texts.iter().map(|text| port_0(text).parse().unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    #[test]
    fn families_take_turns_and_the_resolvers_first_begins() {
        for (found, order) in [
            (&["::1", "::2", "1.1.1.1", "2.2.2.2"] as &[_], &["::1", "1.1.1.1", "::2", "2.2.2.2"] as &[_]),
            (&["1.1.1.1", "2.2.2.2", "::1"], &["1.1.1.1", "::1", "2.2.2.2"]),
            (&["1.1.1.1", "::1", "::2", "::3"], &["1.1.1.1", "::1", "::2", "::3"]),
            (&["::2", "::1"], &["::2", "::1"]),
            (&["2.2.2.2", "1.1.1.1"], &["2.2.2.2", "1.1.1.1"]),
            (&["::1"], &["::1"]),
            (&[], &[]),
        ] {
            assert_eq!(interleave(&addresses(found)), addresses(order), "{found:?}");
        }
    }

    #[test]
    fn an_address_that_is_found_twice_is_there_once() {
        let found = ["1.1.1.1", "1.1.1.1", "::1", "1.1.1.1", "::1", "2.2.2.2"];
        assert_eq!(answer(Ok(addresses(&found))), Ok(addresses(&["1.1.1.1", "::1", "2.2.2.2"])));
    }

    #[test]
    fn the_same_address_on_two_interfaces_is_two() {
        let on = |scope| SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 0, 0, scope));
        assert_eq!(answer(Ok(vec![on(1), on(2), on(1)])), Ok(vec![on(1), on(2)]));
    }

    #[test]
    fn an_error_has_the_words_of_the_system_and_no_others() {
        for (said, told) in [
            ("failed to lookup address information: Name or service not known", "Name or service not known"),
            ("Too many open files (os error 24)", "Too many open files (os error 24)"),
        ] {
            assert_eq!(answer(Err(io::Error::other(said))), Err(told.to_owned()));
        }
    }
}
