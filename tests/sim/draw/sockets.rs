//! What a route asks of its sockets and of the log, in one of three seeds. From sources of their own, so that what else a
//! seed does is the same without.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use fastrand::Rng;
use tproxy::{Config, Route};

use super::{log, one_in, pause};
use crate::keyed::mix;
use crate::plan::{Act, Plan, Says, SessionPlan};
use crate::shadow::literal;
use crate::sources::{Lack, source};

/// A crowd is about something else.
const CROWD: usize = 500;

/// See the module.
pub(super) fn sockets(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x736f_636b_6574_7321));
    if plan.sessions.len() > CROWD || !one_in(rng, 3) {
        return;
    }
    for route in &mut plan.config.routes {
        settings(rng, route);
    }
    families(rng, plan);
    if plan.config.routes.iter().all(|route| route.source.is_empty()) {
        return;
    }
    if one_in(rng, 2) {
        for _ in 0..rng.u8(1..=3) {
            let from = if one_in(rng, 2) { Duration::ZERO } else { pause(rng) };
            let until = from + Duration::from_millis(log(rng, 1, 20_000) as u64);
            plan.lacks.push(Lack { source: source(rng.u8(1..=3)), from, until });
        }
    }
    if one_in(rng, 3) {
        plan.laws.ports = rng.usize(0..=2);
    }
    if plan.laws.ports != usize::MAX || !plan.lacks.is_empty() {
        // Who waits for a port, or for an address, tries ten times a second: not for a day.
        for route in &mut plan.config.routes {
            route.connect_timeout = route.connect_timeout.min(Duration::from_secs(5));
        }
    }
    if one_in(rng, 3) {
        silence(rng, &mut plan.sessions);
    }
}

/// Some of the reloads change it. What the next reload has is as before.
pub(super) fn reloads(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x0073_6f63_6b65_7473));
    for reload in &mut plan.reloads {
        if one_in(rng, 3) {
            let which = rng.usize(..reload.config.routes.len());
            settings(rng, &mut reload.config.routes[which]);
        }
        reload.config.routes.iter_mut().for_each(mend);
    }
    let sourced = |config: &Config| config.routes.iter().any(|route| !route.source.is_empty());
    if plan.reloads.iter().any(|reload| sourced(&reload.config)) && one_in(rng, 2) {
        let from = pause(rng);
        plan.lacks.push(Lack { source: source(rng.u8(1..=3)), from, until: from + pause(rng) });
        for route in plan.reloads.iter_mut().flat_map(|reload| &mut reload.config.routes) {
            if route.connect_timeout > Duration::from_secs(5) {
                route.connect_timeout = Duration::from_secs(5);
            }
        }
    }
}

/// Some names have addresses of IPv6 too, and some routes come from there only.
fn families(rng: &mut Rng, plan: &mut Plan) {
    for answer in plan.names.iter_mut().flat_map(|name| &mut name.answers) {
        if let Says::Upstreams(numbers) = &mut answer.says
            && one_in(rng, 2)
        {
            numbers.insert(rng.usize(..=numbers.len()), rng.u8(200..=202));
        }
    }
    for route in &mut plan.config.routes {
        if one_in(rng, 4) && !route.source.is_empty() && route.to.iter().all(|host| literal(host).is_none()) {
            route.source = vec![other()];
        }
    }
}

/// What is written as an address can be connected to.
fn mend(route: &mut Route) {
    let is_literal = route.to.iter().any(|host| literal(host).is_some());
    if is_literal && !route.source.is_empty() && route.source.iter().all(IpAddr::is_ipv6) {
        route.source.push(source(1));
    }
}

fn other() -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into()
}

fn settings(rng: &mut Rng, route: &mut Route) {
    if one_in(rng, 3) {
        route.backlog = rng.u16(1..=3);
    }
    route.keepalive = match rng.u8(..4) {
        0 => None,
        1 => Some(Duration::from_secs(rng.u64(1..=4))),
        2 => Some(Duration::from_secs(rng.u64(5..=100))),
        _ => route.keepalive,
    };
    route.tcp_user_timeout = one_in(rng, 3).then(|| Duration::from_millis(log(rng, 1, 60_000) as u64));
    if one_in(rng, 2) {
        route.source = sources(rng);
    }
    (route.log_empty, route.log_open) = (one_in(rng, 2), one_in(rng, 2));
}

/// Most upstreams are of IPv4, so there is an address of that family among them.
fn sources(rng: &mut Rng) -> Vec<IpAddr> {
    let mut list: Vec<_> = (1..=rng.u8(1..=3)).map(source).collect();
    if one_in(rng, 2) {
        list.insert(rng.usize(..=list.len()), other());
    }
    rng.shuffle(&mut list);
    list
}

/// Some clients and upstreams say nothing but that they go.
fn silence(rng: &mut Rng, sessions: &mut [SessionPlan]) {
    for session in sessions.iter_mut().filter(|_| rng.bool()) {
        let speaks = |act: &Act| matches!(act, Act::Send(_) | Act::Urgent);
        session.client.acts.retain(|act| !speaks(act) && !matches!(act, Act::AwaitBytes(_)));
        session.upstream.acts = vec![Act::AwaitEnd, Act::Fin];
    }
}
