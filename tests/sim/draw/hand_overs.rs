//! Sockets that were inherited, and hand-overs to another process. From a source of their own, so that what else a seed does
//! is the same without.

use std::time::Duration;

use fastrand::Rng;

use super::{log, one_in, pause};
use crate::keyed::mix;
use crate::plan::{HandOver, Plan, inet, place_of};

/// See the module.
pub(super) fn hand_overs(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x6861_6e64_6f76_6572));
    if plan.sessions.len() > 500 {
        return;
    }
    if one_in(rng, 8) {
        let places = plan.config.routes.iter().filter_map(|route| place_of(inet(&route.from)));
        plan.lent = places.collect();
        if one_in(rng, 4) {
            plan.lent.retain(|_| rng.bool());
        } else {
            plan.head_start = if one_in(rng, 2) { Duration::ZERO } else { pause(rng) };
        }
    }
    if one_in(rng, 12) {
        let mut at = Duration::ZERO;
        for _ in 0..rng.u8(1..=3) {
            // At times in one turn with a stop, or during its delay.
            at = match plan.stops.first() {
                Some(stop) if one_in(rng, 2) => *stop + Duration::from_micros(log(rng, 1, 300_000) as u64 - 1),
                _ => at + pause(rng),
            };
            let serves_after = one_in(rng, 2).then(|| Duration::from_micros(log(rng, 1, 1_000_000) as u64));
            plan.hand_overs.push(HandOver { at, serves_after });
        }
        if one_in(rng, 4) {
            // A stop while the other process begins.
            plan.stops.push(plan.hand_overs[0].at + Duration::from_micros(log(rng, 1, 1_000_000) as u64));
        }
    }
}
