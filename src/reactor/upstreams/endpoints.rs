//! The endpoints of all upstreams, each address once, counted.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

use slab::Slab;

use super::health::Health;
use crate::net::Address;

/// Every address that a route lists or a session names. An entry goes when neither does.
#[derive(Debug, Default)]
pub(in crate::reactor) struct Endpoints {
    table: Slab<Endpoint>,
    by_address: HashMap<Address, EndpointId>,
}

/// An entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::reactor) struct EndpointId(NonZeroU32);

/// One address of an upstream.
#[derive(Debug)]
pub(in crate::reactor) struct Endpoint {
    pub(in crate::reactor) address: Address,
    pub(in crate::reactor) health: Health,
    /// Upstreams that list it.
    listed: u32,
    /// Sessions that are connected to it, or tried it last.
    sessions: u32,
}

impl Endpoint {
    /// Sessions that are connected to it, or tried it last.
    pub(super) fn sessions(&self) -> u32 {
        self.sessions
    }
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
    /// An upstream lists this address.
    pub(super) fn list(&mut self, address: &Address) -> EndpointId {
        let id = match self.by_address.get(address) {
            Some(id) => *id,
            None => {
                let address = address.clone();
                let endpoint = Endpoint { address: address.clone(), health: Health::default(), listed: 0, sessions: 0 };
                let id = EndpointId::of(self.table.insert(endpoint));
                self.by_address.insert(address, id);
                id
            }
        };
        self[id].listed += 1;
        id
    }

    /// An upstream does not list it any more.
    pub(super) fn unlist(&mut self, id: EndpointId) {
        self[id].listed -= 1;
        self.free(id);
    }

    /// A session names this endpoint now, and no longer the one it named before.
    pub(in crate::reactor) fn switch(&mut self, named: &mut Option<EndpointId>, to: EndpointId) {
        self[to].sessions += 1;
        if let Some(before) = named.replace(to) {
            self.release(before);
        }
    }

    /// A session does not name it any more.
    pub(in crate::reactor) fn release(&mut self, id: EndpointId) {
        self[id].sessions -= 1;
        self.free(id);
    }

    /// Sessions that name an endpoint, all together.
    pub(in crate::reactor) fn sessions(&self) -> usize {
        self.table.iter().map(|(_, endpoint)| endpoint.sessions as usize).sum()
    }

    /// Entries of the table.
    pub(in crate::reactor) fn len(&self) -> usize {
        self.table.len()
    }

    fn free(&mut self, id: EndpointId) {
        let Endpoint { listed, sessions, .. } = self[id];
        if listed == 0 && sessions == 0 {
            let gone = self.table.remove(id.key());
            self.by_address.remove(&gone.address);
        }
    }
}

impl Index<EndpointId> for Endpoints {
    type Output = Endpoint;

    fn index(&self, id: EndpointId) -> &Endpoint {
        &self.table[id.key()]
    }
}

impl IndexMut<EndpointId> for Endpoints {
    fn index_mut(&mut self, id: EndpointId) -> &mut Endpoint {
        &mut self.table[id.key()]
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
    fn an_address_is_one_entry_however_many_upstreams_list_it() {
        let mut endpoints = Endpoints::default();
        let ids = [1, 2, 1].map(|port| endpoints.list(&address(port)));
        assert_eq!((ids[0] == ids[2], ids[0] == ids[1], endpoints.len()), (true, false, 2));
        assert_eq!((&endpoints[ids[0]].address, &endpoints[ids[1]].address), (&address(1), &address(2)));
        assert_eq!(size_of::<Option<EndpointId>>(), 4);
    }

    #[test]
    fn sessions_are_counted() {
        let mut endpoints = Endpoints::default();
        let (one, two) = (endpoints.list(&address(1)), endpoints.list(&address(2)));
        let (mut first, mut second) = (None, None);
        endpoints.switch(&mut first, one);
        endpoints.switch(&mut second, one);
        assert_eq!((endpoints[one].sessions(), endpoints.sessions()), (2, 2));
        endpoints.switch(&mut second, two);
        assert_eq!((endpoints.sessions(), first, second), (2, Some(one), Some(two)));
        endpoints.release(one);
        endpoints.release(two);
        assert_eq!((endpoints.sessions(), &endpoints[one].address), (0, &address(1)));
    }

    #[test]
    fn an_entry_goes_when_nobody_lists_it_and_no_session_names_it() {
        let mut endpoints = Endpoints::default();
        let one = endpoints.list(&address(1));
        assert_eq!(endpoints.list(&address(1)), one);
        let mut session = None;
        endpoints.switch(&mut session, one);
        endpoints.switch(&mut session, one);
        endpoints.unlist(one);
        endpoints.unlist(one);
        assert_eq!(&endpoints[one].address, &address(1));
        endpoints.release(one);
        assert_eq!(endpoints.len(), 0);
        let again = endpoints.list(&address(1));
        endpoints.unlist(again);
        assert_eq!((endpoints.len(), endpoints.by_address.len()), (0, 0));
    }
}
