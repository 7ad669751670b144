//! Does an upstream lead back to a listener of ours?
//!
//! A turn cannot compare a thousand listeners with all addresses of a thousand routes: they are found by their key.

use std::collections::HashMap;

use crate::net::{Address, AddressKey, Net};

/// Where the relay listens, by key.
#[derive(Debug, Default)]
pub(super) struct Own(HashMap<AddressKey, Vec<Address>>);

impl Own {
    /// There is a listener that is bound to this address, with this key.
    pub(super) fn add(&mut self, key: AddressKey, bound: Address) {
        self.0.entry(key).or_default().push(bound);
    }

    /// The listener at which a connection to this upstream would end.
    pub(super) fn find(&self, upstream: &Address, net: &mut impl Net) -> Option<&Address> {
        let same = self.0.get(&net.key(upstream))?;
        same.iter().find(|own| match (own.inet(), upstream.inet()) {
            (Some(own), Some(upstream)) => net.leads_back(own, upstream),
            // Of a Unix socket the key says it all.
            _ => true,
        })
    }
}
