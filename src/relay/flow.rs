//! One direction of a pair: when a byte moves, when a FIN is passed on, what becomes of a direction that broke.

use super::pool::{Hold, Lease, Pool};
use super::side::{End, Got, Side};
use crate::net::Stream;

/// Bytes on their way from `source` to `target`, and how far along the end of them is.
///
/// ```text
///            the source ended with a FIN       all written: finish()
///   Open ──────────────► Flushing(Fin)   ─────────────────────────► Finished
///    ├──────────────────► Flushing(Reset) ────────────────────────► Broken     it ended without one
///    └──── the target failed, from anywhere ──────────────────────► Cut        now read the source and throw away
/// ```
/// A `Cut` flow does not end the other: the peer may have answered before it hung up, and the answer is still readable.
/// It goes on reading its source, or a client that uploads before it reads would never get its answer. A `Broken` flow
/// does end the other: that socket is dead both ways.
///
/// A flow knows nothing of client or upstream: a pair is two flows with the ends swapped.
///
/// Small messages are copied through a buffer. Once a few reads have brought much, the flow is *bulk*, and
/// its bytes go through a pipe without being copied (`splice(2)`), until they get few again. A pipe only moves bytes:
/// what ended and how, read() alone tells.
#[derive(Debug)]
pub struct Flow<P> {
    state: State,
    /// Reads that have brought much since one brought little.
    streak: u8,
    /// Borrowed from the first byte read to the last byte written.
    lease: Option<Lease<P>>,
    moved: u64,
}

/// Reads that bring much, after which a flow is taken for bulk, unless one brings little.
pub const BULK: u8 = 2;

/// So many bytes at once are much, or a full buffer.
const MUCH: usize = 64 << 10;

/// Less than this share of that is little, and better copied than sent through a pipe: two calls and a page for each
/// piece cost more.
const LITTLE: usize = 4;

/// So many times as much is spliced as would be copied: it takes about as long.
const CHEAPER: usize = 4;

/// Where a flow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The source may still speak.
    Open,
    /// The source has ended like this, and what it said before is not all written yet.
    Flushing(End),
    /// Everything was written and the FIN behind it.
    Finished,
    /// Everything that came was written, and the source is dead.
    Broken,
    /// The target takes nothing any more.
    Cut,
}

/// What one run of a flow did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// A byte or a state moved.
    pub progress: bool,
    /// It stopped because its slice was used up, not because a socket was. No event will follow: queue it.
    pub spent: bool,
}

impl<P> Flow<P> {
    /// A flow that has moved nothing.
    pub(super) const fn new() -> Self {
        Self { state: State::Open, streak: 0, lease: None, moved: 0 }
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Bytes that the target's kernel accepted.
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// Does it hold bytes that were read and not yet written?
    pub const fn holds(&self) -> bool {
        self.lease.is_some()
    }

    /// Does it hold bytes in a pipe?
    fn splices(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_pipe)
    }

    /// Has it more to do than a slice, as far as its last reads tell?
    pub const fn is_bulk(&self) -> bool {
        matches!(self.state, State::Open) && self.streak >= BULK
    }

    /// Will nothing more be written to the target?
    pub const fn is_over(&self) -> bool {
        match self.state {
            State::Open | State::Flushing(_) => false,
            State::Finished | State::Broken | State::Cut => true,
        }
    }

    /// Moves what can be moved now, reading at most `slice` bytes and the rest of one buffer, or one pipe of a few
    /// times as much.
    pub fn run<S: Stream<Pipe = P>>(
        &mut self,
        source: &mut Side<S>,
        target: &mut Side<S>,
        pool: &mut Pool<P>,
        mut slice: usize,
    ) -> Pass {
        let mut pass = Pass::default();
        loop {
            if target.fault().is_some() && !self.is_over() {
                pass.progress = true;
                self.cut(pool);
            }
            if let Some(lease) = &mut self.lease {
                if !target.is_writable() {
                    return pass;
                }
                let count = match lease.hold() {
                    Hold::Buffer { bytes, start, end } => target.write(&bytes[*start..*end]),
                    Hold::Pipe { pipe, held } => target.push(pipe, *held),
                };
                lease.taken(count);
                self.moved += count as u64;
                pass.progress |= count > 0;
                if lease.held() == 0 {
                    self.give_back(pool);
                }
                continue;
            }
            match self.state {
                // Do not read while the target is blocked: the bytes wait in the kernel, the TCP window does the rest.
                State::Open if !source.is_readable() || !target.is_writable() => return pass,
                State::Cut if !source.is_readable() => return pass,
                State::Open | State::Cut if slice == 0 => {
                    pass.spent = true;
                    return pass;
                }
                State::Open | State::Cut => {
                    let got = self.read(source, pool, slice);
                    match got {
                        // What has come meanwhile would be little: others first.
                        Got::Bytes(_) if self.splices() => slice = 0,
                        Got::Bytes(count) => slice = slice.saturating_sub(count),
                        Got::Nothing => {}
                        // Nothing is held here, so what was written is what was read.
                        Got::End(end) if self.state == State::Open => {
                            self.state = State::Flushing(source.decide(end, self.moved));
                        }
                        Got::End(_) => {}
                    }
                    pass.progress |= got != Got::Nothing;
                }
                State::Flushing(End::Fin) => {
                    target.finish();
                    if target.fault().is_none() {
                        self.state = State::Finished;
                    }
                    pass.progress = true;
                }
                State::Flushing(End::Reset) => {
                    self.state = State::Broken;
                    pass.progress = true;
                }
                State::Finished | State::Broken => return pass,
            }
        }
    }

    /// Gives up on the target: what is held is dropped, what comes is thrown away.
    pub(super) fn cut(&mut self, pool: &mut Pool<P>) {
        if !self.is_over() {
            self.state = State::Cut;
            self.give_back(pool);
        }
    }

    /// Reads once into a fresh lease, and keeps it only if there is something in it for the target.
    fn read<S: Stream<Pipe = P>>(&mut self, source: &mut Side<S>, pool: &mut Pool<P>, slice: usize) -> Got {
        if let Some(count) = self.pull(source, pool, slice.saturating_mul(CHEAPER)) {
            return Got::Bytes(count);
        }
        let mut lease = pool.lend();
        let got = source.read(lease.room());
        if let Got::Bytes(count) = got {
            self.judge(count, pool);
        }
        match got {
            Got::Bytes(count) if self.state == State::Open => {
                lease.filled(count);
                self.lease = Some(lease);
            }
            Got::Bytes(_) | Got::Nothing | Got::End(_) => pool.take_back(lease),
        }
        got
    }

    /// Fills a pipe, if this flow may have one. None says nothing: read on.
    fn pull<S: Stream<Pipe = P>>(&mut self, source: &mut Side<S>, pool: &mut Pool<P>, most: usize) -> Option<usize> {
        if self.state != State::Open || !source.may_be_spliced() {
            return None;
        }
        let mut lease = pool.lend_pipe(self.streak)?;
        let count = lease.pipe().map_or(0, |pipe| source.pull(pipe, most));
        if count == 0 {
            pool.take_back(lease);
            return None;
        }
        self.judge(count, pool);
        pool.count_spliced(count);
        lease.filled(count);
        self.lease = Some(lease);
        Some(count)
    }

    /// Learns from what a read brought. What is neither much nor little says nothing: the sender's window decides.
    fn judge(&mut self, count: usize, pool: &Pool<P>) {
        let much = pool.size().min(MUCH);
        if count >= much {
            self.streak = self.streak.saturating_add(1);
        } else if count < much / LITTLE {
            self.streak = 0;
        }
    }

    /// Returns the lease. Every way out of a session comes through here, or the pool would count for ever.
    pub(super) fn give_back(&mut self, pool: &mut Pool<P>) {
        if let Some(lease) = self.lease.take() {
            pool.take_back(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::super::pool::Splicing;
    use super::super::script::Script;
    use super::*;
    use crate::net::Bits;
    use crate::relay::side::Fault;

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
            Self {
                flow: Flow::new(),
                pool: Pool::new(8, Splicing { after: BULK, pipes_max: 1 }),
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
}
