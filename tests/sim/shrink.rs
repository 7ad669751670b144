//! Makes a failing schedule small: whatever can be left out without the failure going away is left out.

use std::time::Duration;

use tproxy::{Balance, Host, Route, Splice};

use crate::drive::run;
use crate::faults::Faults;
use crate::plan::{Act, Noise, PeerPlan, Plan, Reading, upstream};

/// Runs spent on it, at most.
const RUNS: usize = 4000;

/// More sessions than this are a crowd.
const CROWD: usize = 256;

/// A schedule as small as can be found that fails in the same way.
pub(crate) fn shrink(plan: &Plan, failure: &str) -> Plan {
    let kind = kind(failure);
    let mut best = plan.clone();
    let mut runs = 0;
    loop {
        let before = best.clone();
        for smaller in candidates(&best) {
            // A crowd takes long to run.
            runs += if best.sessions.len() > CROWD { RUNS / 8 } else { 1 };
            if smaller != best && run(&smaller).failure.is_some_and(|failure| self::kind(&failure) == kind) {
                best = smaller;
                break;
            }
            if runs > RUNS {
                return best;
            }
        }
        if best == before {
            return best;
        }
    }
}

/// The sentence without its numbers.
fn kind(failure: &str) -> String {
    failure.chars().filter(|letter| !letter.is_ascii_digit()).take(60).collect()
}

/// Schedules that are a little smaller than this one, the boldest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    // Of a crowd, a sixteenth at a time: each candidate is a copy of all that is left.
    let portion = (plan.sessions.len() / 16).max(1);
    for end in (1..=plan.sessions.len()).rev().step_by(portion) {
        add(&|plan| drop(plan.sessions.drain(end.saturating_sub(portion)..end)));
    }
    add(&|plan| plan.noise = Noise::NONE);
    add(&|plan| {
        if let Faults::Drawn(_) = plan.faults {
            plan.faults = Faults::NONE;
        }
    });
    add(&|plan| plan.dials.clear());
    add(&|plan| plan.hand_overs.truncate(plan.hand_overs.len() / 2));
    add(&|plan| plan.hand_overs.truncate(plan.hand_overs.len().saturating_sub(1)));
    add(&|plan| (plan.lent, plan.head_start) = (Vec::new(), Duration::ZERO));
    add(&|plan| plan.moods.clear());
    add(&|plan| {
        // Every name becomes an address.
        plan.names.clear();
        for host in plan.config.routes.iter_mut().flat_map(|route| &mut route.to) {
            if matches!(host, Host::Name { .. }) {
                *host = upstream(1).into();
            }
        }
    });
    for i in 0..plan.names.len() {
        add(&|plan| {
            let answers = &mut plan.names[i].answers;
            answers.truncate(answers.len().div_ceil(2));
        });
    }
    add(&|plan| plan.config.routes.iter_mut().for_each(|route| route.balance = Balance::First));
    add(&|plan| plan.config.routes.iter_mut().for_each(|route| route.send_proxy = None));
    add(&|plan| {
        let trusting = |route: &mut Route| (route.accept_proxy, route.proxy_from) = (false, Default::default());
        plan.config.routes.iter_mut().for_each(trusting);
    });
    add(&|plan| plan.crash = None);
    add(&|plan| plan.stops.clear());
    add(&|plan| plan.stop_calls.clear());
    add(&|plan| plan.stop_now = None);
    add(&|plan| plan.queries.clear());
    add(&|plan| plan.reloads.clear());
    for i in 0..plan.reloads.len() {
        add(&|plan| {
            plan.reloads.remove(i);
        });
    }
    for i in 0..plan.stops.len() {
        add(&|plan| {
            plan.stops.remove(i);
        });
    }
    for quiet in [
        |noise: &mut Noise| noise.spurious = 0,
        |noise: &mut Noise| noise.stale = 0,
        |noise: &mut Noise| noise.shuffle = 0,
        |noise: &mut Noise| noise.batch = 1024,
        |noise: &mut Noise| noise.late = 0,
        |noise: &mut Noise| noise.stall = 0,
        |noise: &mut Noise| noise.tick = 0,
        |noise: &mut Noise| noise.aborted = 0,
    ] {
        add(&|plan| quiet(&mut plan.noise));
    }
    for i in 0..16 {
        add(&|plan| {
            if let Faults::Drawn(odds) = &mut plan.faults {
                odds[i] = 0;
            }
        });
    }
    add(&|plan| plan.laws.short = 0);
    add(&|plan| plan.laws.segment = 1 << 16);
    add(&|plan| plan.laws.delay = (0, 0));
    add(&|plan| (plan.laws.backlog, plan.laws.descriptors) = (128, 1024));
    add(&|plan| plan.limit = 64);
    add(&|plan| plan.config.splice = Splice::Off);
    add(&|plan| (plan.pipes, plan.laws.pipe_size) = (32, 1 << 16));
    add(&|plan| {
        plan.config.routes.truncate(1);
        plan.sessions.iter_mut().for_each(|session| session.place = 0);
    });
    add(&|plan| plan.config.routes.iter_mut().for_each(|route| route.to.truncate(1)));
    add(&|plan| {
        plan.config.routes.iter_mut().for_each(|route| route.connect_timeout = Duration::from_secs(24 * 3600));
    });
    add(&|plan| {
        plan.config.routes.iter_mut().for_each(|route| (route.half_close_timeout, route.idle_timeout) = (None, None));
    });
    add(&|plan| plan.sessions.iter_mut().for_each(|session| session.start = Duration::ZERO));
    if plan.sessions.len() > CROWD {
        return all;
    }
    for i in 0..plan.sessions.len() {
        for client in [true, false] {
            let peer = |plan: &Plan| -> PeerPlan {
                let session = &plan.sessions[i];
                if client { session.client.clone() } else { session.upstream.clone() }
            };
            for smaller in smaller_peers(&peer(plan)) {
                add(&|plan| {
                    let session = &mut plan.sessions[i];
                    *(if client { &mut session.client } else { &mut session.upstream }) = smaller.clone();
                });
            }
        }
    }
    all
}

fn smaller_peers(peer: &PeerPlan) -> Vec<PeerPlan> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut PeerPlan)| {
        let mut smaller = peer.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    for i in (0..peer.acts.len()).rev() {
        add(&|peer| {
            peer.acts.remove(i);
        });
        add(&|peer| match &mut peer.acts[i] {
            Act::Send(count) => *count = count.div_ceil(2),
            Act::AwaitBytes(count) => *count = count.div_ceil(2),
            Act::Pause(wait) => *wait /= 2,
            Act::Urgent | Act::At(_) | Act::AwaitEnd | Act::Fin | Act::Close | Act::Reset | Act::Vanish => {}
        });
    }
    add(&|peer| peer.reading = Reading::Prompt);
    add(&|peer| peer.caps = [1 << 16; 4]);
    for i in 0..4 {
        add(&|peer| peer.caps[i] = 1 << 16);
        add(&|peer| peer.caps[i] = peer.caps[i].div_ceil(2));
    }
    all
}
