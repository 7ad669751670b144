//! Reloads: in one of four seeds the relay is given other routes, good ones and bad ones. From a source of its own.

use std::time::Duration;

use fastrand::Rng;
use tproxy::{Config, Route};

use super::clients::limits;
use super::{log, one_in, pause};
use crate::keyed::mix;
use crate::plan::{Plan, Reload, inet, place, place_of, upstream};
use crate::shadow::literal;

/// Clients connect to these places.
const PLACES: usize = 5;

/// Here somebody else listens.
const TAKEN: usize = 9;

/// See the module.
pub(super) fn reloads(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x7265_6c6f_6164));
    plan.config.name_routes = one_in(rng, 8);
    if one_in(rng, 4) {
        limit(rng, &mut plan.config);
    }
    if !one_in(rng, 4) {
        return;
    }
    plan.taken = Some(TAKEN);
    // Some come to places where there is a listener only later, or never.
    if one_in(rng, 2) {
        plan.sessions.iter_mut().for_each(|session| session.place = rng.usize(..PLACES));
    }
    let mut now = plan.config.clone();
    let mut at = Duration::from_micros(1);
    for _ in 0..if one_in(rng, 8) { rng.usize(5..=20) } else { rng.usize(1..=4) } {
        // At times two in one turn, or with the first client, or with a stop.
        at = match rng.u8(..8) {
            0 => at,
            1 => plan.stops.first().copied().unwrap_or(at).max(at),
            2 => plan.sessions[rng.usize(..plan.sessions.len())].start + Duration::from_nanos(rng.u64(1_000..=100_000)),
            _ => at + pause(rng),
        };
        let (config, is_bad) = change(rng, &now, &plan.config);
        // What fails changes nothing, so the next one is not made from it.
        let fails = is_bad || config.routes.iter().any(|route| fails(route, &config));
        if !fails {
            now = config.clone();
        }
        plan.reloads.push(Reload { at, config, is_bad });
    }
    // Those of one moment come in their order.
    plan.reloads.sort_by_key(|reload| reload.at);
}

/// Other routes, and are they out of range?
fn change(rng: &mut Rng, now: &Config, first: &Config) -> (Config, bool) {
    let mut config = now.clone();
    let count = config.routes.len();
    let which = rng.usize(..count);
    let free = (0..PLACES).find(|number| config.routes.iter().all(|route| inet(&route.from) != place(*number)));
    let mut is_bad = false;
    match rng.u8(..16) {
        // The same file again.
        0 => {}
        1 | 2 => add(rng, &mut config, free.unwrap_or(TAKEN)),
        3 | 4 if count > 1 => drop(config.routes.remove(which)),
        // A listener goes and another comes.
        5 | 6 => {
            add(rng, &mut config, free.unwrap_or(TAKEN));
            config.routes.remove(which);
        }
        // Two routes swap their listeners.
        7 | 8 if count > 1 => {
            let other = (which + rng.usize(1..count)) % count;
            let from = config.routes[which].from.clone();
            config.routes[which].from = std::mem::replace(&mut config.routes[other].from, from);
        }
        9 => limit(rng, &mut config),
        // Not all of it can be bound.
        10 => {
            if let Some(free) = free {
                add(rng, &mut config, free);
            }
            add(rng, &mut config, TAKEN);
            config.routes.remove(which);
        }
        11 => {
            is_bad = true;
            config.routes[which].connect_timeout = Duration::ZERO;
            add(rng, &mut config, free.unwrap_or(TAKEN));
        }
        // An upstream is the relay itself, or will be.
        12 => {
            add(rng, &mut config, free.unwrap_or(TAKEN));
            config.routes[which].to = vec![place(rng.usize(..PLACES)).into()];
        }
        13 => (config.drain_timeout, config.drain_delay) = (Some(Duration::from_secs(7)), Duration::from_secs(7)),
        // As at start, with names that may have been forgotten since.
        14 => config.routes[which].to.clone_from(&first.routes[0].to),
        _ => settings(rng, &mut config.routes[which]),
    }
    (config, is_bad)
}

/// Will it be refused for this route? Listeners that are removed at the same time count too.
fn fails(route: &Route, config: &Config) -> bool {
    let is_own = |address| config.routes.iter().any(|route| inet(&route.from) == address);
    place_of(inet(&route.from)) == Some(TAKEN) || route.to.iter().filter_map(literal).any(is_own)
}

fn add(rng: &mut Rng, config: &mut Config, at: usize) {
    let mut route = config.routes[rng.usize(..config.routes.len())].clone();
    route.from = place(at).into();
    route.name = if one_in(rng, 2) { route.from.to_string() } else { format!("route-{}", rng.u8(..)) };
    if one_in(rng, 2) {
        settings(rng, &mut route);
    }
    config.routes.push(route);
}

/// Other times, another upstream, or another limit.
fn settings(rng: &mut Rng, route: &mut Route) {
    let mut time = |most: usize| Duration::from_millis(log(rng, 1, most) as u64);
    let (connect, half_close, idle) = (time(5000), time(10_000), time(10_000));
    match rng.u8(..5) {
        0 => (route.connect_timeout, route.half_close_timeout) = (connect, one_in(rng, 2).then_some(half_close)),
        1 => route.idle_timeout = one_in(rng, 2).then_some(idle),
        2 => {
            let first = rng.u8(1..=40);
            route.to = (first..first + rng.u8(1..=3)).map(|number| upstream(number).into()).collect();
        }
        3 => route.max_sessions = one_in(rng, 2).then(|| rng.usize(1..=3)),
        _ => limits(rng, route),
    }
}

fn limit(rng: &mut Rng, config: &mut Config) {
    let which = rng.usize(..config.routes.len());
    config.routes[which].max_sessions = Some(rng.usize(1..=3));
}
