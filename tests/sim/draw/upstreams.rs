//! Names, balance, and upstreams that are out of order for a while. From sources of their own, so that what else a seed
//! does is the same without.

use std::time::Duration;

use fastrand::Rng;
use tproxy::{Balance, Host};

use super::{dial, log, one_in, pause};
use crate::keyed::mix;
use crate::plan::{Lookup, Mood, NamePlan, Plan, Says, upstream};

/// In one of three seeds the routes have policies, and in one of four an upstream is dead or deaf for a while.
pub(super) fn health(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x6865_616c_7468));
    if one_in(rng, 3) {
        let policies = [Balance::First, Balance::RoundRobin, Balance::LeastSessions, Balance::Source];
        for route in &mut plan.config.routes {
            route.balance = policies[rng.usize(..4)];
        }
    }
    if !one_in(rng, 4) {
        return;
    }
    if plan.config.routes[0].to.len() == 1 && one_in(rng, 2) {
        plan.config.routes[0].to = (1..=rng.u8(2..=4)).map(|number| upstream(number).into()).collect();
    }
    for _ in 0..rng.u8(1..=3) {
        let (from, outcome) = (if one_in(rng, 2) { Duration::ZERO } else { pause(rng) }, dial(rng));
        let until = from + Duration::from_millis(log(rng, 1, 120_000) as u64);
        plan.moods.push(Mood { upstream: upstream(rng.u8(1..=4)), from, until, dial: outcome });
    }
    if plan.sessions.len() > 1 && one_in(rng, 2) {
        // Enough time between them that what was learned of an address is of use, or is forgotten.
        let gap = Duration::from_millis(log(rng, 1, 4_000) as u64);
        for (number, session) in plan.sessions.iter_mut().enumerate() {
            session.start = gap * u32::try_from(number).unwrap();
        }
    }
}

/// In one of four seeds, some hosts are names.
pub(super) fn names(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x006e_616d_6573));
    if !one_in(rng, 4) {
        return;
    }
    plan.config.resolve_ttl = Duration::from_millis(log(rng, 1, 20_000) as u64);
    for number in 0..rng.u8(1..=2) {
        let host = format!("db{number}.internal");
        let answers = (0..rng.usize(1..=5)).map(|_| lookup(rng)).collect();
        plan.names.push(NamePlan { host: host.clone(), answers });
        for route in &mut plan.config.routes {
            if !one_in(rng, 3) {
                let at = rng.usize(..=route.to.len());
                let name = Host::name(&host, if one_in(rng, 4) { 81 } else { 80 });
                // Beside an address, or instead of all.
                if one_in(rng, 2) && number == 0 { route.to = vec![name] } else { route.to.insert(at, name) }
            }
        }
    }
    plan.names.retain(|name| {
        let listed = |host: &Host| matches!(host, Host::Name { name: listed, .. } if **listed == *name.host);
        plan.config.routes.iter().any(|route| route.to.iter().any(listed))
    });
    if one_in(rng, 2) {
        let gap = Duration::from_millis(log(rng, 1, 10_000) as u64);
        for (number, session) in plan.sessions.iter_mut().enumerate() {
            session.start = gap * u32::try_from(number).unwrap();
        }
    }
}

fn lookup(rng: &mut Rng) -> Lookup {
    let after = match rng.u8(..4) {
        0 => Duration::ZERO,
        1 => pause(rng),
        _ => Duration::from_micros(log(rng, 1, 300_000) as u64),
    };
    let says = match rng.u8(..16) {
        0..=2 => Says::Error,
        3 => Says::Nothing,
        4 if one_in(rng, 8) => Says::TooMany,
        5 => Says::Ourselves(rng.u8(1..=4)),
        _ => {
            let mut numbers: Vec<_> = (1..=4).collect();
            rng.shuffle(&mut numbers);
            numbers.truncate(rng.usize(1..=3));
            Says::Upstreams(numbers)
        }
    };
    Lookup { after, says }
}
