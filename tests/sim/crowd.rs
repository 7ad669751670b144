//! More sessions than any seed draws, and more bytes.

use std::time::Duration;

use tproxy::{ResetGrace, Splice};

use crate::drive::{run, run_counted};
use crate::faults::Call;
use crate::hello::Hello;
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
    plan.sessions =
        vec![SessionPlan { place: 0, start: Duration::ZERO, hello: Hello::default(), client, upstream }; CROWD];
    let outcome = run(&plan);
    // Its trace would be a book.
    assert_eq!((outcome.failure, outcome.sessions), (None, CROWD));
}

/// Their clients take nothing, so each is waited for as long as the grace is: after 20 ms, doubling to 160 ms.
#[test]
fn the_endings_of_a_crowd_are_asked_ever_less_often() {
    const CROWD: usize = 600;
    let mut plan = scenarios::quiet();
    (plan.limit, plan.laws.descriptors, plan.laws.backlog) = (CROWD, 2 * CROWD, CROWD);
    plan.config.splice = Splice::Off;
    plan.config.routes[0].reset_grace = ResetGrace::Fixed(Duration::from_secs(10));
    let peer = |acts, reading| PeerPlan { acts, reading, caps: [64; 4] };
    let client = peer(vec![Act::Send(1)], Reading::Never);
    let upstream = peer(vec![Act::AwaitBytes(1), Act::Send(220), Act::Reset], Reading::Prompt);
    plan.sessions =
        vec![SessionPlan { place: 0, start: Duration::ZERO, hello: Hello::default(), client, upstream }; CROWD];
    let outcome = run_counted(&plan);
    assert_eq!((outcome.failure, outcome.sessions), (None, CROWD));
    let asked = outcome.calls.iter().filter(|call| **call == Call::Unacked).count() / CROWD;
    // 3 in the first 140 ms, 61 in the rest, and when they begin and end. Every 20 ms would be 500.
    assert!((60..70).contains(&asked), "{asked} times for each session");
}

#[test]
fn bulk_lets_go_after_its_slice_however_much_there_is() {
    const BYTES: u32 = 8 << 20;
    for splice in [Splice::Off, Splice::On] {
        let mut plan = scenarios::quiet();
        plan.config.splice = splice;
        plan.config.buffer_size = 64 << 10;
        plan.laws.pipe_size = 1 << 20;
        (plan.laws.delay, plan.laws.at_once) = ((0, 0), true);
        let peer = |acts| PeerPlan { acts, reading: Reading::Prompt, caps: [16 << 20; 4] };
        let (client, upstream) =
            (peer(vec![Act::Fin]), peer(vec![Act::Send(BYTES), Act::Pause(Duration::from_secs(1)), Act::Fin]));
        plan.sessions =
            vec![SessionPlan { place: 0, start: Duration::ZERO, hello: Hello::default(), client, upstream }];
        let outcome = run(&plan);
        assert_eq!((outcome.failure, outcome.bytes), (None, u64::from(BYTES)));
        // There was more than one slice of it at a time.
        assert!(outcome.turns < 100, "{} turns", outcome.turns);
    }
}
