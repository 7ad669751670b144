//! One direction of a pair: when a byte moves, when a FIN is passed on, what becomes of a direction that broke.

use super::pool::{Lease, Pool, Storage};
use super::side::{End, ReadResult, Side};
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
    large_reads: u8,
    /// Borrowed from the first byte read to the last byte written.
    lease: Option<Lease<P>>,
    moved: u64,
}

/// Reads that bring much, after which a flow is taken for bulk, unless one brings little.
pub const LARGE_READS_FOR_BULK: u8 = 2;

/// So many bytes at once are much, or a full buffer.
const LARGE_READ: usize = 64 << 10;

/// Less than this share of that is little, and better copied than sent through a pipe: two calls and a page for each
/// piece cost more.
const SMALL_READ_DIVISOR: usize = 4;

/// So many times as much is spliced as would be copied: it takes about as long.
const SPLICE_SLICE_FACTOR: usize = 4;

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
    pub slice_used_up: bool,
}

impl<P> Flow<P> {
    /// A flow that has moved nothing.
    pub(super) const fn new() -> Self {
        Self { state: State::Open, large_reads: 0, lease: None, moved: 0 }
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
        matches!(self.state, State::Open) && self.large_reads >= LARGE_READS_FOR_BULK
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
                let count = match lease.storage() {
                    Storage::Buffer { bytes, start, end } => target.write(&bytes[*start..*end]),
                    Storage::Pipe { pipe, held } => target.splice_out(pipe, *held),
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
                    pass.slice_used_up = true;
                    return pass;
                }
                State::Open | State::Cut => {
                    let got = self.read(source, pool, slice);
                    match got {
                        // What has come meanwhile would be little: others first.
                        ReadResult::Bytes(_) if self.splices() => slice = 0,
                        ReadResult::Bytes(count) => slice = slice.saturating_sub(count),
                        ReadResult::Nothing => {}
                        // Nothing is held here, so what was written is what was read.
                        ReadResult::End(end) if self.state == State::Open => {
                            self.state = State::Flushing(source.settle_doubt(end, self.moved));
                        }
                        ReadResult::End(_) => {}
                    }
                    pass.progress |= got != ReadResult::Nothing;
                }
                State::Flushing(End::Fin) => {
                    target.shutdown_write();
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
    fn read<S: Stream<Pipe = P>>(&mut self, source: &mut Side<S>, pool: &mut Pool<P>, slice: usize) -> ReadResult {
        if let Some(count) = self.splice_in(source, pool, slice.saturating_mul(SPLICE_SLICE_FACTOR)) {
            return ReadResult::Bytes(count);
        }
        let mut lease = pool.lend();
        let got = source.read(lease.room());
        if let ReadResult::Bytes(count) = got {
            self.observe(count, pool);
        }
        match got {
            ReadResult::Bytes(count) if self.state == State::Open => {
                lease.filled(count);
                self.lease = Some(lease);
            }
            ReadResult::Bytes(_) | ReadResult::Nothing | ReadResult::End(_) => pool.take_back(lease),
        }
        got
    }

    /// Fills a pipe, if this flow may have one. None says nothing: read on.
    fn splice_in<S: Stream<Pipe = P>>(
        &mut self,
        source: &mut Side<S>,
        pool: &mut Pool<P>,
        most: usize,
    ) -> Option<usize> {
        if self.state != State::Open || !source.may_be_spliced() {
            return None;
        }
        let mut lease = pool.lend_pipe(self.large_reads)?;
        let count = lease.pipe().map_or(0, |pipe| source.splice_in(pipe, most));
        if count == 0 {
            pool.take_back(lease);
            return None;
        }
        self.observe(count, pool);
        pool.count_spliced(count);
        lease.filled(count);
        self.lease = Some(lease);
        Some(count)
    }

    /// Learns from what a read brought. What is neither much nor little says nothing: the sender's window decides.
    fn observe(&mut self, count: usize, pool: &Pool<P>) {
        let much = pool.size().min(LARGE_READ);
        if count >= much {
            self.large_reads = self.large_reads.saturating_add(1);
        } else if count < much / SMALL_READ_DIVISOR {
            self.large_reads = 0;
        }
    }

    /// Returns the lease. Every way out of a session comes through here, or the pool would count for ever.
    pub(super) fn give_back(&mut self, pool: &mut Pool<P>) {
        if let Some(lease) = self.lease.take() {
            pool.take_back(lease);
        }
    }
}
