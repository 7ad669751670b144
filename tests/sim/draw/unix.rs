//! Unix sockets, as listeners and as upstreams. From a source of their own, so that what else a seed does is the same
//! without.

use std::time::Duration;

use fastrand::Rng;
use tproxy::{Config, Host};

use super::{log, one_in};
use crate::keyed::mix;
use crate::plan::{Dial, Mood, Plan, inet, place, unix, upstream};

/// In one of three seeds, some addresses are those of Unix sockets: the same in all routes and reloads.
pub(super) fn unix_sockets(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x0075_6e69_7821));
    let configs = || plan.reloads.iter().map(|reload| &reload.config).chain([&plan.config]);
    let has_names = |config: &Config| {
        let routes = config.routes.iter();
        routes.clone().any(|route| route.to.iter().any(|host| matches!(host, Host::Name { .. })))
            || routes.clone().any(|route| !route.source.is_empty() || route.accept_proxy || route.send_proxy.is_some())
    };
    // The addresses behind names, those to connect from and those in headers are of another kind.
    if !one_in(rng, 3) || configs().any(has_names) {
        return;
    }
    let places: Vec<_> = (0..16).filter(|_| one_in(rng, 2)).map(place).collect();
    let upstreams: Vec<_> = (1..=8).filter(|_| one_in(rng, 2)).map(upstream).collect();
    plan.laws.passes = if one_in(rng, 2) { 64 } else { 0 };
    if one_in(rng, 4) {
        // All backlogs are full for a while, and many wait.
        let until = Duration::from_millis(log(rng, 1, 4_000) as u64);
        let full = |upstream| Mood { upstream, from: Duration::ZERO, until, dial: Dial::Silence };
        plan.moods.splice(..0, (1..=8).map(upstream).filter(|one| upstreams.contains(one)).map(full));
    }
    for config in plan.reloads.iter_mut().map(|reload| &mut reload.config).chain([&mut plan.config]) {
        for route in &mut config.routes {
            if places.contains(&inet(&route.from)) {
                route.from = unix(inet(&route.from));
            }
            for host in &mut route.to {
                if let Host::Address(address) = host
                    && (upstreams.contains(&inet(address)) || places.contains(&inet(address)))
                {
                    *host = unix(inet(address)).into();
                }
            }
        }
    }
}
