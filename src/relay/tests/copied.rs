//! Tests of flows that go through buffers: when a byte moves, and what each direction is told of an end.

use std::io::ErrorKind;

use super::script::Script;
use crate::net::Hints;
use crate::relay::bulk::Bulk;
use crate::relay::flow::{Flow, Pass, State};
use crate::relay::input::Fault;
use crate::relay::pool::{Pool, Splicing};
use crate::relay::side::Side;

const ALL: usize = 1 << 20;

/// A flow from `source` to `target` through buffers of 8 bytes.
struct Rig<const DRY: bool = true> {
    flow: Flow<Vec<u8>>,
    pool: Pool<Vec<u8>>,
    from: Side<Script<DRY>>,
    to: Side<Script<DRY>>,
    source: Script<DRY>,
    target: Script<DRY>,
}

impl<const DRY: bool> Rig<DRY> {
    /// A flow whose source has this to say, and an event has said that it can be read.
    fn with(script: impl FnOnce(&Script<DRY>)) -> Self {
        let (source, target) = (Script::default(), Script::default());
        script(&source);
        let mut from = Side::new(source.clone());
        from.mark(Hints::READABLE);
        let to = Side::new(target.clone());
        Self {
            flow: Flow::new(None),
            pool: Pool::new(8, Splicing { after: Bulk::AFTER, pipes_max: 1 }),
            from,
            to,
            source,
            target,
        }
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

fn rig(script: impl FnOnce(&Script)) -> Rig {
    Rig::with(script)
}

#[test]
fn what_is_read_is_written_in_the_same_run() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    assert_eq!(rig.run(), Pass { progress: true, slice_used_up: false, ..Pass::default() });
    assert_eq!(rig.target.written(), b"hello");
    assert_eq!(rig.pool.free(), 1);
    assert_eq!(rig.run(), Pass::default());
}

#[test]
fn a_short_count_saves_the_call_that_would_block() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    rig.run();
    assert_eq!(rig.source.read_calls(), 1);
    // A full one proves nothing.
    rig.source.reads(b"12345678").reads(b"9");
    rig.from.mark(Hints::READABLE);
    rig.run();
    assert_eq!((rig.source.read_calls(), rig.target.written()), (3, b"hello123456789".to_vec()));
}

#[test]
fn where_a_short_count_proves_nothing_only_would_block_does() {
    let mut rig = Rig::<false>::with(|source| {
        source.reads(b"hello").reads(b"!");
    });
    rig.target.takes(2);
    rig.run();
    assert_eq!((rig.source.read_calls(), rig.target.written()), (3, b"hello!".to_vec()));
}

/// K6 and K15: the edge is spent, whatever lies behind the short count.
#[test]
fn after_a_fin_an_error_or_an_urgent_mark_a_short_count_proves_nothing() {
    for hints in [Hints::READ_TO_EAGAIN, Hints::ERROR] {
        let mut rig = rig(|source| {
            source.reads(b"abc").reads(b"Def").ends();
        });
        rig.from.mark(hints);
        rig.run();
        assert_eq!((rig.target.written(), rig.flow.state()), (b"abcDef".to_vec(), State::Finished));
    }
}

#[test]
fn a_full_target_is_asked_again_only_after_an_event() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    rig.target.takes(2);
    rig.run();
    assert_eq!((rig.target.write_calls(), rig.target.written()), (1, b"he".to_vec()));
    assert_eq!(rig.run(), Pass::default());
    assert_eq!(rig.target.write_calls(), 1);
    rig.to.mark(Hints::WRITABLE);
    assert!(rig.run().progress);
    assert_eq!(rig.target.written(), b"hello");
}

#[test]
fn a_write_that_finds_no_room_is_no_progress() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    rig.target.blocks().blocks();
    rig.run();
    rig.to.mark(Hints::WRITABLE);
    assert_eq!(rig.run(), Pass::default());
    assert_eq!(rig.target.write_calls(), 2);
}

#[test]
fn nothing_is_read_while_the_target_is_blocked() {
    let mut rig = rig(|source| {
        source.reads(b"12345678").reads(b"9");
    });
    rig.target.blocks();
    rig.run();
    rig.run();
    assert_eq!(rig.source.read_calls(), 1);
}

#[test]
fn fin_is_passed_on_only_after_the_last_byte() {
    let mut rig = rig(|source| {
        source.reads(b"hello").ends();
    });
    rig.from.mark(Hints::READ_TO_EAGAIN);
    for _ in 0..5 {
        rig.target.takes(1).blocks();
    }
    for _ in 0..5 {
        assert!(!rig.target.is_finished());
        rig.to.mark(Hints::READ_TO_EAGAIN);
        rig.run();
    }
    rig.to.mark(Hints::WRITABLE);
    rig.run();
    assert_eq!((rig.target.written(), rig.target.is_finished()), (b"hello".to_vec(), true));
    assert_eq!(rig.flow.state(), State::Finished);
    assert_eq!(rig.run(), Pass::default());
}

#[test]
fn a_slice_that_is_used_up_says_so() {
    let mut rig = rig(|source| {
        source.reads(b"1234567812345678123");
    });
    assert_eq!(rig.run_slice(8), Pass { progress: true, slice_used_up: true, ..Pass::default() });
    assert_eq!(rig.flow.moved(), 8);
    assert_eq!(rig.run_slice(9), Pass { progress: true, slice_used_up: false, ..Pass::default() });
    assert_eq!(rig.flow.moved(), 19);
}

#[test]
fn interrupted_calls_are_made_again() {
    let mut rig = rig(|source| {
        source.fails(ErrorKind::Interrupted).reads(b"hello");
    });
    rig.target.refuses(ErrorKind::Interrupted);
    rig.run();
    assert_eq!(rig.target.written(), b"hello");
}

#[test]
fn a_reset_is_not_passed_on_as_a_fin() {
    for kind in [ErrorKind::ConnectionReset, ErrorKind::TimedOut, ErrorKind::BrokenPipe, ErrorKind::Other] {
        let mut rig = rig(|source| {
            source.reads(b"12345678").fails(kind);
        });
        rig.run();
        assert_eq!((rig.target.written(), rig.flow.state()), (b"12345678".to_vec(), State::Broken), "{kind}");
        assert!(!rig.target.is_finished());
        assert!(rig.from.is_dead());
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
        let mut rig = rig(|source| {
            source.reads(b"hello").ends();
        });
        rig.source.fault(kind);
        rig.from.mark(Hints::ERROR);
        rig.from.check_error();
        rig.run();
        assert_eq!((rig.target.written(), rig.flow.state()), (b"hello".to_vec(), state), "{kind}");
        assert_eq!(rig.target.is_finished(), state == State::Finished);
    }
}

#[test]
fn a_failed_write_cuts_the_flow_which_goes_on_reading_and_throws_away() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    rig.target.takes(2).refuses(ErrorKind::BrokenPipe);
    rig.to.mark(Hints::READ_TO_EAGAIN);
    assert!(rig.run().progress);
    assert_eq!((rig.flow.state(), rig.flow.moved(), rig.pool.lent()), (State::Cut, 2, 0));
    rig.source.reads(b"12345678123456781").ends();
    rig.from.mark(Hints::READABLE | Hints::READ_TO_EAGAIN);
    assert_eq!(rig.run_slice(8), Pass { progress: true, discarded: true, slice_used_up: true, ..Pass::default() });
    assert!(rig.run().progress);
    assert_eq!(rig.run(), Pass::default());
    assert_eq!((rig.flow.state(), rig.target.write_calls()), (State::Cut, 2));
}

#[test]
fn the_first_error_of_a_side_is_the_one_that_counts() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    rig.target.refuses(ErrorKind::ConnectionReset).fault(ErrorKind::BrokenPipe);
    rig.run();
    rig.to.mark(Hints::ERROR);
    rig.to.check_error();
    assert_eq!(rig.to.first_error(), Some(Fault::Reset));
}

#[test]
fn a_flow_is_cut_when_its_target_has_failed_elsewhere() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    rig.target.blocks();
    rig.run();
    assert!(rig.flow.holds());
    rig.target.fault(ErrorKind::TimedOut);
    rig.to.mark(Hints::ERROR);
    rig.to.check_error();
    rig.run();
    assert_eq!((rig.flow.state(), rig.flow.holds(), rig.target.write_calls()), (State::Cut, false, 1));
}

#[test]
fn a_fin_that_cannot_be_sent_cuts_the_flow() {
    let mut rig = rig(|source| {
        source.ends();
    });
    rig.target.cannot_finish(ErrorKind::ConnectionReset);
    rig.run();
    assert_eq!((rig.flow.state(), rig.to.first_error()), (State::Cut, Some(Fault::Reset)));
}

#[test]
fn a_write_of_nothing_is_an_error_and_not_a_loop() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    rig.target.takes(0);
    rig.run();
    assert_eq!((rig.flow.state(), rig.target.write_calls()), (State::Cut, 1));
}

#[test]
fn an_announced_error_that_is_not_there_is_no_error() {
    let mut rig = rig(|source| {
        source.reads(b"hello");
    });
    rig.from.mark(Hints::ERROR);
    rig.from.check_error();
    rig.run();
    assert_eq!((rig.from.first_error(), rig.flow.state()), (None, State::Open));
}
