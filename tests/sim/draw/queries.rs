//! Looks inside. From a source of their own, so that what else a seed does is the same without.

use fastrand::Rng;

use super::{log, one_in, pause};
use crate::keyed::mix;
use crate::plan::{Ask, Plan};

/// In one of six seeds, somebody looks inside a few times, at a page of any size.
pub(super) fn queries(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x7175_6572_7921));
    if !one_in(rng, 6) || plan.sessions.len() > 1000 {
        return;
    }
    for _ in 0..rng.u8(1..=6) {
        let from = if one_in(rng, 2) { 0 } else { rng.u32(0..=4) };
        let rows = if one_in(rng, 2) { 512 } else { log(rng, 1, 8) - 1 };
        let (at, routes) = (pause(rng), one_in(rng, 3));
        plan.queries.push(Ask { at, from: if routes { 0 } else { from }, rows, routes });
    }
}
