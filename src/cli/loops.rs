//! `--check`: does a route lead back to a listener of the same relay?

use std::collections::HashMap;

use tproxy::net::mio::{key, leads_to_itself};
use tproxy::net::{Address, AddressKey};

use super::address::{Listen, Target};
use super::complaint::Complaint;
use super::routes::Draft;

/// The upstreams that are listeners of ours. Names are not looked at: what they lead to may be another address at start.
pub(super) fn loops(drafts: &[Draft]) -> Vec<Complaint> {
    // By key, one look at each file: as at a reload.
    let mut listening: HashMap<AddressKey, Vec<&Draft>> = HashMap::new();
    for draft in drafts {
        let from = match &draft.from {
            Listen::Address(from) => Address::from(*from),
            Listen::Unix(from) => from.clone(),
            Listen::Name(..) | Listen::Inherited(_) => continue,
        };
        listening.entry(key(&from)).or_default().push(draft);
    }
    let mut complaints = Vec::new();
    for (to, place) in drafts.iter().flat_map(|draft| &draft.to) {
        let address = match to {
            Target::Address(to) => Address::from(*to),
            Target::Unix(to) => to.clone(),
            Target::Name(..) | Target::Echo => continue,
        };
        let leads_there = |draft: &&&Draft| match (&draft.from, to) {
            (Listen::Address(from), Target::Address(to)) => leads_to_itself(*from, *to),
            // Of a Unix socket the key says it all.
            _ => true,
        };
        let same = listening.get(&key(&address)).map_or(&[][..], |same| same);
        if let Some(draft) = same.iter().find(leads_there) {
            let text = format!("leads to {}, where this relay itself listens; choose another", draft.written);
            complaints.push(Complaint { key: "to", place: *place, text });
        }
    }
    complaints
}
