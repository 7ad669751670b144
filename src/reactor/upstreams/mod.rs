//! Where sessions are connected to: the upstreams of the routes, the addresses behind them, and which is next.
//!
//! ```text
//!   route ──► Upstream: hosts as written ──► candidates ──► endpoints   each address once, with its health
//!                │                               ▲
//!                └── names ── the last answer ───┘
//! ```

mod choose;
mod endpoints;
mod health;
mod names;

use std::io;

use crate::config::ranges::ADDRESSES_MAX;
use crate::config::{Balance, Host};
use crate::net::errno::{ConnectError, on_connect};
use crate::net::{Address, Client, EndpointRow, NameId, Time};
use choose::{Candidate, choose};
pub(super) use endpoints::EndpointId;
use endpoints::Endpoints;
use names::Names;

/// What the upstreams of all routes share.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    pub(super) endpoints: Endpoints,
    pub(super) names: Names,
}

/// The upstream of one route.
#[derive(Debug)]
pub(super) struct Upstream {
    hosts: Box<[Listed]>,
    /// The names among the hosts, each once.
    names: Box<[NameId]>,
    /// What is known to be behind the hosts, in their order, each address once.
    candidates: Vec<(EndpointId, u16)>,
    /// Changes with the candidates.
    version: u16,
    /// The place behind the one that was chosen last.
    cursor: usize,
    /// It was said that there are too many addresses.
    told_too_many: bool,
    /// Addresses of the last answers that are the relay itself, each with the place of its host. They were told.
    left_out: Vec<(u16, Address)>,
}

/// A host of an upstream.
#[derive(Debug)]
struct Listed {
    host: Host,
    /// The number of its name, if it is one.
    name: Option<NameId>,
}

/// What of a new list of candidates is to be said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refreshed {
    /// An address that is the relay itself and was not before, and the name that it came with.
    pub(super) left_out: Vec<(Host, Address)>,
    /// There are more addresses than are used, for the first time.
    pub(super) too_many: bool,
    /// A name all of whose addresses are unfit.
    pub(super) unfit: Option<Host>,
}

impl Upstream {
    /// What a look inside sees of its addresses.
    pub(super) fn endpoints(&self, upstreams: &Upstreams, now: Time) -> Vec<EndpointRow> {
        let row = |(id, host): &(EndpointId, u16)| {
            let endpoint = &upstreams.endpoints[*id];
            EndpointRow {
                host: self.hosts[usize::from(*host)].host.to_string(),
                address: endpoint.address.clone(),
                is_down: endpoint.health.is_down(now),
                sessions: endpoint.sessions(),
            }
        };
        self.candidates.iter().map(row).collect()
    }
}

impl Upstreams {
    /// A route lists these hosts. Names that no other route lists are added to `new`.
    pub(super) fn list(&mut self, hosts: &[Host], new: &mut Vec<NameId>) -> Upstream {
        let listed = hosts.iter().map(|host| {
            let name = match host {
                Host::Address(_) => None,
                Host::Name { name, .. } => {
                    let (id, is_new) = self.names.list(name);
                    new.extend(is_new.then_some(id));
                    Some(id)
                }
            };
            Listed { host: host.clone(), name }
        });
        let hosts: Box<[Listed]> = listed.collect();
        let mut names: Vec<_> = hosts.iter().filter_map(|listed| listed.name).collect();
        names.sort_unstable();
        names.dedup();
        let (names, candidates) = (names.into(), Vec::new());
        let mut upstream =
            Upstream { hosts, names, candidates, version: 0, cursor: 0, told_too_many: false, left_out: Vec::new() };
        self.refresh(&mut upstream, |_| true, |_| false);
        upstream
    }

    /// The route is gone.
    pub(super) fn unlist(&mut self, upstream: Upstream) {
        for (endpoint, _) in upstream.candidates {
            self.endpoints.unlist(endpoint);
        }
        for name in upstream.hosts.iter().filter_map(|listed| listed.name) {
            self.names.unlist(name);
        }
    }

    /// Puts together the candidates from what is known of the names now. Addresses that are not fit and those that lead back
    /// to the relay are left out.
    pub(super) fn refresh(
        &mut self,
        upstream: &mut Upstream,
        is_fit: impl Fn(&Address) -> bool,
        mut leads_back: impl FnMut(&Address) -> bool,
    ) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let (mut candidates, mut left_out): (Vec<(EndpointId, u16)>, Vec<_>) = (Vec::new(), Vec::new());
        for (listed, index) in upstream.hosts.iter().zip(0..) {
            let mut found = match (&listed.host, listed.name) {
                (Host::Name { port, .. }, Some(name)) => {
                    let with_port = |address: &std::net::SocketAddr| {
                        let mut address = *address;
                        address.set_port(*port);
                        Address::from(address)
                    };
                    self.names.addresses(name).iter().map(with_port).collect()
                }
                (Host::Address(address), _) => vec![address.clone()],
                (Host::Name { .. }, None) => Vec::new(),
            };
            let answered = !found.is_empty();
            found.retain(&is_fit);
            if answered && found.is_empty() {
                refreshed.unfit = Some(listed.host.clone());
            }
            for address in found {
                if listed.name.is_some() && leads_back(&address) {
                    if !upstream.left_out.contains(&(index, address.clone())) {
                        refreshed.left_out.push((listed.host.clone(), address.clone()));
                    }
                    left_out.push((index, address));
                    continue;
                }
                let id = self.endpoints.list(&address);
                let known = candidates.iter().any(|(known, _)| *known == id);
                if known || candidates.len() == ADDRESSES_MAX {
                    self.endpoints.unlist(id);
                    refreshed.too_many |= !known && !std::mem::replace(&mut upstream.told_too_many, true);
                } else {
                    candidates.push((id, index));
                }
            }
        }
        upstream.left_out = left_out;
        // The new ones first, so that an address of both lists keeps its entry.
        let before = std::mem::replace(&mut upstream.candidates, candidates);
        let ids = |list: &[(EndpointId, u16)]| list.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        if ids(&before) != ids(&upstream.candidates) {
            upstream.version = upstream.version.wrapping_add(1);
        }
        for (endpoint, _) in before {
            self.endpoints.unlist(endpoint);
        }
        refreshed
    }

    /// The place of the address to be tried next, if there is any: see [`choose`].
    pub(super) fn choose(
        &self,
        upstream: &mut Upstream,
        balance: Balance,
        tried: impl Fn(usize) -> bool,
        client: Client,
        now: Time,
    ) -> Option<usize> {
        let candidate = |(place, (id, _)): (usize, &(EndpointId, u16))| {
            let endpoint = &self.endpoints[*id];
            let (tried, down) = (tried(place), endpoint.health.is_down(now));
            Candidate { address: &endpoint.address, tried, down, sessions: endpoint.sessions() }
        };
        let candidates = upstream.candidates.iter().enumerate().map(candidate);
        let place = choose(balance, candidates, upstream.cursor, client)?;
        upstream.cursor = place + 1;
        Some(place)
    }

    /// All candidates failed to connect: the names among the hosts are soon asked for again.
    pub(super) fn doubt(&mut self, upstream: &Upstream, now: Time) {
        upstream.names.iter().for_each(|name| self.names.doubt(*name, now));
    }

    /// Does this error say that a connection to this endpoint was established, and is gone again?
    pub(super) fn was_established(&self, id: EndpointId, error: &io::Error) -> bool {
        on_connect(error, self.address(id)) == ConnectError::WasEstablished
    }

    /// The address of an endpoint.
    pub(super) fn address(&self, id: EndpointId) -> &Address {
        &self.endpoints[id].address
    }

    /// All addresses of an upstream, for the log.
    pub(super) fn show(&self, upstream: &Upstream) -> String {
        let addresses: Vec<_> = upstream.candidates.iter().map(|(id, _)| self.address(*id).to_string()).collect();
        addresses.join(", ")
    }

    /// How the log names an endpoint of this upstream: as it was written, and its address if that was a name.
    pub(super) fn describe(&self, upstream: &Upstream, id: EndpointId) -> String {
        let address = self.address(id);
        let host = upstream.candidates.iter().find(|(candidate, _)| *candidate == id);
        match host.map(|(_, host)| &upstream.hosts[usize::from(*host)].host) {
            Some(host @ Host::Name { .. }) => format!("{host} ({address})"),
            Some(Host::Address(_)) | None => address.to_string(),
        }
    }
}

impl Upstream {
    /// The names among its hosts, each once.
    pub(super) fn names(&self) -> &[NameId] {
        &self.names
    }

    /// Is an address that leads back to the relay left out?
    pub(super) fn leaves_out(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// Addresses that are known.
    pub(super) fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Changes whenever the addresses do.
    pub(super) fn version(&self) -> u16 {
        self.version
    }

    /// The endpoint at this place.
    pub(super) fn endpoint(&self, place: usize) -> EndpointId {
        self.candidates[place].0
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;

    fn address(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], port))
    }

    fn answer(upstreams: &mut Upstreams, upstream: &mut Upstream, addresses: &[u8]) -> Refreshed {
        let name = upstream.names()[0];
        let addresses = addresses.iter().map(|last| address(*last, 0)).collect();
        upstreams.names.want(name, Time::START);
        upstreams.names.answered(name, Ok(addresses), Duration::ZERO, Time::START);
        upstreams.refresh(upstream, |_| true, |at| *at == address(9, 80))
    }

    fn shown(upstreams: &Upstreams, upstream: &Upstream) -> Vec<String> {
        (0..upstream.len()).map(|place| upstreams.describe(upstream, upstream.endpoint(place))).collect()
    }

    #[test]
    fn candidates_are_those_of_all_hosts_in_their_order_each_once() {
        let mut upstreams = Upstreams::default();
        let (mut new, spare) = (Vec::new(), address(7, 80));
        let mut upstream = upstreams.list(&[Host::name("db", 80), spare.into()], &mut new);
        assert_eq!((new.len(), shown(&upstreams, &upstream)), (1, vec!["10.0.0.7:80".to_owned()]));
        let version = upstream.version();
        let refreshed = answer(&mut upstreams, &mut upstream, &[1, 7, 9]);
        assert_eq!(shown(&upstreams, &upstream), ["db:80 (10.0.0.1:80)", "db:80 (10.0.0.7:80)"]);
        let left_out = vec![(Host::name("db", 80), address(9, 80).into())];
        assert_eq!(
            refreshed,
            Refreshed { left_out, ..Refreshed::default() },
            "one that is there twice is not one too many"
        );
        assert_ne!(upstream.version(), version);
        // What leads back is told when it turns up, and not again while it stays.
        for (addresses, told) in [(&[9, 1, 7][..], 0), (&[1], 0), (&[1, 9], 1)] {
            assert_eq!(answer(&mut upstreams, &mut upstream, addresses).left_out.len(), told, "{addresses:?}");
        }
        upstreams.unlist(upstream);
        assert_eq!((upstreams.endpoints.len(), upstreams.names.len()), (0, 0));
    }

    #[test]
    fn a_name_with_two_ports_is_one_question_and_is_forgotten_with_its_route() {
        let mut upstreams = Upstreams::default();
        let mut new = Vec::new();
        let mut upstream = upstreams.list(&[Host::name("db", 80), Host::name("db", 81)], &mut new);
        answer(&mut upstreams, &mut upstream, &[1]);
        assert_eq!((new.as_slice(), upstream.names().len()), (upstream.names(), 1));
        assert_eq!(shown(&upstreams, &upstream), ["db:80 (10.0.0.1:80)", "db:81 (10.0.0.1:81)"]);
        upstreams.unlist(upstream);
        assert_eq!((upstreams.endpoints.len(), upstreams.names.len()), (0, 0));
    }

    #[test]
    fn an_address_of_the_old_and_the_new_answer_keeps_its_health() {
        let mut upstreams = Upstreams::default();
        let mut upstream = upstreams.list(&[Host::name("db", 80)], &mut Vec::new());
        answer(&mut upstreams, &mut upstream, &[1, 2]);
        let down = upstream.endpoint(1);
        upstreams.endpoints[down].health.fails(1, Time::START, &mut fastrand::Rng::with_seed(1));
        let version = upstream.version();
        answer(&mut upstreams, &mut upstream, &[1, 2]);
        assert_eq!(upstream.version(), version, "nothing has changed");
        answer(&mut upstreams, &mut upstream, &[2, 3]);
        assert_eq!((upstream.endpoint(0), upstreams.endpoints.len()), (down, 2));
        assert!(upstreams.endpoints[down].health.is_down(Time::START));
        upstreams.unlist(upstream);
        assert_eq!(upstreams.endpoints.len(), 0);
    }

    #[test]
    fn the_first_256_addresses_are_used_and_that_is_said_once() {
        let mut upstreams = Upstreams::default();
        let spares: Vec<Host> = (0..200).map(|last| address(last, 81).into()).collect();
        let hosts: Vec<_> = [Host::name("many", 80)].into_iter().chain(spares).collect();
        let mut upstream = upstreams.list(&hosts, &mut Vec::new());
        let many: Vec<u8> = (20..220).collect();
        assert!(answer(&mut upstreams, &mut upstream, &many).too_many);
        assert_eq!((upstream.len(), upstreams.endpoints.len()), (256, 256));
        assert!(!answer(&mut upstreams, &mut upstream, &many[1..]).too_many);
        upstreams.unlist(upstream);
        assert_eq!(upstreams.endpoints.len(), 0);
    }

    #[test]
    fn too_many_addresses_of_a_single_name_are_said_once() {
        let mut upstreams = Upstreams::default();
        let mut upstream = upstreams.list(&[Host::name("many", 80)], &mut Vec::new());
        let name = upstream.names()[0];
        for (count, too_many) in [(256_u16, false), (257, true), (300, false)] {
            let addresses = (0..count).map(|n| SocketAddr::from(([10, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]], 0)));
            upstreams.names.want(name, Time::START);
            upstreams.names.answered(name, Ok(addresses.collect()), Duration::ZERO, Time::START);
            assert_eq!(upstreams.refresh(&mut upstream, |_| true, |_| false).too_many, too_many, "{count}");
            assert_eq!(upstream.len(), 256);
        }
        upstreams.unlist(upstream);
    }

    #[test]
    fn round_robin_begins_behind_the_last_choice() {
        let mut upstreams = Upstreams::default();
        let hosts = [1, 2, 3].map(|last| Host::from(address(last, 80)));
        let mut upstream = upstreams.list(&hosts, &mut Vec::new());
        let client = Client::from(SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut next = |tried: usize| {
            upstreams.choose(&mut upstream, Balance::RoundRobin, |place| place == tried, client, Time::START)
        };
        assert_eq!([next(9), next(9), next(2), next(9)], [Some(0), Some(1), Some(0), Some(1)]);
    }
}
