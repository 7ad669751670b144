//! Tests of flows that go through pipes: a pipe moves bytes, and nothing that it says is an end.

use std::io::ErrorKind;

use super::script::Script;
use crate::net::Hints;
use crate::relay::bulk::Bulk;
use crate::relay::flow::{Flow, Pass, State};
use crate::relay::input::Fault;
use crate::relay::pool::{Pool, Splicing};
use crate::relay::side::Side;

/// Enough to stay bulk.
static LARGE_READ: [u8; 20 << 10] = [7; 20 << 10];

/// A flow through buffers of 8 bytes, and one pipe. It begins with two full reads, so that what comes next is pulled.
struct Rig {
    flow: Flow<Vec<u8>>,
    pool: Pool<Vec<u8>>,
    from: Side<Script>,
    to: Side<Script>,
    source: Script,
    target: Script,
    /// Bytes that went into pipes.
    spliced: usize,
}

impl Rig {
    /// One that has read nothing yet, with buffers of this size.
    fn fresh(size: usize) -> Self {
        let (source, target) = (Script::new(), Script::new());
        let mut pool = Pool::new(size, Splicing { after: Bulk::AFTER, pipes_max: 1 });
        pool.add_pipe(Vec::new());
        let (from, to) = (Side::new(source.clone()), Side::new(target.clone()));
        Self { flow: Flow::new(None), pool, from, to, source, target, spliced: 0 }
    }

    fn new() -> Self {
        let mut rig = Self::fresh(8);
        rig.source.reads(b"12345678").reads(b"abcdefgh");
        rig.event(Hints::READABLE);
        assert_eq!((rig.source.splice_calls(), rig.flow.is_bulk()), (1, true), "the third finds nothing");
        assert_eq!(rig.source.read_calls(), 3, "which reading tells");
        rig
    }

    fn event(&mut self, hints: Hints) {
        self.from.mark(hints);
        // A flow that has used up its slice is run again, after others.
        loop {
            let pass = self.flow.run(&mut self.from, &mut self.to, &mut self.pool, 1 << 20);
            self.spliced += pass.spliced;
            if !pass.slice_used_up {
                return;
            }
        }
    }

    /// What was written since this was last asked.
    fn news(&self, before: usize) -> Vec<u8> {
        self.target.written().split_off(before)
    }
}

#[test]
fn what_fills_buffers_is_spliced_and_what_does_not_is_copied() {
    let mut rig = Rig::new();
    let (before, splices) = (rig.target.written().len(), rig.source.splice_calls());
    rig.source.reads(&LARGE_READ).reads(b"l").reads(b"by little");
    rig.event(Hints::READABLE);
    assert_eq!(rig.source.splice_calls(), splices + 2, "one brings much, the next little, and then it is copied");
    assert_eq!(rig.news(before), [&LARGE_READ[..], b"l", b"by little"].concat());
    assert_eq!(rig.flow.moved(), rig.target.written().len() as u64);
    assert_eq!((rig.flow.is_bulk(), rig.pool.lent(), rig.pool.pipes()), (false, 0, 1));
}

#[test]
fn only_a_read_of_little_speaks_against_bulk() {
    for (between, is_bulk) in [(&b"12"[..], true), (b"1", false)] {
        let mut rig = Rig::fresh(8);
        rig.source.reads(b"12345678");
        rig.event(Hints::READABLE);
        rig.source.reads(between);
        rig.event(Hints::READABLE);
        rig.source.reads(b"12345678");
        rig.event(Hints::READABLE);
        assert_eq!(rig.flow.is_bulk(), is_bulk, "{between:?}");
    }
}

#[test]
fn a_large_buffer_need_not_be_filled() {
    let mut rig = Rig::fresh(16 << 20);
    let much = vec![7; 64 << 10];
    for (read, is_bulk) in [(&much[1..], false), (&much, false), (&much[1..], false), (&much, true)] {
        rig.source.reads(read);
        rig.event(Hints::READABLE);
        assert_eq!(rig.flow.is_bulk(), is_bulk);
    }
    // A pipe never holds so much as one of these buffers, and that is no reason to go back.
    rig.source.reads(&much);
    rig.event(Hints::READABLE);
    assert_eq!((rig.flow.is_bulk(), rig.spliced), (true, 64 << 10));
    rig.source.reads(&much[..(16 << 10) - 1]);
    rig.event(Hints::READABLE);
    assert!(!rig.flow.is_bulk());
}

#[test]
fn a_pipe_that_says_nothing_more_comes_is_not_believed() {
    let mut rig = Rig::new();
    // A mark: splice says 0 there, and there is more behind it.
    rig.source.splice_says_nothing().reads(b"more");
    let before = rig.target.written().len();
    rig.event(Hints::READABLE);
    assert_eq!((rig.flow.state(), rig.news(before)), (State::Open, b"more".to_vec()));
    rig.source.ends();
    rig.event(Hints::READABLE);
    assert_eq!((rig.flow.state(), rig.target.is_finished()), (State::Finished, true));
}

#[test]
fn a_stream_with_a_mark_or_an_end_in_sight_is_read() {
    for hints in [Hints::READ_TO_EAGAIN, Hints::FIN] {
        let mut rig = Rig::new();
        let splices = rig.source.splice_calls();
        rig.source.reads(&LARGE_READ).ends();
        rig.event(hints);
        assert_eq!((rig.source.splice_calls(), rig.flow.state()), (splices, State::Finished), "{hints:?}");
    }
}

#[test]
fn an_error_that_a_pipe_was_told_is_remembered_and_what_is_left_is_read() {
    let mut rig = Rig::new();
    rig.source.fails(ErrorKind::ConnectionReset).reads(b"left").ends();
    let before = rig.target.written().len();
    rig.event(Hints::READABLE);
    assert_eq!((rig.flow.state(), rig.from.first_error()), (State::Broken, Some(Fault::Reset)));
    assert_eq!((rig.news(before), rig.target.is_finished()), (b"left".to_vec(), false));
}

#[test]
fn a_stream_that_cannot_be_spliced_is_not_tried_again() {
    for kind in [ErrorKind::InvalidInput, ErrorKind::PermissionDenied, ErrorKind::Other] {
        let mut rig = Rig::new();
        rig.source.fails(kind);
        for _ in 0..8 {
            rig.source.reads(b"12345678");
        }
        let splices = rig.source.splice_calls();
        rig.event(Hints::READABLE);
        let (calls, state) = (rig.source.splice_calls(), rig.flow.state());
        assert_eq!((calls, state, rig.from.first_error()), (splices + 1, State::Open, None), "{kind:?}");
    }
}

#[test]
fn an_interrupted_splice_is_repeated() {
    let mut rig = Rig::new();
    let before = rig.target.written().len();
    rig.source.fails(ErrorKind::Interrupted).reads(&LARGE_READ);
    rig.target.refuses(ErrorKind::Interrupted);
    rig.event(Hints::READABLE);
    assert_eq!(rig.news(before), LARGE_READ);
}

#[test]
fn a_blocked_target_keeps_the_pipe_and_nothing_more_is_read() {
    let mut rig = Rig::new();
    let before = rig.target.written().len();
    rig.source.reads(&LARGE_READ).reads(&LARGE_READ);
    rig.target.takes(5).blocks();
    let splices = rig.source.splice_calls();
    rig.event(Hints::READABLE);
    rig.event(Hints::READABLE);
    assert_eq!((rig.source.splice_calls(), rig.pool.lent(), rig.news(before).len()), (splices + 1, 1, 5));
    rig.to.mark(Hints::WRITABLE);
    rig.event(Hints::READABLE);
    assert_eq!(rig.news(before), [LARGE_READ, LARGE_READ].concat());
    assert_eq!((rig.pool.lent(), rig.pool.pipes()), (0, 1));
}

#[test]
fn a_pipe_whose_target_failed_is_closed_with_what_is_in_it() {
    let mut rig = Rig::new();
    rig.source.reads(&LARGE_READ);
    rig.target.takes(5).refuses(ErrorKind::ConnectionReset);
    rig.event(Hints::READABLE);
    assert_eq!((rig.flow.state(), rig.to.first_error()), (State::Cut, Some(Fault::Reset)));
    assert_eq!((rig.pool.lent(), rig.pool.pipes()), (0, 0));
}

#[test]
fn epipe_behind_a_part_of_a_pipe_leaves_the_end_of_the_answer_to_the_kernels_count() {
    // The part before it may have swallowed a reset. The other direction reads what was answered: 6 bytes, and a FIN or
    // not.
    for (received, fault, finished) in [(7, Fault::Closed, true), (6, Fault::Reset, false)] {
        let mut rig = Rig::new();
        rig.source.reads(&LARGE_READ);
        rig.target.takes(5).refuses(ErrorKind::BrokenPipe);
        rig.event(Hints::READABLE);
        assert_eq!((rig.flow.state(), rig.to.first_error()), (State::Cut, Some(Fault::Closed)));
        rig.target.reads(b"answer").ends().received(received);
        let mut answer = Flow::new(None);
        answer.run(&mut rig.to, &mut rig.from, &mut rig.pool, 100);
        assert_eq!((rig.source.written(), rig.source.is_finished()), (b"answer".to_vec(), finished));
        assert_eq!(rig.to.first_error(), Some(fault));
    }

    // Where nothing was swallowed, EPIPE is enough.
    let mut rig = Rig::new();
    rig.source.reads(&LARGE_READ);
    rig.target.refuses(ErrorKind::BrokenPipe);
    rig.event(Hints::READABLE);
    rig.target.reads(b"answer").ends();
    let mut answer = Flow::new(None);
    answer.run(&mut rig.to, &mut rig.from, &mut rig.pool, 100);
    assert_eq!((rig.source.written(), rig.source.is_finished()), (b"answer".to_vec(), true));
}

/// Found by the simulation (seed 0x2b666 of its time).
#[test]
fn a_read_that_fails_leaves_no_doubt_how_it_ended() {
    let mut rig = Rig::new();
    rig.source.reads(&LARGE_READ);
    rig.target.takes(5).refuses(ErrorKind::BrokenPipe);
    rig.event(Hints::READABLE);
    // Whatever the kernel counted.
    rig.target.reads(b"answer").fails(ErrorKind::ConnectionReset).received(7);
    let mut answer = Flow::new(None);
    answer.run(&mut rig.to, &mut rig.from, &mut rig.pool, 100);
    assert_eq!((rig.source.written(), rig.source.is_finished()), (b"answer".to_vec(), false));
    assert_eq!(answer.state(), State::Broken);
}

#[test]
fn a_push_of_nothing_is_an_error_and_not_a_loop() {
    let mut rig = Rig::new();
    rig.source.reads(&LARGE_READ);
    rig.target.takes(0);
    rig.event(Hints::READABLE);
    assert_eq!((rig.flow.state(), rig.to.first_error()), (State::Cut, Some(Fault::Reset)));
}

#[test]
fn what_cannot_be_spliced_out_of_a_pipe_is_copied_and_nothing_is_spliced_again() {
    for (accepted, kind) in [(0, ErrorKind::PermissionDenied), (5, ErrorKind::OutOfMemory)] {
        let mut rig = Rig::new();
        let (before, splices) = (rig.target.written().len(), rig.source.splice_calls());
        if accepted > 0 {
            rig.target.takes(accepted).refuses(kind);
        }
        // What is copied is taken in two pieces.
        rig.target.refuses(kind).takes(7);
        rig.source.reads(&LARGE_READ).reads(&LARGE_READ);
        rig.event(Hints::READABLE);
        assert_eq!((rig.news(before).len(), rig.pool.lent()), (accepted + 7, 1), "{kind}");
        rig.to.mark(Hints::WRITABLE);
        rig.event(Hints::READABLE);
        assert!(rig.news(before) == [LARGE_READ, LARGE_READ].concat(), "{kind}");
        assert_eq!((rig.to.first_error(), rig.source.splice_calls()), (None, splices + 1), "{kind}");
        assert_eq!((rig.pool.lent(), rig.pool.pipes(), rig.pool.free()), (0, 1, 1), "{kind}");
        rig.source.ends();
        rig.event(Hints::READABLE);
        assert_eq!((rig.flow.state(), rig.flow.moved()), (State::Finished, rig.target.written().len() as u64));
    }
}

/// A splice is stopped in the middle by an error that is not the connection's. A later EPIPE could be what is left of a reset,
/// unless bytes were taken in between (seed 0x2a29d). Any other error says itself what it is (seed 0xb841).
#[test]
fn a_splice_that_failed_in_the_middle_leaves_a_doubt_until_bytes_are_taken() {
    for (takes_more, error, fault, finished) in [
        (true, ErrorKind::BrokenPipe, Fault::Closed, true),
        (false, ErrorKind::BrokenPipe, Fault::Reset, false),
        (false, ErrorKind::TimedOut, Fault::Timeout, false),
    ] {
        let mut rig = Rig::new();
        rig.source.reads(&LARGE_READ);
        rig.target.takes(5).refuses(ErrorKind::PermissionDenied);
        if takes_more {
            rig.target.takes(7).blocks();
        }
        rig.target.refuses(error);
        rig.event(Hints::READABLE);
        rig.to.mark(Hints::WRITABLE);
        rig.event(Hints::READABLE);
        assert!(rig.to.first_error().is_some(), "{error}");
        // The kernel has counted no FIN.
        rig.target.reads(b"answer").ends().received(6);
        let mut answer = Flow::new(None);
        answer.run(&mut rig.to, &mut rig.from, &mut rig.pool, 100);
        assert_eq!((rig.to.first_error(), rig.source.is_finished()), (Some(fault), finished), "{takes_more} {error}");
    }
}

#[test]
fn a_pipe_that_gives_nothing_back_is_a_shortage_and_no_fault_of_the_peer() {
    let mut rig = Rig::new();
    rig.source.reads(&LARGE_READ);
    rig.target.refuses(ErrorKind::PermissionDenied).cannot_read_pipes(ErrorKind::PermissionDenied);
    rig.event(Hints::READABLE);
    assert_eq!((rig.flow.state(), rig.to.first_error()), (State::Cut, Some(Fault::Resources)));
    assert_eq!((rig.flow.undelivered(), rig.pool.lent(), rig.pool.pipes()), (LARGE_READ.len(), 0, 0));
}

#[test]
fn without_a_pipe_bytes_are_copied() {
    let mut rig = Rig::new();
    rig.pool.close_spare_pipes();
    let (before, splices) = (rig.target.written().len(), rig.source.splice_calls());
    rig.source.reads(&LARGE_READ);
    rig.event(Hints::READABLE);
    assert_eq!((rig.source.splice_calls(), rig.news(before)), (splices, LARGE_READ.to_vec()));
    assert!(rig.pool.take_pipe_request());
}

#[test]
fn what_is_thrown_away_is_read() {
    let mut rig = Rig::new();
    rig.target.refuses(ErrorKind::BrokenPipe);
    rig.source.reads(&LARGE_READ).reads(&LARGE_READ);
    let splices = rig.source.splice_calls();
    rig.event(Hints::READABLE);
    assert_eq!((rig.flow.state(), rig.source.splice_calls()), (State::Cut, splices + 1));
}

#[test]
fn a_slice_is_one_pipe_of_four_times_as_much() {
    let mut rig = Rig::new();
    rig.source.reads(&LARGE_READ);
    rig.from.mark(Hints::READABLE);
    let before = rig.target.written().len();
    let pass = rig.flow.run(&mut rig.from, &mut rig.to, &mut rig.pool, 4 << 10);
    assert_eq!(
        (pass, rig.news(before).len()),
        (
            Pass {
                progress: true,
                discarded: false,
                slice_used_up: true,
                failed: false,
                spliced: 16 << 10,
                splice_error: None
            },
            16 << 10
        )
    );
}

#[test]
fn a_slice_is_over_with_one_pull_for_what_has_come_meanwhile_is_little() {
    let mut rig = Rig::new();
    rig.source.reads(&LARGE_READ).reads(&LARGE_READ);
    rig.from.mark(Hints::READABLE);
    let before = rig.target.written().len();
    let pass = rig.flow.run(&mut rig.from, &mut rig.to, &mut rig.pool, 1 << 20);
    assert_eq!(
        (pass, rig.news(before).len()),
        (
            Pass {
                progress: true,
                discarded: false,
                slice_used_up: true,
                failed: false,
                spliced: LARGE_READ.len(),
                splice_error: None
            },
            LARGE_READ.len()
        )
    );
}
