//! The shapes a session can have, each as small as it gets: what the single-fault sweep breaks one call at a time.

use std::time::Duration;

use rustix::io::Errno;
use tproxy::{Config, ProxyVersion, Route, Splice};

use crate::hello::{Announced, Hello};
use crate::plan::{Act, Dial, PeerPlan, Plan, Reading, Reload, SessionPlan, place, upstream};
use crate::sources::{Lack, source};

use Act::{AwaitBytes, AwaitEnd, Close, Fin, Pause, Reset, Send, Urgent, Vanish};

const MS: Duration = Duration::from_millis(1);
const AGES: Duration = Duration::from_secs(24 * 3600);

/// A schedule with its name.
pub(crate) type Scenario = (&'static str, Plan);

/// No timeouts, a small buffer, nobody yet.
pub(crate) fn quiet() -> Plan {
    let mut plan = Plan::empty();
    plan.config.buffer_size = 16;
    plan.config.routes[0].connect_timeout = AGES;
    plan.config.routes[0].connect_attempts = 1;
    plan.config.routes[0].half_close_timeout = None;
    plan
}

/// One session, kind peers, wide queues.
fn plan(client: Vec<Act>, upstream: Vec<Act>) -> Plan {
    let peer = |acts| PeerPlan { acts, reading: Reading::Prompt, caps: [64; 4] };
    let session = SessionPlan {
        place: 0,
        start: Duration::ZERO,
        hello: Hello::default(),
        client: peer(client),
        upstream: peer(upstream),
    };
    Plan { sessions: vec![session], ..quiet() }
}

fn with(mut plan: Plan, change: impl FnOnce(&mut Plan)) -> Plan {
    change(&mut plan);
    plan
}

fn twice(mut plan: Plan) -> Plan {
    plan.sessions.extend(plan.sessions.clone());
    plan
}

fn echo() -> Plan {
    plan(vec![Send(20), Fin], vec![AwaitEnd, Send(20), Fin])
}

fn bulk() -> Plan {
    plan(vec![Fin], vec![Send(300), Fin])
}

/// Some fifty of them, in both readiness modes, copied and spliced.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = talks();
    all.extend(ends());
    all.extend(queues());
    all.extend(connects());
    all.extend(clocks());
    all.extend(reloads());
    all.extend(headers());
    let minimum = all.iter().map(|(name, plan)| {
        let mut plan = plan.clone();
        (plan.laws.linux, plan.laws.short) = (false, 128);
        (*name, plan)
    });
    let minimum: Vec<_> = minimum.collect();
    all.extend(minimum);
    let spliced = all.iter().map(|(name, plan)| {
        let mut plan = plan.clone();
        plan.config.splice = Splice::On;
        (*name, plan)
    });
    let spliced: Vec<_> = spliced.collect();
    all.extend(spliced);
    all
}

/// Everything goes well.
fn talks() -> Vec<Scenario> {
    vec![
        ("a request that ends, an answer that ends", echo()),
        ("both say nothing", plan(vec![Fin], vec![Fin])),
        ("the upstream ends first", plan(vec![AwaitEnd, Send(7), Fin], vec![Send(9), Fin])),
        ("both speak at once", plan(vec![Send(50), Fin], vec![Send(50), Fin])),
        (
            "ping and pong",
            plan(
                vec![Send(3), AwaitBytes(3), Send(3), AwaitBytes(6), Fin],
                vec![AwaitBytes(3), Send(3), AwaitBytes(6), Send(3), AwaitEnd, Fin],
            ),
        ),
        ("bytes and FIN in one edge", plan(vec![Fin], vec![Send(5), Fin])),
        ("an urgent byte", plan(vec![Send(3), Urgent, Send(2), Fin], vec![AwaitEnd, Fin])),
        ("more than fits anywhere", bulk()),
        ("more than fits, both ways", plan(vec![Send(300), Fin], vec![Send(300), Fin])),
        ("two sessions", twice(echo())),
        ("two bulks", twice(bulk())),
    ]
}

/// Somebody goes.
fn ends() -> Vec<Scenario> {
    let aloof = |plan: Plan| with(plan, |plan| plan.sessions[0].client.reading = Reading::Never);
    vec![
        ("the client resets", plan(vec![Send(9), Pause(MS), Reset], vec![AwaitBytes(5)])),
        ("the upstream resets behind an answer", plan(vec![Send(9)], vec![AwaitBytes(9), Send(90), Reset])),
        ("the client resets while the upstream speaks", plan(vec![AwaitBytes(40), Reset], vec![Send(300), Fin])),
        ("the upstream closes over unread input", {
            let plan = plan(vec![Send(200), AwaitEnd, Fin], vec![Send(30), Pause(MS), Close]);
            with(plan, |plan| plan.sessions[0].upstream.reading = Reading::Never)
        }),
        ("refused half-way through the upload", plan(vec![Send(300), Fin], vec![AwaitBytes(1), Send(30), Close])),
        (
            "a FIN, then a reset",
            plan(vec![Send(9), Fin, Pause(MS), Reset], vec![AwaitBytes(9), Pause(2 * MS), Send(9)]),
        ),
        ("a client that never reads", aloof(plan(vec![Send(3), Fin], vec![Send(500), Fin]))),
        ("a client that never reads, and a reset", aloof(plan(vec![Send(3)], vec![Send(500), Reset]))),
        ("a client that falls silent", plan(vec![Send(9), Vanish], vec![AwaitBytes(9), Send(300), Fin])),
        ("an upstream that falls silent", plan(vec![Send(9), Fin], vec![AwaitBytes(3), Vanish])),
        ("a client that says nothing more", plan(vec![Send(9)], vec![AwaitBytes(9), Send(9), Fin])),
        ("the client resets while it waits to be accepted", plan(vec![Send(3), Reset], vec![Fin])),
    ]
}

/// Little of everything.
fn queues() -> Vec<Scenario> {
    let tiny = |plan: Plan| {
        with(plan, |plan| {
            plan.sessions.iter_mut().for_each(|it| (it.client.caps, it.upstream.caps) = ([3; 4], [3; 4]));
            plan.config.buffer_size = 2;
        })
    };
    vec![
        ("tiny queues", tiny(plan(vec![Send(20), Fin], vec![AwaitEnd, Send(20), Fin]))),
        ("tiny queues and a reset", tiny(plan(vec![Send(20)], vec![AwaitBytes(3), Send(20), Reset]))),
        ("a slow reader", {
            let slow = |plan: &mut Plan| plan.sessions[0].client.reading = Reading::Slow(5, MS);
            with(plan(vec![Fin], vec![Send(100), Fin]), slow)
        }),
        ("one session at a time", with(twice(echo()), |plan| plan.limit = 1)),
        ("three descriptors", with(twice(echo()), |plan| plan.laws.descriptors = 3)),
        ("one source port for two clients", with(twice(echo()), |plan| plan.laws.ports = 1)),
        ("two descriptors for two clients", with(twice(echo()), |plan| plan.laws.descriptors = 2)),
        ("both ways clogged, beside one that talks", {
            let trickle = [[Pause(MS), Send(1)]; 8].concat();
            let mut plan = twice(plan(trickle.clone(), trickle));
            plan.sessions[0].client.acts = vec![Send(300), Pause(4 * MS), Fin];
            plan.sessions[0].upstream.reading = Reading::Never;
            plan.sessions[1].client.acts.push(Fin);
            plan
        }),
        ("a backlog of none", with(twice(echo()), |plan| plan.laws.backlog = 0)),
    ]
}

/// The upstream is not there at once.
fn connects() -> Vec<Scenario> {
    let dials = |dials: Vec<Dial>| with(echo(), |plan| plan.dials = dials);
    let two = |plan: Plan| with(plan, |plan| plan.config.routes[0].to.push(upstream(2).into()));
    let again = |plan: Plan| with(plan, |plan| plan.config.routes[0].connect_attempts = 2);
    vec![
        ("refused", dials(vec![Dial::Fail(Errno::CONNREFUSED)])),
        ("refused, then accepted", again(dials(vec![Dial::Fail(Errno::CONNREFUSED)]))),
        ("the second address answers", two(dials(vec![Dial::Fail(Errno::HOSTUNREACH)]))),
        ("it meets itself", dials(vec![Dial::Itself])),
        ("it takes long", dials(vec![Dial::AcceptAfter(50 * MS)])),
        (
            "no answer from the first address",
            with(two(dials(vec![Dial::Silence])), |plan| plan.config.routes[0].connect_timeout = 100 * MS),
        ),
        ("no answer", with(dials(vec![Dial::Silence]), |plan| plan.config.routes[0].connect_timeout = 100 * MS)),
        (
            "the client leaves while it takes long",
            with(plan(vec![Send(9), Pause(MS), Reset], vec![Fin]), |plan| plan.dials = vec![Dial::Silence]),
        ),
        ("reset as soon as it stands", plan(vec![Send(9)], vec![Send(5), Reset])),
    ]
}

/// Timeouts and stop requests.
fn clocks() -> Vec<Scenario> {
    let idle = |plan: Plan| with(plan, |plan| plan.config.routes[0].idle_timeout = Some(20 * MS));
    let half = |plan: Plan| with(plan, |plan| plan.config.routes[0].half_close_timeout = Some(20 * MS));
    let stop = |plan: Plan, at: Vec<Duration>| with(plan, |plan| plan.stops = at);
    let drain = |plan: Plan, time: Option<Duration>| with(plan, |plan| plan.config.drain_timeout = time);
    let slow = || plan(vec![Send(9), Pause(30 * MS), Fin], vec![AwaitEnd, Send(30), Fin]);
    vec![
        ("idle for too long", idle(plan(vec![Send(9)], vec![Send(9)]))),
        ("half closed for too long", half(plan(vec![Send(9), Fin], vec![AwaitEnd]))),
        ("half closed, and a trickle", {
            let trickle = [[Pause(15 * MS), Send(1)]; 4].concat();
            half(plan(vec![Fin], [trickle, vec![Fin]].concat()))
        }),
        ("asked to stop while it talks", stop(slow(), vec![10 * MS])),
        ("asked to stop twice", stop(slow(), vec![10 * MS, 20 * MS])),
        ("asked to stop, and again a second later", {
            let long = plan(vec![Send(9), Pause(2000 * MS), Fin], vec![AwaitEnd, Send(30), Fin]);
            with(stop(long, vec![10 * MS, 1010 * MS]), |plan| plan.stop_calls = vec![500 * MS])
        }),
        ("asked to stop while it is full", {
            let plan = twice(twice(slow()));
            with(stop(plan, vec![10 * MS]), |plan| plan.limit = 1)
        }),
        ("asked to stop, and no patience", drain(stop(slow(), vec![10 * MS]), Some(Duration::ZERO))),
        ("asked to stop, and little patience", drain(stop(slow(), vec![10 * MS]), Some(10 * MS))),
        ("asked to stop, and all patience", drain(stop(slow(), vec![10 * MS]), None)),
        ("asked to stop at once", with(slow(), |plan| plan.stop_now = Some(10 * MS))),
        (
            "asked to drain, then to stop at once",
            with(stop(slow(), vec![10 * MS]), |plan| plan.stop_now = Some(20 * MS)),
        ),
        ("asked to stop before anyone came", stop(echo(), vec![Duration::ZERO])),
    ]
}

/// Other routes.
fn reloads() -> Vec<Scenario> {
    let slow = || plan(vec![Send(9), Pause(30 * MS), Fin], vec![AwaitEnd, Send(30), Fin]);
    // Four clients at two places. They are served one by one, so some wait when the reload comes.
    let crowd = || {
        let mut plan = twice(twice(slow()));
        (plan.limit, plan.taken) = (1, Some(9));
        plan.config.routes.push(route(1, 2));
        for (number, session) in (0..).zip(&mut plan.sessions) {
            session.place = number % 2;
        }
        plan
    };
    let reload = |mut plan: Plan, change: &dyn Fn(&mut Config)| {
        let mut config = plan.config.clone();
        change(&mut config);
        plan.reloads.push(Reload { at: 10 * MS, config, is_bad: false });
        plan
    };
    // A port for each of two source addresses.
    let sourced = || {
        with(crowd(), |plan| {
            (plan.limit, plan.laws.ports) = (3, 1);
            plan.config.routes[0].source = vec![source(1), source(2)];
            plan.config.routes[0].log_open = true;
        })
    };
    let socket = |route: &mut Route| {
        route.source = vec![source(3), source(1)];
        (route.backlog, route.keepalive) = (2, Some(Duration::from_secs(1)));
        (route.tcp_user_timeout, route.log_empty) = (Some(20 * MS), false);
    };
    vec![
        ("a reload of the same", reload(crowd(), &|_| {})),
        ("two routes more", reload(crowd(), &|config| config.routes.extend([route(2, 3), route(3, 1)]))),
        ("a route less, and clients wait there", reload(crowd(), &|config| config.routes.truncate(1))),
        ("another listener for a route", reload(crowd(), &|config| config.routes[1] = route(2, 2))),
        ("other settings", reload(crowd(), &|config| config.routes[0].idle_timeout = Some(20 * MS))),
        ("two routes swap their listeners", {
            let swap = |config: &mut Config| {
                let from = config.routes[0].from.clone();
                config.routes[0].from = std::mem::replace(&mut config.routes[1].from, from);
            };
            reload(crowd(), &swap)
        }),
        ("of two new listeners, one cannot be bound", {
            reload(crowd(), &|config| config.routes = vec![route(0, 1), route(2, 1), route(9, 2)])
        }),
        ("a removed listener comes back while it serves the rest", {
            let mut plan = crowd();
            let both = plan.config.clone();
            plan = reload(plan, &|config| config.routes.truncate(1));
            plan.reloads.push(Reload { at: 12 * MS, config: both, is_bad: false });
            plan
        }),
        (
            "a stop behind a reload",
            with(reload(crowd(), &|config| config.routes[1] = route(2, 2)), |plan| {
                plan.stops = vec![11 * MS];
            }),
        ),
        (
            "a reload behind a stop",
            with(reload(crowd(), &|config| config.routes.truncate(1)), |plan| {
                plan.stops = vec![10 * MS];
            }),
        ),
        ("sources, times and the queue change", reload(sourced(), &|config| socket(&mut config.routes[0]))),
        (
            "a source of the reload is missing",
            with(reload(sourced(), &|config| socket(&mut config.routes[0])), |plan| {
                plan.lacks.push(Lack { source: source(3), from: Duration::ZERO, until: AGES });
            }),
        ),
        (
            "one session at a time for a route",
            with(crowd(), |plan| {
                (plan.limit, plan.config.routes[0].max_sessions) = (8, Some(1));
            }),
        ),
    ]
}

fn headers() -> Vec<Scenario> {
    let sends = |version| move |plan: &mut Plan| plan.config.routes[0].send_proxy = Some(version);
    // The header in two pieces, and a FIN behind the request.
    let announced = |plan: &mut Plan| {
        let ends = Announced::Inet(plan.client(7), upstream(9));
        let hello = Hello::header(ProxyVersion::V2, ends, b"tlv");
        let rest = u32::try_from(hello.bytes.len()).unwrap() - 20;
        let session = &mut plan.sessions[0];
        session.hello = hello;
        session.client.acts.splice(..0, [Send(20), Pause(2 * MS), Send(rest)]);
        let route = &mut plan.config.routes[0];
        (route.accept_proxy, route.proxy_from) = (true, "0.0.0.0/0".parse().unwrap());
    };
    vec![
        ("a header is sent", with(echo(), sends(ProxyVersion::V2))),
        ("a header is sent to a server that speaks first", with(bulk(), sends(ProxyVersion::V1))),
        ("a header is accepted", with(echo(), announced)),
        ("a header is passed on", with(with(echo(), announced), sends(ProxyVersion::V1))),
    ]
}

fn route(at: usize, to: u8) -> Route {
    let mut route = Route::new(place(at), [upstream(to)]);
    (route.connect_timeout, route.half_close_timeout) = (AGES, None);
    route
}
