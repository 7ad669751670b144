//! Crowds: rare, since they take long to run. Each from a source of its own.

use std::time::Duration;

use fastrand::Rng;
use tproxy::net::LISTEN_BACKLOG;
use tproxy::{AtLimit, Networks};

use super::one_in;
use crate::faults::Faults;
use crate::hello::Hello;
use crate::keyed::mix;
use crate::plan::{Act, Noise, PeerPlan, Plan, Reading, SessionPlan};

/// In one of 2,048 seeds, more sessions than alarms may go off in a turn, all silent, whose time is up at one moment.
pub(super) fn silent(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x6372_6f77_6421));
    if rng.u16(..2048) != 0 {
        return;
    }
    let count = rng.usize(1100..=1400);
    let peer = PeerPlan { acts: Vec::new(), reading: Reading::Prompt, caps: [64; 4] };
    let session =
        SessionPlan { place: 0, start: Duration::ZERO, hello: Hello::default(), client: peer.clone(), upstream: peer };
    plan.sessions = vec![session; count];
    (plan.limit, plan.laws.backlog, plan.laws.descriptors) = (count, count, 3 * count);
    plan.laws.delay = (0, 1000);
    (plan.dials, plan.crash, plan.stops, plan.stop_now) = (Vec::new(), None, Vec::new(), None);
    plan.stop_calls.clear();
    plan.reloads.clear();
    (plan.faults, plan.noise) = (Faults::NONE, Noise::NONE);
    plan.config.routes[0].idle_timeout = Some(Duration::from_millis(rng.u64(1000..=4000)));
    plan.config.routes[0].connect_timeout = Duration::from_secs(5);
}

/// In three of 1,024 seeds, the relay is asked to stop while more clients come to one listener than its queue may hold, and
/// faster than a turn lets them in. Most go at once, so that there is room; or they are denied.
pub(super) fn queued(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x0071_7565_7565_6421));
    let kind = rng.u16(..1024);
    if kind > 2 {
        return;
    }
    let backlog = usize::from(LISTEN_BACKLOG);
    let peer = |acts| PeerPlan { acts, reading: Reading::Prompt, caps: [64; 4] };
    let (client, upstream) = (peer(vec![Act::Reset]), peer(vec![Act::Fin]));
    let place = rng.usize(..plan.config.routes.len());
    let come = |at: u64| SessionPlan {
        place,
        start: Duration::from_nanos(at),
        hello: Hello::default(),
        client: client.clone(),
        upstream: upstream.clone(),
    };
    plan.sessions = (0..backlog + 500).map(|_| come(rng.u64(..50_000))).collect();
    (plan.limit, plan.laws.backlog, plan.laws.descriptors, plan.laws.ports) = (64, backlog, 1024, usize::MAX);
    plan.laws.delay = (0, 1000);
    (plan.dials, plan.crash, plan.stop_now) = (Vec::new(), None, None);
    plan.reloads.clear();
    let at_limit = if one_in(rng, 4) { AtLimit::Reset } else { AtLimit::Wait };
    // Who is reset counts among those that are let in.
    let deny: Networks = if kind > 0 { "0.0.0.0/0,::/0".parse().unwrap() } else { Networks::default() };
    for route in &mut plan.config.routes {
        (route.max_sessions, route.max_sessions_per_ip, route.at_limit) = (None, None, at_limit);
        (route.allow, route.deny) = (Networks::default(), deny.clone());
        route.backlog = LISTEN_BACKLOG;
    }
    (plan.faults, plan.noise, plan.config.drain_delay) = (Faults::NONE, Noise::NONE, Duration::ZERO);
    plan.config.drain_timeout = Some(Duration::from_secs(20)).filter(|_| rng.bool());
    let at = Duration::from_nanos(rng.u64(..5_000));
    (plan.stops, plan.stop_calls) = if rng.bool() { (vec![at], Vec::new()) } else { (Vec::new(), vec![at]) };
}
