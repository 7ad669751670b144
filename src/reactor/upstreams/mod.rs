//! The endpoints of all upstreams, each once, counted.

use std::num::NonZeroU32;

use slab::Slab;

use crate::net::Address;

/// Every address of an upstream. An entry goes when no route lists it and no session names it.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    table: Slab<Endpoint>,
}

/// An entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndpointId(NonZeroU32);

#[derive(Debug)]
struct Endpoint {
    address: Address,
    /// Routes that list it, once for each place.
    listed: u32,
    /// Sessions that are connected to it, or tried it last.
    sessions: u32,
}

impl EndpointId {
    fn of(key: usize) -> Self {
        // A table of more than 4 billion addresses would not fit anywhere.
        Self(u32::try_from(key).ok().and_then(|key| NonZeroU32::MIN.checked_add(key)).unwrap_or(NonZeroU32::MAX))
    }

    fn key(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Endpoints {
    /// A route lists this address.
    pub(super) fn list(&mut self, address: &Address) -> EndpointId {
        let known = self.table.iter().find(|(_, endpoint)| endpoint.address == *address).map(|(key, _)| key);
        let new = || Endpoint { address: address.clone(), listed: 0, sessions: 0 };
        let key = known.unwrap_or_else(|| self.table.insert(new()));
        self.table[key].listed += 1;
        EndpointId::of(key)
    }

    /// A route does not list it any more.
    pub(super) fn unlist(&mut self, id: EndpointId) {
        self.table[id.key()].listed -= 1;
        self.free_unused(id);
    }

    /// The address of an endpoint.
    pub(super) fn address(&self, id: EndpointId) -> &Address {
        &self.table[id.key()].address
    }

    /// A session names this endpoint now, and no longer the one it named before.
    pub(super) fn switch(&mut self, named: &mut Option<EndpointId>, to: EndpointId) {
        self.table[to.key()].sessions += 1;
        if let Some(before) = named.replace(to) {
            self.release(before);
        }
    }

    /// A session does not name it any more.
    pub(super) fn release(&mut self, id: EndpointId) {
        self.table[id.key()].sessions -= 1;
        self.free_unused(id);
    }

    fn free_unused(&mut self, id: EndpointId) {
        let Endpoint { listed, sessions, .. } = self.table[id.key()];
        if listed == 0 && sessions == 0 {
            self.table.remove(id.key());
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Sessions that name an endpoint, all together.
    pub(super) fn sessions(&self) -> usize {
        self.table.iter().map(|(_, endpoint)| endpoint.sessions as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn address(port: u16) -> Address {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    #[test]
    fn an_address_is_one_entry_however_many_routes_list_it() {
        let mut endpoints = Endpoints::default();
        let (first, second, again) = (address(1), address(2), address(1));
        let ids = [&first, &second, &again].map(|address| endpoints.list(address));
        assert_eq!((ids[0] == ids[2], ids[0] == ids[1]), (true, false));
        assert_eq!((endpoints.address(ids[0]), endpoints.address(ids[1])), (&first, &second));
        assert_eq!(size_of::<Option<EndpointId>>(), 4);
    }

    #[test]
    fn sessions_are_counted() {
        let mut endpoints = Endpoints::default();
        let (one, two) = (endpoints.list(&address(1)), endpoints.list(&address(2)));
        let (mut first, mut second) = (None, None);
        endpoints.switch(&mut first, one);
        endpoints.switch(&mut second, one);
        endpoints.switch(&mut second, two);
        assert_eq!((endpoints.sessions(), first, second), (2, Some(one), Some(two)));
        endpoints.release(one);
        endpoints.release(two);
        assert_eq!((endpoints.sessions(), endpoints.address(one)), (0, &address(1)));
    }

    #[test]
    fn an_entry_goes_when_no_route_lists_it_and_no_session_names_it() {
        let mut endpoints = Endpoints::default();
        let ids = [1, 1, 2].map(|port| endpoints.list(&address(port)));
        let mut named = None;
        endpoints.switch(&mut named, ids[0]);
        endpoints.unlist(ids[0]);
        endpoints.unlist(ids[2]);
        assert_eq!(endpoints.len(), 1);
        endpoints.release(ids[0]);
        assert_eq!((endpoints.len(), named.take()), (1, Some(ids[0])));
        endpoints.switch(&mut named, ids[0]);
        endpoints.unlist(ids[1]);
        assert_eq!((endpoints.len(), endpoints.address(ids[1])), (1, &address(1)));
    }
}
