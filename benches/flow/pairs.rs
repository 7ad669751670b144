//! Two wires and the pair between them: a message, and bulk in both ways of moving it.

use std::rc::Rc;

use criterion::{Criterion, Throughput};
use tproxy::net::Peer;
use tproxy::relay::bulk::Bulk;
use tproxy::relay::pair::Pair;
use tproxy::relay::pool::{Pool, Splicing};
use tproxy::relay::side::Side;

use crate::MESSAGE;
use crate::wire::{Pipe, Socket, Wire};

const BUFFER: usize = 64 << 10;
const GIB: usize = 1 << 30;

/// What the reactor gives a flow that has the backlog to itself.
const SLICE: usize = 256 << 10;

pub(crate) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair");
    group.throughput(Throughput::Elements(1));
    group.bench_function("64 B there and back", |bencher| bencher.iter(back()));
    group.throughput(Throughput::Bytes(GIB as u64));
    group.bench_function("1 GiB copied", |bencher| bencher.iter(copied()));
    group.bench_function("1 GiB spliced", |bencher| bencher.iter(spliced()));
    group.finish();
}

pub(crate) fn back() -> impl FnMut() {
    let mut bench = Bench::new(Splicing::OFF);
    move || Peer::BOTH.into_iter().for_each(|peer| assert_eq!(bench.message(peer), (MESSAGE, 0)))
}

pub(crate) fn copied() -> impl FnMut() {
    let mut bench = Bench::new(Splicing::OFF);
    move || assert_eq!(bench.bulk(), (GIB, 0))
}

pub(crate) fn spliced() -> impl FnMut() {
    let mut bench = Bench::new(Splicing { after: Bulk::AFTER, pipes_max: 1 });
    bench.pool.add_pipe(Pipe);
    let proof = usize::from(Bulk::AFTER) * BUFFER;
    assert_eq!(bench.bulk(), (proof, GIB - proof));
    move || assert_eq!(bench.bulk(), (0, GIB))
}

struct Bench {
    pair: Pair<Socket>,
    pool: Pool<Pipe>,
    wires: [Rc<Wire>; 2],
}

impl Bench {
    fn new(splicing: Splicing) -> Self {
        let wires = [Rc::<Wire>::default(), Rc::<Wire>::default()];
        let [client, upstream] = wires.each_ref().map(|wire| Side::new(Socket(Rc::clone(wire))));
        Self { pair: Pair::new(client, upstream, None), pool: Pool::new(BUFFER, splicing), wires }
    }

    /// A message from this peer, served as the reactor does: both flows get a first slice. What did the other hear?
    fn message(&mut self, from: Peer) -> (usize, usize) {
        self.say(from, MESSAGE);
        for peer in Peer::BOTH {
            self.pair.relay(peer, BUFFER, &mut self.pool);
        }
        self.wires[from.other() as usize].heard()
    }

    /// 1 GiB from the client, slice by slice. What did the upstream hear?
    fn bulk(&mut self) -> (usize, usize) {
        self.say(Peer::Client, GIB);
        while self.pair.relay(Peer::Client, SLICE, &mut self.pool).slice_used_up {}
        self.wires[Peer::Upstream as usize].heard()
    }

    fn say(&mut self, from: Peer, count: usize) {
        let wire = &self.wires[from as usize];
        wire.say(count);
        self.pair.mark(from, wire.edge());
    }
}
