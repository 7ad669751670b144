//! One direction of a pair: when a byte moves, when a FIN is passed on, what becomes of a direction that broke.

use super::pool::{Lease, Pool};
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
#[derive(Debug)]
pub struct Flow {
    state: State,
    /// Borrowed from the first byte read to the last byte written.
    lease: Option<Lease>,
    moved: u64,
}

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

impl Flow {
    /// A flow that has moved nothing.
    pub const fn new() -> Self {
        Self { state: State::Open, lease: None, moved: 0 }
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

    /// Will nothing more be written to the target?
    pub const fn is_over(&self) -> bool {
        match self.state {
            State::Open | State::Flushing(_) => false,
            State::Finished | State::Broken | State::Cut => true,
        }
    }

    /// Moves what can be moved now, reading at most `slice` bytes and the rest of one buffer.
    pub fn run<S: Stream>(
        &mut self,
        source: &mut Side<S>,
        target: &mut Side<S>,
        pool: &mut Pool,
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
                let count = target.write(lease.held());
                lease.taken(count);
                self.moved += count as u64;
                pass.progress |= count > 0;
                if lease.held().is_empty() {
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
                    let got = self.read(source, pool);
                    match got {
                        Got::Bytes(count) => slice = slice.saturating_sub(count),
                        Got::Nothing => {}
                        Got::End(end) if self.state == State::Open => self.state = State::Flushing(end),
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
    pub(super) fn cut(&mut self, pool: &mut Pool) {
        if !self.is_over() {
            self.state = State::Cut;
            self.give_back(pool);
        }
    }

    /// Reads once into a fresh lease, and keeps it only if there is something in it for the target.
    fn read<S: Stream>(&mut self, source: &mut Side<S>, pool: &mut Pool) -> Got {
        let mut lease = pool.lend();
        let got = source.read(lease.room());
        match got {
            Got::Bytes(count) if self.state == State::Open => {
                lease.filled(count);
                self.lease = Some(lease);
            }
            Got::Bytes(_) | Got::Nothing | Got::End(_) => pool.take_back(lease),
        }
        got
    }

    /// Returns the lease. Every way out of a session comes through here, or the pool would count for ever.
    pub(super) fn give_back(&mut self, pool: &mut Pool) {
        if let Some(lease) = self.lease.take() {
            pool.take_back(lease);
        }
    }
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}
