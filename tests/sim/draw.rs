//! A schedule from a seed. Swarm testing: each seed draws first which kinds of trouble exist at all, so that rare ones
//! meet without a hundred others in the way.

mod clients;
mod crowds;
mod hand_overs;
mod hellos;
mod queries;
mod reloads;
mod sockets;
mod unix;
mod upstreams;

use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;
use tproxy::{Config, ResetGrace, Splice};

use crate::faults::{Call, Faults, Odds};
use crate::hello::Hello;
use crate::kernel::Laws;
use crate::keyed::mix;
use crate::plan::{Act, Dial, Noise, PeerPlan, Plan, Reading, SessionPlan, place, upstream};

/// The schedule of this seed.
pub(crate) fn draw(seed: u64) -> Plan {
    let mut rng = Rng::with_seed(mix(seed));
    let rng = &mut rng;
    let count = match rng.u8(..16) {
        0 => rng.usize(8..=24),
        1..=4 => 1,
        // More than one turn lets in.
        5 if one_in(rng, 8) => rng.usize(33..=80),
        _ => rng.usize(2..=5),
    };
    let delay = [(0, 0), (0, 1_000), (1_000, 100_000), (100_000, 2_000_000), (1_000_000, 50_000_000)];
    let delay = delay[rng.usize(..delay.len())];
    let limit = if one_in(rng, 4) { rng.usize(1..=count) } else { 64 };
    let linux = !one_in(rng, 3);
    let laws = Laws {
        linux,
        counts_unacked: linux || one_in(rng, 2),
        delay,
        at_once: false,
        segment: if one_in(rng, 2) { 1 << 16 } else { log(rng, 1, 1500) },
        backlog: if one_in(rng, 5) { rng.usize(..=2) } else { 128 },
        descriptors: if one_in(rng, 5) { rng.usize(1..=2 * count + 1) } else { 1024 },
        ports: usize::MAX,
        short: if one_in(rng, 3) { rng.u8(..) } else { 0 },
        pipe_size: 1 << 16,
        timeout: Duration::from_millis(200),
        lossy: false,
        passes: 0,
    };
    let mut config = Config::new(place(0), []);
    config.routes[0].to =
        (1..=if one_in(rng, 3) { rng.u8(2..=3) } else { 1 }).map(|number| upstream(number).into()).collect();
    config.buffer_size = log(rng, 1, 1 << 16);
    config.routes[0].connect_attempts = rng.u32(1..=3);
    config.routes[0].connect_timeout = Duration::from_secs(24 * 3600);
    config.routes[0].half_close_timeout = None;
    if one_in(rng, 2) {
        config.routes[0].connect_timeout = Duration::from_millis(rng.u64(1..=5000));
        config.routes[0].half_close_timeout =
            if one_in(rng, 2) { Some(Duration::from_millis(log(rng, 1, 10_000) as u64)) } else { None };
        config.routes[0].idle_timeout =
            if one_in(rng, 3) { Some(Duration::from_millis(log(rng, 1, 10_000) as u64)) } else { None };
        config.routes[0].reset_grace = ResetGrace::Fixed(Duration::from_millis(log(rng, 1, 1000) as u64));
    }
    config.drain_timeout = match rng.u8(..4) {
        0 => Some(Duration::ZERO),
        1 => None,
        _ => Some(Duration::from_millis(log(rng, 1, 20_000) as u64)),
    };
    let together = one_in(rng, 2);
    let sessions = (0..count)
        .map(|_| {
            let start = if together { Duration::ZERO } else { pause(rng) };
            let (client, upstream) = conversation(rng, config.buffer_size.min(laws.segment));
            SessionPlan { place: 0, start, hello: Hello::default(), client, upstream }
        })
        .collect();
    let dials = if one_in(rng, 4) { (0..2 * count).map(|_| dial(rng)).collect() } else { Vec::new() };
    let stops = match rng.u8(..16) {
        0..=2 => vec![pause(rng)],
        3 => vec![pause(rng), pause(rng)],
        _ => Vec::new(),
    };
    let crash = one_in(rng, 12).then(|| pause(rng));
    let faults = if one_in(rng, 2) { Faults::Drawn(odds(rng)) } else { Faults::NONE };
    let noise = if one_in(rng, 2) { noise(rng) } else { Noise::NONE };
    let mut plan = Plan {
        seed,
        laws,
        config,
        reloads: Vec::new(),
        queries: Vec::new(),
        lent: Vec::new(),
        head_start: Duration::ZERO,
        hand_overs: Vec::new(),
        lacks: Vec::new(),
        taken: None,
        limit,
        pipes: 0,
        sessions,
        addresses: (usize::MAX, false),
        dials,
        moods: Vec::new(),
        names: Vec::new(),
        faults,
        noise,
        crash,
        stops,
        stop_calls: Vec::new(),
        stop_now: None,
    };
    splice(&mut plan);
    // From sources of their own, as with pipes. A stop while more clients wait than one turn lets in:
    let rng = &mut Rng::with_seed(mix(seed ^ 0x0073_746f_7073));
    if count > 32 && together && one_in(rng, 2) {
        plan.stops = vec![Duration::from_nanos(rng.u64(delay.0..=delay.1))];
    }
    let rng = &mut Rng::with_seed(mix(seed ^ 0x6e6f_7721));
    if one_in(rng, 12) {
        plan.stop_calls = (0..rng.usize(1..=3)).map(|_| pause(rng)).collect();
    }
    if one_in(rng, 12) && !plan.stops.is_empty() {
        // Two signals at nearly one moment, as from a terminal.
        plan.stops.push(plan.stops[0] + Duration::from_micros(log(rng, 1, 600_000) as u64));
    }
    let burst = &mut Rng::with_seed(mix(seed ^ 0x6375_7274));
    if one_in(burst, 24) && !plan.stops.is_empty() {
        // Ctrl-C again and again.
        for _ in 0..burst.u8(2..=5) {
            plan.stops.push(plan.stops[plan.stops.len() - 1] + Duration::from_millis(burst.u64(20..=280)));
        }
    }
    if one_in(rng, 24) {
        // At times together with a request to drain.
        plan.stop_now = Some(plan.stops.first().copied().filter(|_| one_in(rng, 2)).unwrap_or_else(|| pause(rng)));
    }
    clients::endless_upload(&mut plan);
    clients::both_reset(&mut plan);
    routes(&mut plan);
    timeouts(&mut plan);
    aborted(&mut plan);
    later(&mut plan);
    crowds::silent(&mut plan);
    let rng = &mut Rng::with_seed(mix(seed ^ 0x0070_6f72_7473));
    if one_in(rng, 8) {
        plan.laws.ports = rng.usize(0..=count / 2);
        // Who waits for a port tries ten times a second: not for a day.
        for route in &mut plan.config.routes {
            route.connect_timeout = route.connect_timeout.min(Duration::from_secs(5));
        }
    }
    upstreams::health(&mut plan);
    upstreams::names(&mut plan);
    if plan.sessions.len() < 1000 {
        clients::clients(&mut plan);
        hellos::hellos(&mut plan);
    }
    sockets::sockets(&mut plan);
    reloads::reloads(&mut plan);
    sockets::reloads(&mut plan);
    unix::unix_sockets(&mut plan);
    crowds::queued(&mut plan);
    queries::queries(&mut plan);
    hand_overs::hand_overs(&mut plan);
    plan.laws.at_once = delay == (0, 0) && one_in(&mut Rng::with_seed(mix(seed ^ 0x6f6e_6365)), 2);
    plan
}

/// Two or three routes, in one of four seeds, and at times a storm on one of them. From a source of its own too.
fn routes(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x726f_7574_6573));
    if !one_in(rng, 4) {
        return;
    }
    let count = rng.u8(2..=3);
    for number in 1..count {
        let mut route = plan.config.routes[0].clone();
        route.from = place(number.into()).into();
        route.name = route.from.to_string();
        if !one_in(rng, 3) {
            let first = 1 + 10 * number;
            route.to = (first..first + rng.u8(1..=3)).map(|number| upstream(number).into()).collect();
            route.connect_attempts = rng.u32(1..=3);
        }
        if one_in(rng, 2) {
            let mut time = |most: usize| Duration::from_millis(log(rng, 1, most) as u64);
            route.connect_timeout = time(5000);
            route.reset_grace = ResetGrace::Fixed(time(1000));
            let (half_close, idle) = (time(10_000), time(10_000));
            route.half_close_timeout = one_in(rng, 2).then_some(half_close);
            route.idle_timeout = one_in(rng, 3).then_some(idle);
        }
        plan.config.routes.push(route);
    }
    plan.sessions.iter_mut().for_each(|session| session.place = rng.usize(..usize::from(count)));
    if one_in(rng, 12) {
        let at = rng.usize(..usize::from(count));
        let last = plan.sessions.len() - 1;
        for place in 0..rng.usize(70..=110) {
            let mut session = plan.sessions[place % (last + 1)].clone();
            (session.place, session.start) = (at, Duration::ZERO);
            plan.sessions.push(session);
        }
        plan.sessions[last].start = Duration::ZERO;
        (plan.limit, plan.laws.backlog, plan.laws.descriptors) = (256, 128, 1024);
    }
}

/// How long the kernel waits for an acknowledgement, and whether the relay goes by that. From a source of its own too.
fn timeouts(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x7274_6f21));
    plan.laws.timeout = Duration::from_millis(log(rng, 1, 4000) as u64);
    plan.laws.lossy = one_in(rng, 3);
    for route in &mut plan.config.routes {
        if one_in(rng, 2) {
            route.reset_grace = ResetGrace::Auto;
        }
    }
    if let Faults::Drawn(odds) = &mut plan.faults {
        let busy = *odds != [0; 16] && one_in(rng, 3);
        odds[Call::RetransmissionTimeout.index()] = if busy { u16::try_from(log(rng, 50, 10_000)).unwrap() } else { 0 };
    }
}

/// Most clients go before they are accepted, in one of 32 seeds: all at once, or one by one. From a source of its own too.
fn aborted(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x6162_6f72_7465_6421));
    if !one_in(rng, 32) {
        return;
    }
    plan.noise.aborted = rng.u8(128..=254);
    let (first, gap) = (plan.sessions[0].clone(), if one_in(rng, 4) { Duration::ZERO } else { pause(rng) / 64 });
    for number in 1..=rng.u32(16..=40) {
        plan.sessions.push(SessionPlan { start: first.start + gap * number, ..first.clone() });
    }
}

/// In one of 16 seeds with several clients half of them come minutes later, often to a relay that is small.
fn later(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x6c61_7465_7221));
    let count = plan.sessions.len();
    if count < 2 || !one_in(rng, 16) {
        return;
    }
    let pause = Duration::from_secs(rng.u64(30..=240));
    plan.sessions[count / 2..].iter_mut().for_each(|session| session.start += pause);
    if !one_in(rng, 3) {
        plan.limit = rng.usize(1..=count / 2);
    }
}

/// Whether and how bytes go through pipes. From a source of its own, so that what else a seed does is the same without.
fn splice(plan: &mut Plan) {
    let rng = &mut Rng::with_seed(mix(plan.seed ^ 0x0070_6970_6573));
    plan.config.splice = match rng.u8(..8) {
        0..=2 => Splice::On,
        3..=5 => Splice::Auto,
        _ => Splice::Off,
    };
    plan.pipes = if one_in(rng, 3) { rng.usize(..=2) } else { 32 };
    plan.laws.pipe_size = log(rng, 16, 1 << 16);
    if let Faults::Drawn(odds) = &mut plan.faults {
        for call in [Call::SpliceIn, Call::SpliceOut, Call::Pipe] {
            let busy = *odds != [0; 16] && one_in(rng, 3);
            odds[call.index()] = if busy { u16::try_from(log(rng, 50, 10_000)).unwrap() } else { 0 };
        }
    }
}

fn one_in(rng: &mut Rng, many: u8) -> bool {
    rng.u8(..many) == 0
}

/// Every order of magnitude is as likely.
fn log(rng: &mut Rng, least: usize, most: usize) -> usize {
    let (low, high) = ((least as f64).ln(), ((most + 1) as f64).ln());
    let drawn = (low + (high - low) * rng.f64()).exp();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between two usizes")]
    let drawn = drawn as usize;
    drawn.clamp(least, most)
}

fn pause(rng: &mut Rng) -> Duration {
    Duration::from_micros(log(rng, 1, 5_000_000) as u64)
}

fn dial(rng: &mut Rng) -> Dial {
    let errors = [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::TIMEDOUT, Errno::ACCESS];
    let error = errors[rng.usize(..errors.len())];
    match rng.u8(..10) {
        0 | 1 => Dial::Fail(error),
        2 => Dial::FailAfter(error, pause(rng)),
        3 => Dial::AcceptAfter(pause(rng)),
        4 => Dial::Silence,
        5 => Dial::Itself,
        _ => Dial::Accept,
    }
}

fn odds(rng: &mut Rng) -> Odds {
    let mut odds = [0; 16];
    for odd in &mut odds[..=Call::Unacked.index()] {
        *odd = if one_in(rng, 3) { u16::try_from(log(rng, 50, 10_000)).unwrap() } else { 0 };
    }
    odds
}

fn noise(rng: &mut Rng) -> Noise {
    let mut some = |most: u8| if one_in(rng, 3) { rng.u8(1..=most) } else { 0 };
    let (spurious, stale, shuffle, late) = (some(128), some(128), some(255), some(128));
    let (stall, tick) = (some(200), some(255));
    let batch = if one_in(rng, 3) { rng.usize(1..=8) } else { 1024 };
    Noise { spurious, stale, shuffle, batch, late, stall, tick, aborted: 0, grain: Duration::ZERO }
}

/// Two peers who make some sense together.
fn conversation(rng: &mut Rng, step: usize) -> (PeerPlan, PeerPlan) {
    let caps: [usize; 8] =
        if one_in(rng, 3) { [log(rng, 1, 1 << 16); 8] } else { std::array::from_fn(|_| log(rng, 1, 1 << 16)) };
    // Enough to fill every queue a few times, but not millions of single bytes.
    let least = caps.iter().copied().min().unwrap().min(step);
    let most = caps.iter().copied().max().unwrap().max(step);
    let size = (least * 48).min(most * 3).max(4);
    let mut bytes = || u32::try_from(log(rng, 1, size)).unwrap();
    let (ask, answer, more) = (bytes(), bytes(), bytes());
    use Act::{AwaitBytes, AwaitEnd, Close, Fin, Reset, Send};
    let (client, upstream) = match rng.u8(..10) {
        // A request that ends with a FIN, an answer that ends with one.
        0 => (vec![Send(ask), Fin], vec![AwaitEnd, Send(answer), Fin]),
        // Several of each on one connection, the client leaves.
        1 => (
            vec![Send(ask), AwaitBytes(answer.into()), Send(more), AwaitBytes(u64::from(answer) + 1), Fin],
            vec![
                AwaitBytes(ask.into()),
                Send(answer),
                AwaitBytes(u64::from(ask) + u64::from(more)),
                Send(1),
                AwaitEnd,
                Fin,
            ],
        ),
        // The upstream says its piece and goes.
        2 => (vec![AwaitEnd, Fin], vec![Send(answer), [Fin, Close][rng.usize(..2)], AwaitEnd]),
        // Refused half-way through the upload, with an answer.
        3 => (vec![Send(ask), Send(more), Fin], vec![AwaitBytes(1), Send(answer), Close]),
        // Both at once.
        4 => (vec![Send(ask), Fin], vec![Send(answer), Fin]),
        // A reset behind an answer.
        5 => (vec![Send(ask)], vec![AwaitBytes(ask.into()), Send(answer), Reset]),
        _ => (script(rng, size), script(rng, size)),
    };
    let [a, b, c, d, e, f, g, h] = caps;
    let client = PeerPlan { acts: client, reading: reading(rng, size), caps: [a, b, c, d] };
    let upstream = PeerPlan { acts: upstream, reading: reading(rng, size), caps: [e, f, g, h] };
    (client, upstream)
}

fn script(rng: &mut Rng, size: usize) -> Vec<Act> {
    let mut acts: Vec<_> = (0..rng.usize(..=4))
        .map(|_| match rng.u8(..10) {
            0 => Act::Urgent,
            1 | 2 => Act::Pause(pause(rng)),
            3 => Act::AwaitBytes(log(rng, 1, size) as u64),
            _ => Act::Send(u32::try_from(log(rng, 1, size)).unwrap()),
        })
        .collect();
    match rng.u8(..16) {
        0..=5 => acts.push(Act::Fin),
        6 | 7 => acts.extend([Act::Fin, Act::Pause(pause(rng)), Act::Reset]),
        8 | 9 => acts.push(Act::Close),
        10 => acts.extend([Act::AwaitEnd, Act::Fin]),
        11 | 12 => acts.push(Act::Reset),
        13 => acts.push(Act::Vanish),
        _ => {}
    }
    acts
}

fn reading(rng: &mut Rng, size: usize) -> Reading {
    match rng.u8(..12) {
        0 => Reading::Slow(u32::try_from(log(rng, size.div_ceil(32), size)).unwrap(), pause(rng) / 16),
        1 => Reading::After(pause(rng)),
        2 => Reading::UpTo(log(rng, 1, size) as u64),
        3 => Reading::Never,
        _ => Reading::Prompt,
    }
}
