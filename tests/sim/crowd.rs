//! More sessions than any seed draws.

use std::time::Duration;

use crate::drive::run;
use crate::plan::{Act, PeerPlan, Reading, SessionPlan};
use crate::scenarios;

#[test]
fn the_upstreams_of_a_crowd_are_kept_alive_a_few_at_a_time() {
    const CROWD: usize = 600;
    let mut plan = scenarios::quiet();
    (plan.limit, plan.laws.descriptors, plan.laws.backlog) = (CROWD, 2 * CROWD, CROWD);
    let peer = |acts| PeerPlan { acts, reading: Reading::Prompt, caps: [64; 4] };
    let client = peer(vec![Act::Pause(Duration::from_secs(10)), Act::Fin]);
    let upstream = peer(vec![Act::AwaitEnd, Act::Fin]);
    plan.sessions = vec![SessionPlan { start: Duration::ZERO, client, upstream }; CROWD];
    let outcome = run(&plan);
    // Its trace would be a book.
    assert_eq!((outcome.failure, outcome.sessions), (None, CROWD));
}
