//! `--check`: does a route lead back to a listener of the same relay?

use tproxy::net::mio::{key, leads_to_itself};

use super::address::{Listen, Target};
use super::complaint::Complaint;
use super::routes::Draft;

/// The upstreams that are listeners of ours. Names are not looked at: what they lead to may be another address at start.
pub(super) fn loops(drafts: &[Draft]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (to, place) in drafts.iter().flat_map(|draft| &draft.to) {
        let listens = |draft: &&Draft| match (&draft.from, to) {
            (Listen::Address(from), Target::Address(to)) => leads_to_itself(*from, *to),
            // Its file may not be there yet.
            (Listen::Unix(from), Target::Unix(to)) => from == to || key(from) == key(to),
            (Listen::Address(_) | Listen::Name(..) | Listen::Unix(_), _) => false,
        };
        if let Some(draft) = drafts.iter().find(listens) {
            let text = format!("leads to {}, where this relay itself listens; choose another", draft.written);
            complaints.push(Complaint { key: "to", place: *place, text });
        }
    }
    complaints
}
