//! Limits of who may come and for how long, and drains that begin later or end the idle first. From sources of their own, so
//! that what else a seed does is the same without.

use std::time::Duration;

use fastrand::Rng;
use tproxy::{AtLimit, Networks, Route};

use super::{log, one_in};
use crate::keyed::mix;
use crate::plan::{Act, Plan, Reading};

/// In one of four seeds the routes have limits, and in one of four the drain has a delay or an idle time.
pub(super) fn clients(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x636c_6965_6e74));
    if one_in(rng, 4) {
        plan.addresses = (rng.usize(1..=4), one_in(rng, 2));
        for route in &mut plan.config.routes {
            limits(rng, route);
        }
    }
    if one_in(rng, 4) {
        let mut time = |most: usize| Duration::from_millis(log(rng, 1, most) as u64);
        let (delay, idle) = (time(5_000), time(5_000));
        if !one_in(rng, 3) {
            plan.config.drain_delay = delay;
        }
        plan.config.drain_idle_timeout = one_in(rng, 2).then_some(idle);
    }
}

/// Some limits of a route.
pub(super) fn limits(rng: &mut Rng, route: &mut Route) {
    if one_in(rng, 2) {
        route.max_sessions_per_ip = Some(rng.usize(1..=3));
    }
    if one_in(rng, 2) {
        route.at_limit = AtLimit::Reset;
        route.max_sessions = route.max_sessions.or_else(|| one_in(rng, 2).then(|| rng.usize(1..=3)));
    }
    if one_in(rng, 2) {
        route.max_lifetime = Some(Duration::from_millis(log(rng, 1, 20_000) as u64));
    }
    if one_in(rng, 3) {
        (route.allow, route.deny) = (networks(rng), networks(rng));
    }
}

/// Up to three of those in which there are clients.
fn networks(rng: &mut Rng) -> Networks {
    const KNOWN: [&str; 9] = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/30",
        "10.0.0.2/31",
        "10.0.0.0",
        "10.0.0.2",
        "::/0",
        "2001:db8::/32",
        "2001:db8:0:1::/64",
    ];
    Networks::all((0..rng.u8(..=3)).map(|_| KNOWN[rng.usize(..KNOWN.len())].parse().unwrap()))
}

/// In one of sixteen seeds, both ends of a session are reset at one moment.
pub(super) fn both_reset(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x626f_7468_2121));
    if !one_in(rng, 16) {
        return;
    }
    let last = plan.sessions.len() - 1;
    let session = &mut plan.sessions[last];
    let at = session.start + Duration::from_micros(log(rng, 1, 1_000_000) as u64);
    session.client.acts = vec![Act::Send(rng.u32(1..=100)), Act::At(at), Act::Reset];
    session.upstream.acts = vec![Act::AwaitBytes(1), Act::At(at), Act::Reset];
    (session.client.reading, session.upstream.reading) = (Reading::Prompt, Reading::Prompt);
}

/// In one of sixteen seeds, a client goes on with its upload after its upstream has answered and hung up.
pub(super) fn endless_upload(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x0075_706c_6f61_6421));
    if !one_in(rng, 16) {
        return;
    }
    plan.config.routes[0].half_close_timeout = Some(Duration::from_millis(log(rng, 1, 2_000) as u64));
    let last = plan.sessions.len() - 1;
    let session = &mut plan.sessions[last];
    let step = Duration::from_millis(log(rng, 1, 1_000) as u64);
    session.client.acts = (0..rng.usize(4..=20)).flat_map(|_| [Act::Send(3), Act::Pause(step)]).collect();
    session.upstream.acts = vec![Act::AwaitBytes(1), Act::Send(rng.u32(1..=100)), Act::Close];
}
