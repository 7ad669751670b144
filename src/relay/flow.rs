//! One direction of a pair: when a byte moves, when a FIN is passed on, what becomes of a direction that broke.

use std::num::NonZeroI32;

use super::bulk::Bulk;
use super::input::End;
use super::lease::{Lease, Storage};
use super::pool::Pool;
use super::side::{ReadResult, Side};
use crate::net::Stream;

/// Bytes on their way from `source` to `target`, and how far along their end is.
///
/// ```text
///            the source ended with a FIN       all written: shutdown_write()
///   Open ──────────────► Flushing(Fin)   ─────────────────────────► Finished
///    ├──────────────────► Flushing(Reset) ────────────────────────► Broken     it ended without one
///    └──── the target failed, from anywhere ──────────────────────► Cut        now read the source and throw away
/// ```
/// A `Cut` flow does not end the other: the peer may have answered before it hung up, and the answer is still readable.
/// It goes on reading its source, otherwise a client that uploads before it reads would never get its answer. A
/// `Broken` flow does end the other: that socket is dead both ways.
///
/// A flow knows nothing of client or upstream: a pair is two flows with the ends swapped.
///
/// Small messages are copied through a buffer. After a few large reads the flow is *bulk* and its bytes go through a
/// pipe without being copied (`splice(2)`), until reads become small again. A pipe only moves bytes: only read() tells
/// what ended and how.
#[derive(Debug)]
pub struct Flow<P> {
    state: State,
    bulk: Bulk,
    /// Bytes that `moved` will not count: what is still to be written of the preface's header, or, once the flow is cut,
    /// what it held then and dropped.
    uncounted: u32,
    /// Set by the pair: the source's FIN was read before that of the other flow's source.
    pub(super) finished_first: bool,
    /// The source failed before the target did.
    pub(super) failed_first: bool,
    /// Borrowed from the first byte read to the last byte written.
    lease: Option<Lease<P>>,
    moved: u64,
}

/// A pipe takes this many times the slice of a buffer: splicing it takes about as long as copying one slice.
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
    /// The target takes nothing any more: bytes were thrown away, or may be from now on.
    pub discarded: bool,
    /// It stopped because its slice was used up, not because a socket was. No event will follow: queue it.
    pub slice_used_up: bool,
    /// A side was found to have failed. The other flow has something to find out, and no event may announce it: run the
    /// session again.
    pub failed: bool,
    /// Bytes that went into a pipe.
    pub spliced: usize,
    /// Splice does not work here, with this error number; the bytes were copied.
    pub splice_error: Option<NonZeroI32>,
}

/// What splicing did in one run.
#[derive(Default)]
struct Splicing {
    spliced: usize,
    error: Option<NonZeroI32>,
}

/// Bytes a flow starts with, before it has read any: a header to send, or what was read too far behind one.
#[derive(Debug)]
pub struct Preface<P> {
    lease: Lease<P>,
    uncounted: u16,
}

impl<P> Preface<P> {
    /// A header to send before what the source says. It is not counted among the bytes moved.
    ///
    /// # Panics
    /// When the header is larger than 65,535 bytes.
    pub fn header(header: &[u8], pool: &mut Pool<P>) -> Self {
        Self::new(header, &[], pool)
    }

    /// A header to send, and behind it what the source has said already. Only that is counted.
    pub(super) fn new(header: &[u8], rest: &[u8], pool: &mut Pool<P>) -> Self {
        let uncounted = u16::try_from(header.len()).unwrap_or(u16::MAX);
        assert_eq!(usize::from(uncounted), header.len(), "a header has at most 65,535 bytes");
        let size = header.len() + rest.len();
        let mut lease = if size <= pool.size() { pool.lend() } else { pool.lend_sized(size) };
        for bytes in [header, rest] {
            lease.room()[..bytes.len()].copy_from_slice(bytes);
            lease.filled(bytes.len());
        }
        Self { lease, uncounted }
    }

    /// What the source has said already, and is in this lease.
    pub(super) fn rest(lease: Lease<P>) -> Self {
        Self { lease, uncounted: 0 }
    }
}

impl<P> Flow<P> {
    /// A flow that has moved nothing. It begins with the preface.
    pub(super) fn new(preface: Option<Preface<P>>) -> Self {
        let (lease, uncounted) = match preface {
            Some(Preface { lease, uncounted }) => (Some(lease), uncounted.into()),
            None => (None, 0),
        };
        let (finished_first, failed_first) = (false, false);
        Self { state: State::Open, bulk: Bulk::new(), uncounted, finished_first, failed_first, lease, moved: 0 }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Bytes that the target's kernel accepted, without the header of a preface.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Does it hold bytes that were read and not yet written?
    pub fn holds(&self) -> bool {
        self.lease.is_some()
    }

    /// Bytes that were read for the target and not written, also those that were dropped when it failed. Neither a header
    /// nor what is thrown away later is among them.
    pub(super) fn undelivered(&self) -> usize {
        let uncounted = usize::try_from(self.uncounted).unwrap_or(usize::MAX);
        match &self.lease {
            Some(lease) => lease.held().saturating_sub(uncounted),
            None if self.state == State::Cut => uncounted,
            None => 0,
        }
    }

    /// Does it hold bytes in a pipe?
    fn splices(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_pipe)
    }

    /// Has it more to do than a slice, as far as its last reads tell?
    pub fn is_bulk(&self) -> bool {
        self.state == State::Open && self.bulk.is_proven()
    }

    /// Will nothing more be written to the target?
    pub fn is_over(&self) -> bool {
        match self.state {
            State::Open | State::Flushing(_) => false,
            State::Finished | State::Broken | State::Cut => true,
        }
    }

    /// Moves what can be moved now. Reads at most `slice` bytes and the rest of one buffer, or one pipe of
    /// a few times as much.
    pub fn run<S: Stream<Pipe = P>>(
        &mut self,
        source: &mut Side<S>,
        target: &mut Side<S>,
        pool: &mut Pool<P>,
        mut slice: usize,
    ) -> Pass {
        // Locals, not fields of the result: single bytes that are stored and then loaded as a word would stall the processor.
        let (mut progress, mut slice_used_up, mut splicing) = (false, false, Splicing::default());
        loop {
            if target.first_error().is_some() && !self.is_over() {
                progress = true;
                self.cut(pool);
                if source.is_reset_by_unread() && target.is_dead() {
                    // See `Pair::is_left_unread`, which decides whether it is read all the same.
                    break;
                }
            }
            if let Some(lease) = &mut self.lease {
                if !target.is_writable() {
                    break;
                }
                let count = match lease.storage() {
                    Storage::Buffer { bytes, start, end } => target.write(&bytes[*start..*end]),
                    Storage::Pipe { pipe, held } => match target.splice_out(pipe, *held) {
                        Ok(count) => count,
                        Err(error) => {
                            splicing.error = error.raw_os_error().and_then(NonZeroI32::new);
                            source.stop_splicing();
                            self.empty_pipe(target, pool);
                            continue;
                        }
                    },
                };
                lease.taken(count);
                progress |= count > 0;
                if lease.held() == 0 {
                    self.give_back(pool);
                }
                self.count(count);
                continue;
            }
            match self.state {
                // Do not read while the target is blocked: the bytes wait in the kernel, the TCP window does the rest.
                State::Open if !source.is_readable() || !target.is_writable() => break,
                State::Cut if !source.is_readable() => break,
                State::Open | State::Cut if slice == 0 => {
                    slice_used_up = true;
                    break;
                }
                State::Open | State::Cut => {
                    let result = self.read(source, pool, slice, &mut splicing);
                    self.failed_first |= source.first_error().is_some() && target.first_error().is_none();
                    match result {
                        // Little has arrived since. Let others run first.
                        ReadResult::Bytes(_) if self.splices() => slice = 0,
                        ReadResult::Bytes(count) => slice = slice.saturating_sub(count),
                        ReadResult::Nothing => {}
                        ReadResult::End(end) if self.state == State::Open => self.state = State::Flushing(end),
                        ReadResult::End(_) => {}
                    }
                    progress |= result != ReadResult::Nothing;
                }
                State::Flushing(End::Fin) => {
                    target.shutdown_write();
                    if target.first_error().is_none() {
                        self.state = State::Finished;
                    }
                    progress = true;
                }
                State::Flushing(End::Reset) => {
                    self.state = State::Broken;
                    progress = true;
                }
                State::Finished | State::Broken => break,
            }
        }
        let discarded = progress && self.state == State::Cut;
        let Splicing { spliced, error: splice_error } = splicing;
        Pass { progress, discarded, slice_used_up, failed: false, spliced, splice_error }
    }

    /// The target took `count` bytes.
    fn count(&mut self, count: usize) {
        let header = self.uncounted.min(u32::try_from(count).unwrap_or(u32::MAX));
        self.uncounted -= header;
        self.moved += count as u64 - u64::from(header);
    }

    /// Gives up on the target: what is held is dropped, what comes is thrown away.
    pub(super) fn cut(&mut self, pool: &mut Pool<P>) {
        if !self.is_over() {
            self.uncounted = u32::try_from(self.undelivered()).unwrap_or(u32::MAX);
            self.state = State::Cut;
            self.give_back(pool);
        }
    }

    /// Reads once into a fresh lease, and keeps it only if there is something in it for the target.
    fn read<S: Stream<Pipe = P>>(
        &mut self,
        source: &mut Side<S>,
        pool: &mut Pool<P>,
        slice: usize,
        splicing: &mut Splicing,
    ) -> ReadResult {
        let spliced = self.splice_in(source, pool, slice.saturating_mul(SPLICE_SLICE_FACTOR), splicing);
        if spliced > 0 {
            return ReadResult::Bytes(spliced);
        }
        let mut lease = pool.lend();
        let result = source.read(lease.room());
        if let ReadResult::Bytes(count) = result {
            self.bulk.observe(count, pool.size());
        }
        match result {
            ReadResult::Bytes(count) if self.state == State::Open => {
                lease.filled(count);
                self.lease = Some(lease);
            }
            ReadResult::Bytes(_) | ReadResult::Nothing | ReadResult::End(_) => pool.take_back(lease),
        }
        result
    }

    /// Fills a pipe, if this flow may have one. 0 says nothing: read on.
    fn splice_in<S: Stream<Pipe = P>>(
        &mut self,
        source: &mut Side<S>,
        pool: &mut Pool<P>,
        most: usize,
        splicing: &mut Splicing,
    ) -> usize {
        if self.state != State::Open || !source.may_be_spliced() {
            return 0;
        }
        let Some(mut lease) = pool.lend_pipe(self.bulk) else { return 0 };
        let count = match lease.pipe().map_or(Ok(0), |pipe| source.splice_in(pipe, most)) {
            Ok(count) => count,
            Err(error) => {
                splicing.error = error.raw_os_error().and_then(NonZeroI32::new);
                0
            }
        };
        if count == 0 {
            pool.take_back(lease);
            return 0;
        }
        self.bulk.observe(count, pool.size());
        splicing.spliced += count;
        lease.filled(count);
        self.lease = Some(lease);
        count
    }

    /// Nothing can be spliced out of the pipe that is held: what is in it goes to a buffer of that size.
    fn empty_pipe<S: Stream<Pipe = P>>(&mut self, target: &mut Side<S>, pool: &mut Pool<P>) {
        let Some(mut full) = self.lease.take() else { return };
        let held = full.held();
        let mut lease = pool.lend_sized(held);
        if full.pipe().is_some_and(|pipe| target.read_pipe(pipe, lease.room())) {
            lease.filled(held);
            full.taken(held);
            (lease, full) = (full, lease);
        }
        pool.take_back(lease);
        self.lease = Some(full);
    }

    /// Returns the lease. Every way out of a session must call this, otherwise the pool counts the lease as lent for ever.
    pub(super) fn give_back(&mut self, pool: &mut Pool<P>) {
        if let Some(lease) = self.lease.take() {
            pool.take_back(lease);
        }
    }
}
