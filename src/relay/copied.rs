//! Tests of flows that go through buffers: when a byte moves, and what each direction is told of an end.

use std::io::ErrorKind;

use super::flow::{BULK, Flow, Pass, State};
use super::pool::{Pool, Splicing};
use super::script::Script;
use super::side::{Fault, Side};
use crate::net::Bits;

const ALL: usize = 1 << 20;

/// A flow from `source` to `target` through buffers of 8 bytes.
struct Bench<const DRY: bool = true> {
    flow: Flow<Vec<u8>>,
    pool: Pool<Vec<u8>>,
    from: Side<Script<DRY>>,
    to: Side<Script<DRY>>,
    source: Script<DRY>,
    target: Script<DRY>,
}

impl<const DRY: bool> Bench<DRY> {
    /// A flow whose source has this to say, and an event has said that it can be read.
    fn with(script: impl FnOnce(&Script<DRY>)) -> Self {
        let (source, target) = (Script::default(), Script::default());
        script(&source);
        let mut from = Side::new(source.clone());
        from.mark(Bits::READABLE);
        let to = Side::new(target.clone());
        Self { flow: Flow::new(), pool: Pool::new(8, Splicing { after: BULK, pipes_max: 1 }), from, to, source, target }
    }

    fn run(&mut self) -> Pass {
        self.run_slice(ALL)
    }

    fn run_slice(&mut self, slice: usize) -> Pass {
        let pass = self.flow.run(&mut self.from, &mut self.to, &mut self.pool, slice);
        assert_eq!(self.flow.holds(), self.pool.lent() == 1, "a lease is out exactly while bytes are held");
        assert_eq!(self.flow.moved(), self.target.written().len() as u64);
        pass
    }
}

fn bench(script: impl FnOnce(&Script)) -> Bench {
    Bench::with(script)
}

#[test]
fn what_is_read_is_written_in_the_same_run() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    assert_eq!(bench.run(), Pass { progress: true, spent: false });
    assert_eq!(bench.target.written(), b"hello");
    assert_eq!(bench.pool.free(), 1);
    assert_eq!(bench.run(), Pass::default());
}

#[test]
fn a_short_count_saves_the_call_that_would_block() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    bench.run();
    assert_eq!(bench.source.read_calls(), 1);
    // A full one proves nothing.
    bench.source.reads(b"12345678").reads(b"9");
    bench.from.mark(Bits::READABLE);
    bench.run();
    assert_eq!((bench.source.read_calls(), bench.target.written()), (3, b"hello123456789".to_vec()));
}

#[test]
fn where_a_short_count_proves_nothing_only_would_block_does() {
    let mut bench = Bench::<false>::with(|source| {
        source.reads(b"hello").reads(b"!");
    });
    bench.target.takes(2);
    bench.run();
    assert_eq!((bench.source.read_calls(), bench.target.written()), (3, b"hello!".to_vec()));
}

/// K6 and K15: the edge is spent, whatever lies behind the short count.
#[test]
fn after_a_fin_an_error_or_an_urgent_mark_a_short_count_proves_nothing() {
    for bits in [Bits::EAGER, Bits::ERROR] {
        let mut bench = bench(|source| {
            source.reads(b"abc").reads(b"Def").ends();
        });
        bench.from.mark(bits);
        bench.run();
        assert_eq!((bench.target.written(), bench.flow.state()), (b"abcDef".to_vec(), State::Finished));
    }
}

#[test]
fn a_full_target_is_asked_again_only_after_an_event() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    bench.target.takes(2);
    bench.run();
    assert_eq!((bench.target.write_calls(), bench.target.written()), (1, b"he".to_vec()));
    assert_eq!(bench.run(), Pass::default());
    assert_eq!(bench.target.write_calls(), 1);
    bench.to.mark(Bits::WRITABLE);
    assert!(bench.run().progress);
    assert_eq!(bench.target.written(), b"hello");
}

#[test]
fn a_write_that_finds_no_room_is_no_progress() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    bench.target.blocks().blocks();
    bench.run();
    bench.to.mark(Bits::WRITABLE);
    assert_eq!(bench.run(), Pass::default());
    assert_eq!(bench.target.write_calls(), 2);
}

#[test]
fn nothing_is_read_while_the_target_is_blocked() {
    let mut bench = bench(|source| {
        source.reads(b"12345678").reads(b"9");
    });
    bench.target.blocks();
    bench.run();
    bench.run();
    assert_eq!(bench.source.read_calls(), 1);
}

#[test]
fn fin_is_passed_on_only_after_the_last_byte() {
    let mut bench = bench(|source| {
        source.reads(b"hello").ends();
    });
    bench.from.mark(Bits::EAGER);
    for _ in 0..5 {
        bench.target.takes(1).blocks();
    }
    for _ in 0..5 {
        assert!(!bench.target.is_finished());
        bench.to.mark(Bits::EAGER);
        bench.run();
    }
    bench.to.mark(Bits::WRITABLE);
    bench.run();
    assert_eq!((bench.target.written(), bench.target.is_finished()), (b"hello".to_vec(), true));
    assert_eq!(bench.flow.state(), State::Finished);
    assert_eq!(bench.run(), Pass::default());
}

#[test]
fn a_slice_that_is_used_up_says_so() {
    let mut bench = bench(|source| {
        source.reads(b"1234567812345678123");
    });
    assert_eq!(bench.run_slice(8), Pass { progress: true, spent: true });
    assert_eq!(bench.flow.moved(), 8);
    assert_eq!(bench.run_slice(9), Pass { progress: true, spent: false });
    assert_eq!(bench.flow.moved(), 19);
}

#[test]
fn interrupted_calls_are_made_again() {
    let mut bench = bench(|source| {
        source.fails(ErrorKind::Interrupted).reads(b"hello");
    });
    bench.target.refuses(ErrorKind::Interrupted);
    bench.run();
    assert_eq!(bench.target.written(), b"hello");
}

#[test]
fn a_reset_is_not_passed_on_as_a_fin() {
    for kind in [ErrorKind::ConnectionReset, ErrorKind::TimedOut, ErrorKind::BrokenPipe, ErrorKind::Other] {
        let mut bench = bench(|source| {
            source.reads(b"12345678").fails(kind);
        });
        bench.run();
        assert_eq!((bench.target.written(), bench.flow.state()), (b"12345678".to_vec(), State::Broken), "{kind}");
        assert!(!bench.target.is_finished());
        assert!(bench.from.is_dead());
    }
}

/// K1, K2: the error was told to another call, and what follows only looks like the end.
#[test]
fn the_end_after_an_error_is_believed_only_if_that_was_epipe() {
    for (kind, state) in [
        (ErrorKind::ConnectionReset, State::Broken),
        (ErrorKind::TimedOut, State::Broken),
        (ErrorKind::HostUnreachable, State::Broken),
        (ErrorKind::BrokenPipe, State::Finished),
    ] {
        let mut bench = bench(|source| {
            source.reads(b"hello").ends();
        });
        bench.source.fault(kind);
        bench.from.mark(Bits::ERROR);
        bench.from.ask();
        bench.run();
        assert_eq!((bench.target.written(), bench.flow.state()), (b"hello".to_vec(), state), "{kind}");
        assert_eq!(bench.target.is_finished(), state == State::Finished);
    }
}

#[test]
fn a_failed_write_cuts_the_flow_which_goes_on_reading_and_throws_away() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    bench.target.takes(2).refuses(ErrorKind::BrokenPipe);
    bench.to.mark(Bits::EAGER);
    assert!(bench.run().progress);
    assert_eq!((bench.flow.state(), bench.flow.moved(), bench.pool.lent()), (State::Cut, 2, 0));
    bench.source.reads(b"12345678123456781").ends();
    bench.from.mark(Bits::READABLE | Bits::EAGER);
    assert_eq!(bench.run_slice(8), Pass { progress: true, spent: true });
    assert!(bench.run().progress);
    assert_eq!(bench.run(), Pass::default());
    assert_eq!((bench.flow.state(), bench.target.write_calls()), (State::Cut, 2));
}

#[test]
fn the_first_error_of_a_side_is_the_one_that_counts() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    bench.target.refuses(ErrorKind::ConnectionReset).fault(ErrorKind::BrokenPipe);
    bench.run();
    bench.to.mark(Bits::ERROR);
    bench.to.ask();
    assert_eq!(bench.to.fault(), Some(Fault::Reset));
}

#[test]
fn a_flow_is_cut_when_its_target_has_failed_elsewhere() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    bench.target.blocks();
    bench.run();
    assert!(bench.flow.holds());
    bench.target.fault(ErrorKind::TimedOut);
    bench.to.mark(Bits::ERROR);
    bench.to.ask();
    bench.run();
    assert_eq!((bench.flow.state(), bench.flow.holds(), bench.target.write_calls()), (State::Cut, false, 1));
}

#[test]
fn a_fin_that_cannot_be_sent_cuts_the_flow() {
    let mut bench = bench(|source| {
        source.ends();
    });
    bench.target.cannot_finish(ErrorKind::ConnectionReset);
    bench.run();
    assert_eq!((bench.flow.state(), bench.to.fault()), (State::Cut, Some(Fault::Reset)));
}

#[test]
fn a_write_of_nothing_is_an_error_and_not_a_loop() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    bench.target.takes(0);
    bench.run();
    assert_eq!((bench.flow.state(), bench.target.write_calls()), (State::Cut, 1));
}

#[test]
fn an_announced_error_that_is_not_there_is_no_error() {
    let mut bench = bench(|source| {
        source.reads(b"hello");
    });
    bench.from.mark(Bits::ERROR);
    bench.from.ask();
    bench.run();
    assert_eq!((bench.from.fault(), bench.flow.state()), (None, State::Open));
}
