//! Tests of flows that go through pipes: a pipe moves bytes, and nothing that it says is an end.

use std::io::ErrorKind;

use super::flow::{BULK, Flow, Pass, State};
use super::pool::{Pool, Splicing};
use super::script::Script;
use super::side::{Fault, Side};
use crate::net::Bits;

/// Enough to stay bulk.
static MUCH: [u8; 20 << 10] = [7; 20 << 10];

/// A flow through buffers of 8 bytes, and one pipe. It begins with two full reads, so that what comes next is pulled.
struct Bench {
    flow: Flow<Vec<u8>>,
    pool: Pool<Vec<u8>>,
    from: Side<Script>,
    to: Side<Script>,
    source: Script,
    target: Script,
}

impl Bench {
    /// One that has read nothing yet, with buffers of this size.
    fn fresh(size: usize) -> Self {
        let (source, target) = (Script::new(), Script::new());
        let mut pool = Pool::new(size, Splicing { after: BULK, pipes_max: 1 });
        pool.add_pipe(Vec::new());
        let (from, to) = (Side::new(source.clone()), Side::new(target.clone()));
        Self { flow: Flow::new(), pool, from, to, source, target }
    }

    fn new() -> Self {
        let mut bench = Self::fresh(8);
        bench.source.reads(b"12345678").reads(b"abcdefgh");
        bench.event(Bits::READABLE);
        assert_eq!((bench.source.pull_calls(), bench.flow.is_bulk()), (1, true), "the third finds nothing");
        assert_eq!(bench.source.read_calls(), 3, "which reading tells");
        bench
    }

    fn event(&mut self, bits: Bits) {
        self.from.mark(bits);
        // A flow that has used up its slice is run again, after others.
        while self.flow.run(&mut self.from, &mut self.to, &mut self.pool, 1 << 20).spent {}
    }

    /// What was written since this was last asked.
    fn news(&self, before: usize) -> Vec<u8> {
        self.target.written().split_off(before)
    }
}

#[test]
fn what_fills_buffers_is_spliced_and_what_does_not_is_copied() {
    let mut bench = Bench::new();
    let (before, pulls) = (bench.target.written().len(), bench.source.pull_calls());
    bench.source.reads(&MUCH).reads(b"l").reads(b"by little");
    bench.event(Bits::READABLE);
    assert_eq!(bench.source.pull_calls(), pulls + 2, "one brings much, the next little, and then it is copied");
    assert_eq!(bench.news(before), [&MUCH[..], b"l", b"by little"].concat());
    assert_eq!(bench.flow.moved(), bench.target.written().len() as u64);
    assert_eq!((bench.flow.is_bulk(), bench.pool.lent(), bench.pool.pipes()), (false, 0, 1));
}

#[test]
fn only_a_read_of_little_speaks_against_bulk() {
    for (between, is_bulk) in [(&b"12"[..], true), (b"1", false)] {
        let mut bench = Bench::fresh(8);
        bench.source.reads(b"12345678");
        bench.event(Bits::READABLE);
        bench.source.reads(between);
        bench.event(Bits::READABLE);
        bench.source.reads(b"12345678");
        bench.event(Bits::READABLE);
        assert_eq!(bench.flow.is_bulk(), is_bulk, "{between:?}");
    }
}

#[test]
fn a_large_buffer_need_not_be_filled() {
    let mut bench = Bench::fresh(16 << 20);
    let much = vec![7; 64 << 10];
    for (read, is_bulk) in [(&much[1..], false), (&much, false), (&much[1..], false), (&much, true)] {
        bench.source.reads(read);
        bench.event(Bits::READABLE);
        assert_eq!(bench.flow.is_bulk(), is_bulk);
    }
    // A pipe never holds so much as one of these buffers, and that is no reason to go back.
    bench.source.reads(&much);
    bench.event(Bits::READABLE);
    assert_eq!((bench.flow.is_bulk(), bench.pool.spliced()), (true, 64 << 10));
    bench.source.reads(&much[..(16 << 10) - 1]);
    bench.event(Bits::READABLE);
    assert!(!bench.flow.is_bulk());
}

#[test]
fn a_pipe_that_says_nothing_more_comes_is_not_believed() {
    let mut bench = Bench::new();
    // A mark: splice says 0 there, and there is more behind it.
    bench.source.pull_says_nothing().reads(b"more");
    let before = bench.target.written().len();
    bench.event(Bits::READABLE);
    assert_eq!((bench.flow.state(), bench.news(before)), (State::Open, b"more".to_vec()));
    bench.source.ends();
    bench.event(Bits::READABLE);
    assert_eq!((bench.flow.state(), bench.target.is_finished()), (State::Finished, true));
}

#[test]
fn a_stream_with_a_mark_or_an_end_in_sight_is_read() {
    for bits in [Bits::EAGER, Bits::FIN] {
        let mut bench = Bench::new();
        let pulls = bench.source.pull_calls();
        bench.source.reads(&MUCH).ends();
        bench.event(bits);
        assert_eq!((bench.source.pull_calls(), bench.flow.state()), (pulls, State::Finished), "{bits:?}");
    }
}

#[test]
fn an_error_that_a_pipe_was_told_is_remembered_and_what_is_left_is_read() {
    let mut bench = Bench::new();
    bench.source.fails(ErrorKind::ConnectionReset).reads(b"left").ends();
    let before = bench.target.written().len();
    bench.event(Bits::READABLE);
    assert_eq!((bench.flow.state(), bench.from.fault()), (State::Broken, Some(Fault::Reset)));
    assert_eq!((bench.news(before), bench.target.is_finished()), (b"left".to_vec(), false));
}

#[test]
fn a_stream_that_cannot_be_spliced_is_not_tried_again() {
    let mut bench = Bench::new();
    bench.source.fails(ErrorKind::InvalidInput);
    for _ in 0..8 {
        bench.source.reads(b"12345678");
    }
    let pulls = bench.source.pull_calls();
    bench.event(Bits::READABLE);
    assert_eq!((bench.source.pull_calls(), bench.flow.state(), bench.from.fault()), (pulls + 1, State::Open, None));
}

#[test]
fn an_interrupted_splice_is_repeated() {
    let mut bench = Bench::new();
    let before = bench.target.written().len();
    bench.source.fails(ErrorKind::Interrupted).reads(&MUCH);
    bench.target.refuses(ErrorKind::Interrupted);
    bench.event(Bits::READABLE);
    assert_eq!(bench.news(before), MUCH);
}

#[test]
fn a_blocked_target_keeps_the_pipe_and_nothing_more_is_read() {
    let mut bench = Bench::new();
    let before = bench.target.written().len();
    bench.source.reads(&MUCH).reads(&MUCH);
    bench.target.takes(5).blocks();
    let pulls = bench.source.pull_calls();
    bench.event(Bits::READABLE);
    bench.event(Bits::READABLE);
    assert_eq!((bench.source.pull_calls(), bench.pool.lent(), bench.news(before).len()), (pulls + 1, 1, 5));
    bench.to.mark(Bits::WRITABLE);
    bench.event(Bits::READABLE);
    assert_eq!(bench.news(before), [MUCH, MUCH].concat());
    assert_eq!((bench.pool.lent(), bench.pool.pipes()), (0, 1));
}

#[test]
fn a_pipe_whose_target_failed_is_closed_with_what_is_in_it() {
    let mut bench = Bench::new();
    bench.source.reads(&MUCH);
    bench.target.takes(5).refuses(ErrorKind::ConnectionReset);
    bench.event(Bits::READABLE);
    assert_eq!((bench.flow.state(), bench.to.fault()), (State::Cut, Some(Fault::Reset)));
    assert_eq!((bench.pool.lent(), bench.pool.pipes()), (0, 0));
}

#[test]
fn epipe_behind_a_part_of_a_pipe_leaves_the_end_of_the_answer_to_the_kernels_count() {
    // The part before it may have swallowed a reset. The other direction reads what was answered: 6 bytes, and a FIN or
    // not.
    for (received, fault, finished) in [(7, Fault::Closed, true), (6, Fault::Reset, false)] {
        let mut bench = Bench::new();
        bench.source.reads(&MUCH);
        bench.target.takes(5).refuses(ErrorKind::BrokenPipe);
        bench.event(Bits::READABLE);
        assert_eq!((bench.flow.state(), bench.to.fault()), (State::Cut, Some(Fault::Closed)));
        bench.target.reads(b"answer").ends().received(received);
        let mut answer = Flow::new();
        answer.run(&mut bench.to, &mut bench.from, &mut bench.pool, 100);
        assert_eq!((bench.source.written(), bench.source.is_finished()), (b"answer".to_vec(), finished));
        assert_eq!(bench.to.fault(), Some(fault));
    }

    // Where nothing was swallowed, EPIPE is enough.
    let mut bench = Bench::new();
    bench.source.reads(&MUCH);
    bench.target.refuses(ErrorKind::BrokenPipe);
    bench.event(Bits::READABLE);
    bench.target.reads(b"answer").ends();
    let mut answer = Flow::new();
    answer.run(&mut bench.to, &mut bench.from, &mut bench.pool, 100);
    assert_eq!((bench.source.written(), bench.source.is_finished()), (b"answer".to_vec(), true));
}

/// Found by the simulation (seed 0x2b666 of its time).
#[test]
fn a_read_that_fails_leaves_no_doubt_how_it_ended() {
    let mut bench = Bench::new();
    bench.source.reads(&MUCH);
    bench.target.takes(5).refuses(ErrorKind::BrokenPipe);
    bench.event(Bits::READABLE);
    // Whatever the kernel counted.
    bench.target.reads(b"answer").fails(ErrorKind::ConnectionReset).received(7);
    let mut answer = Flow::new();
    answer.run(&mut bench.to, &mut bench.from, &mut bench.pool, 100);
    assert_eq!((bench.source.written(), bench.source.is_finished()), (b"answer".to_vec(), false));
    assert_eq!(answer.state(), State::Broken);
}

#[test]
fn a_push_of_nothing_is_an_error_and_not_a_loop() {
    let mut bench = Bench::new();
    bench.source.reads(&MUCH);
    bench.target.takes(0);
    bench.event(Bits::READABLE);
    assert_eq!((bench.flow.state(), bench.to.fault()), (State::Cut, Some(Fault::Reset)));
}

#[test]
fn without_a_pipe_bytes_are_copied() {
    let mut bench = Bench::new();
    bench.pool.close_spare_pipes();
    let (before, pulls) = (bench.target.written().len(), bench.source.pull_calls());
    bench.source.reads(&MUCH);
    bench.event(Bits::READABLE);
    assert_eq!((bench.source.pull_calls(), bench.news(before)), (pulls, MUCH.to_vec()));
    assert!(bench.pool.wants_pipe());
}

#[test]
fn what_is_thrown_away_is_read() {
    let mut bench = Bench::new();
    bench.target.refuses(ErrorKind::BrokenPipe);
    bench.source.reads(&MUCH).reads(&MUCH);
    let pulls = bench.source.pull_calls();
    bench.event(Bits::READABLE);
    assert_eq!((bench.flow.state(), bench.source.pull_calls()), (State::Cut, pulls + 1));
}

#[test]
fn a_slice_is_one_pipe_of_four_times_as_much() {
    let mut bench = Bench::new();
    bench.source.reads(&MUCH);
    bench.from.mark(Bits::READABLE);
    let before = bench.target.written().len();
    let pass = bench.flow.run(&mut bench.from, &mut bench.to, &mut bench.pool, 4 << 10);
    assert_eq!((pass, bench.news(before).len()), (Pass { progress: true, spent: true }, 16 << 10));
}

#[test]
fn a_slice_is_over_with_one_pull_for_what_has_come_meanwhile_is_little() {
    let mut bench = Bench::new();
    bench.source.reads(&MUCH).reads(&MUCH);
    bench.from.mark(Bits::READABLE);
    let before = bench.target.written().len();
    let pass = bench.flow.run(&mut bench.from, &mut bench.to, &mut bench.pool, 1 << 20);
    assert_eq!((pass, bench.news(before).len()), (Pass { progress: true, spent: true }, MUCH.len()));
}
