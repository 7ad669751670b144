//! Which address of an upstream is next. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::config::Balance;
use crate::net::{Address, Client};

/// An address that may be next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) address: &'a Address,
    /// It was tried already.
    pub(super) tried: bool,
    /// It failed a while ago.
    pub(super) down: bool,
    /// Sessions that are connected to it, or tried it last.
    pub(super) sessions: u32,
}

/// The place of the next one: the least of tried, down, and what the policy says; the first where that is equal. None if
/// there is none at all. `cursor` is the place behind the one that was chosen last.
pub(super) fn choose<'a>(
    balance: Balance,
    candidates: impl ExactSizeIterator<Item = Candidate<'a>>,
    cursor: usize,
    client: Client,
) -> Option<usize> {
    let count = candidates.len();
    let rank = |(place, candidate): &(usize, Candidate<'_>)| {
        let key = match balance {
            Balance::First => 0,
            Balance::RoundRobin => ((place + count - cursor % count) % count) as u64,
            Balance::LeastSessions => candidate.sessions.into(),
            Balance::Source => u64::MAX - weight(client, candidate.address),
        };
        (candidate.tried, candidate.down, key)
    };
    candidates.enumerate().min_by_key(rank).map(|(place, _)| place)
}

/// How well a client and an address fit: rendezvous hashing. The same in every process and on every machine, so that
/// several relays with the same list agree.
fn weight(client: Client, address: &Address) -> u64 {
    let halves = |ip: IpAddr| {
        let bits = match ip.to_canonical() {
            IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => u128::from(ip),
        };
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        [(bits >> 64) as u64, bits as u64]
    };
    let client = match (client.ip(), client.credentials()) {
        (Some(ip), _) => halves(ip),
        // By its user: each of a user's processes would be another client. The first half is no IP address's of a host.
        (None, credentials) => [u64::MAX, credentials.map_or(u64::MAX, |(_, user)| user.into())],
    };
    let hash = client.into_iter().fold(0, |hash, word| mix(hash ^ word));
    let port = |address: &SocketAddr| u64::from(address.port());
    match address {
        Address::Inet(address) => {
            halves(address.ip()).into_iter().chain([port(address)]).fold(hash, |hash, word| mix(hash ^ word))
        }
        Address::Unix(name) => name.iter().fold(hash, |hash, byte| mix(hash ^ u64::from(*byte))),
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014): every bit of the input moves every bit of the output. The first
/// constant is its increment, so that 0 does not stay 0.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(ip: impl Into<IpAddr>) -> Client {
        SocketAddr::new(ip.into(), 1).into()
    }

    fn addresses(count: u8) -> Vec<Address> {
        (1..=count).map(|last| SocketAddr::from(([10, 0, 0, last], 80)).into()).collect()
    }

    /// Chooses among these: tried, down, sessions.
    fn among(balance: Balance, cursor: usize, candidates: &[(bool, bool, u32)]) -> Option<usize> {
        let addresses = addresses(5);
        let candidate = |((tried, down, sessions), address)| Candidate { address, tried, down, sessions };
        choose(balance, candidates.iter().copied().zip(&addresses).map(candidate), cursor, client(Ipv4Addr::LOCALHOST))
    }

    #[test]
    fn one_that_is_up_and_untried_comes_before_all_others_whatever_the_policy() {
        for balance in [Balance::First, Balance::RoundRobin, Balance::LeastSessions, Balance::Source] {
            let (tried, down, both, fresh) = ((true, false, 0), (false, true, 0), (true, true, 0), (false, false, 9));
            for cursor in 0..5 {
                assert_eq!(among(balance, cursor, &[tried, down, both, fresh]), Some(3), "{balance:?}");
                assert_eq!(among(balance, cursor, &[tried, down, both]), Some(1), "{balance:?}");
                assert_eq!(among(balance, cursor, &[both, tried]), Some(1), "{balance:?}");
            }
            assert_eq!(among(balance, 0, &[]), None);
        }
    }

    #[test]
    fn first_takes_them_as_written() {
        assert_eq!(among(Balance::First, 2, &[(false, false, 9), (false, false, 0)]), Some(0));
    }

    #[test]
    fn round_robin_goes_on_behind_the_last_and_skips_what_is_down() {
        let (up, down) = ((false, false, 0), (false, true, 0));
        let mut cursor = 0;
        let order: Vec<_> = (0..5)
            .map(|_| {
                let chosen = among(Balance::RoundRobin, cursor, &[up, down, up]).unwrap();
                cursor = chosen + 1;
                chosen
            })
            .collect();
        assert_eq!(order, [0, 2, 0, 2, 0]);
    }

    #[test]
    fn least_sessions_takes_the_first_of_the_least_busy() {
        let busy = |sessions| (false, false, sessions);
        assert_eq!(among(Balance::LeastSessions, 0, &[busy(3), busy(1), busy(2), busy(1)]), Some(1));
    }

    fn by_source(client: Client, addresses: &[Address]) -> Address {
        let candidate = |address| Candidate { address, tried: false, down: false, sessions: 0 };
        addresses[choose(Balance::Source, addresses.iter().map(candidate), 0, client).unwrap()].clone()
    }

    #[test]
    fn an_address_that_leaves_moves_only_its_own_clients() {
        let all = addresses(5);
        let fewer: Vec<_> = all.iter().filter(|address| **address != all[2]).cloned().collect();
        let mut moved = 0;
        let mut counts = [0; 5];
        for client in (0..5_000_u32).map(|number| client(Ipv4Addr::from_bits(0x0a00_0000 + number))) {
            let (before, after) = (by_source(client, &all), by_source(client, &fewer));
            counts[all.iter().position(|address| *address == before).unwrap()] += 1;
            if before == all[2] {
                moved += 1;
            } else {
                assert_eq!(before, after, "{client}");
            }
        }
        assert!(moved > 0 && counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_client_of_a_unix_socket_is_its_user_and_an_upstream_may_be_one() {
        let addresses: Vec<Address> = ["unix:/a", "unix:@a", "unix:/b"].map(|text| text.parse().unwrap()).into();
        let mut counts = [0; 3];
        for user in 0..3_000 {
            let chosen = by_source(Client::unix(1, user), &addresses);
            assert_eq!(by_source(Client::unix(2, user), &addresses), chosen, "another process of the user");
            counts[addresses.iter().position(|address| *address == chosen).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    /// Relays of different versions must agree: a change of these is a change that users can tell.
    #[test]
    fn the_weights_stay_as_they_are() {
        let address = "10.0.0.1:80".parse().unwrap();
        let weights = ["127.0.0.1", "::ffff:127.0.0.1", "2001:db8::1"]
            .map(|ip| weight(client(ip.parse::<IpAddr>().unwrap()), &address));
        assert_eq!(weights, [8_694_360_982_362_021_164, 8_694_360_982_362_021_164, 14_671_404_368_663_747_626]);
    }
}
