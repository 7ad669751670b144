//! Every order of a few events: two sessions with four acts each, in every interleaving, and for each of those every
//! way in which the acts fall into the turns of the loop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tproxy::Splice;

use crate::drive::run;
use crate::hello::Hello;
use crate::plan::{Act, Noise, PeerPlan, Plan, Reading, SessionPlan};
use crate::scenarios;
use crate::seeds::explain;

/// Acts of one session, and who does them: the client if true.
type Script = [(bool, Act); 4];

const SCRIPTS: [Script; 6] = [
    // A request, an answer.
    [(true, Act::Send(3)), (true, Act::Fin), (false, Act::Send(5)), (false, Act::Fin)],
    // The upstream first.
    [(false, Act::Send(5)), (false, Act::Fin), (true, Act::Send(3)), (true, Act::Fin)],
    // The client goes.
    [(true, Act::Send(3)), (false, Act::Send(5)), (true, Act::Reset), (false, Act::Fin)],
    // The upstream goes.
    [(false, Act::Send(5)), (false, Act::Reset), (true, Act::Send(3)), (true, Act::Fin)],
    // An answer half-way through the upload.
    [(true, Act::Send(9)), (false, Act::Send(5)), (false, Act::Close), (true, Act::Fin)],
    // An urgent byte, and a FIN behind it.
    [(true, Act::Send(2)), (true, Act::Urgent), (true, Act::Fin), (false, Act::Close)],
];

/// A turn of the loop. What happens within is seen together.
const TURN: Duration = Duration::from_millis(1);

/// Turns until both sessions are connected.
const BEFORE: u32 = 4;

#[test]
fn every_order_of_two_sessions_holds() {
    let pairs: Vec<_> = (0..SCRIPTS.len()).flat_map(|i| (0..=i).map(move |j| (i, j))).collect();
    let (next, runs, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(i, j)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for plan in plans([&SCRIPTS[i], &SCRIPTS[j]]) {
                        runs.fetch_add(1, Ordering::Relaxed);
                        if let Some(failure) = run(&plan).failure {
                            failed.lock().unwrap().get_or_insert((plan, failure));
                            return;
                        }
                    }
                }
            });
        }
    });
    eprintln!("{} orders of two sessions", runs.into_inner());
    if let Some((plan, failure)) = failed.into_inner().unwrap() {
        explain(&plan, &failure);
        panic!("{failure}");
    }
}

/// Every interleaving, with every grouping into turns, in both readiness modes, copied and spliced.
fn plans(scripts: [&Script; 2]) -> impl Iterator<Item = Plan> {
    let orders = (0_u32..1 << 8).filter(|order| order.count_ones() == 4);
    orders.flat_map(move |order| (0_u32..1 << 9).map(move |breaks| plan(scripts, order, breaks)))
}

/// Bit i of `order` says whose act is the i-th; bit i of `breaks`, whether a turn comes after it; its hints 7 and 8, the
/// modes.
fn plan(scripts: [&Script; 2], order: u32, breaks: u32) -> Plan {
    let mut plan = scenarios::quiet();
    plan.laws.linux = breaks >> 7 & 1 == 0;
    plan.config.splice = if breaks >> 8 == 0 { Splice::On } else { Splice::Off };
    let breaks = breaks & 0x7f;
    plan.laws.delay = (0, 0);
    plan.config.buffer_size = 3;
    plan.noise = Noise { grain: TURN, ..Noise::NONE };
    let mut acts: [[Vec<Act>; 2]; 2] = Default::default();
    let (mut turn, mut done) = (BEFORE, [0, 0]);
    for place in 0_u32..8 {
        let session = (order >> place & 1) as usize;
        let (client, act) = scripts[session][done[session]];
        done[session] += 1;
        // In the order in which they are done, within the turn that ends with it.
        let moment = TURN * turn - TURN / 2 + Duration::from_micros(place.into());
        acts[session][usize::from(client)].extend([Act::At(moment), act]);
        turn += breaks >> place & 1;
    }
    let peer = |acts: &Vec<Act>| PeerPlan { acts: acts.clone(), reading: Reading::Prompt, caps: [4; 4] };
    plan.sessions = acts
        .iter()
        .map(|[upstream, client]| SessionPlan {
            place: 0,
            start: Duration::ZERO,
            hello: Hello::default(),
            client: peer(client),
            upstream: peer(upstream),
        })
        .collect();
    plan
}
