//! Two sides and the two flows between them: what one direction's end means for the other.

use std::time::Duration;

use super::flow::{Flow, Pass, Preface, State};
use super::input::{End, Fault};
use super::pool::Pool;
use super::side::Side;
use crate::net::{Hints, Peer, Stream};

/// The streams of a session while it relays.
///
/// ```text
///   up        down       fate
///   ────────  ────────   ─────────────────────────────────────────────────────────
///   Finished  Finished   Done(Fin)    both said everything: close
///   over      over       Done(Reset)  one is Broken or Cut: flush, then reset
///   any other            OneSideDead  if a socket is dead both ways, else Relaying
/// ```
#[derive(Debug)]
pub struct Pair<S: Stream> {
    client: Side<S>,
    upstream: Side<S>,
    up: Flow<S::Pipe>,
    down: Flow<S::Pipe>,
}

/// What is to become of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Relaying,
    /// One socket is dead both ways. What it sent before is still being delivered; then the other is reset.
    OneSideDead,
    /// Nothing more will be relayed; it ends like this.
    Done(End),
}

impl<S: Stream> Pair<S> {
    /// A pair that has relayed nothing. The upstream is sent the preface first.
    pub fn new(client: Side<S>, upstream: Side<S>, preface: Option<Preface<S::Pipe>>) -> Self {
        Self { client, upstream, up: Flow::new(preface), down: Flow::new(None) }
    }

    /// The side of this peer.
    pub fn side_mut(&mut self, peer: Peer) -> &mut Side<S> {
        match peer {
            Peer::Client => &mut self.client,
            Peer::Upstream => &mut self.upstream,
        }
    }

    fn side(&self, peer: Peer) -> &Side<S> {
        match peer {
            Peer::Client => &self.client,
            Peer::Upstream => &self.upstream,
        }
    }

    /// The flow that reads from this peer.
    pub fn flow(&self, source: Peer) -> &Flow<S::Pipe> {
        match source {
            Peer::Client => &self.up,
            Peer::Upstream => &self.down,
        }
    }

    fn flow_mut(&mut self, source: Peer) -> &mut Flow<S::Pipe> {
        match source {
            Peer::Client => &mut self.up,
            Peer::Upstream => &mut self.down,
        }
    }

    /// Remembers an event of this peer's stream. Returns whether its FIN was seen for the first time.
    pub fn mark(&mut self, peer: Peer, hints: Hints) -> bool {
        self.side_mut(peer).mark(hints)
    }

    /// Forgets every WouldBlock: the next run tries everything.
    pub fn assume_ready(&mut self) {
        self.client.assume_ready();
        self.upstream.assume_ready();
    }

    /// Moves what can be moved now from `source` to the other side: see [`Flow::run`].
    pub fn relay(&mut self, source: Peer, slice: usize, pool: &mut Pool<S::Pipe>) -> Pass {
        let mut pass = match source {
            _ if self.is_left_unread(source) => self.leave_unread(source, pool),
            Peer::Client => self.up.run(&mut self.client, &mut self.upstream, pool, slice),
            Peer::Upstream => self.down.run(&mut self.upstream, &mut self.client, pool, slice),
        };
        // SO_ERROR is asked after reading and writing, which tell of errors themselves: a read knows whether the FIN
        // came first. The flow notes if its source failed before its target.
        let target_failed = self.side_mut(source.other()).check_error();
        let source_failed = self.side_mut(source).check_error();
        if target_failed || source_failed {
            self.note_first_to_fail(source);
            pass.failed = true;
        }
        if pass.discarded {
            pass.progress = self.is_progress(source);
        }
        if self.side(source).has_finished() && self.first_fin().is_none() {
            self.flow_mut(source).finished_first = true;
        }
        pass
    }

    /// Is what comes from this peer to stay unread, because nothing else tells it of the reset that is coming (K21)? As soon
    /// as both flows are given up, or the other side is dead, unless this peer has something to take yet: one that must be
    /// read first may take it then.
    fn is_left_unread(&self, source: Peer) -> bool {
        self.side(source).is_reset_by_unread() && (self.is_given_up() || self.is_left_alone(source))
    }

    /// Will nobody be written to any more?
    fn is_given_up(&self) -> bool {
        self.up.state() == State::Cut && self.down.state() == State::Cut
    }

    /// Is the other side dead, and nothing held for this peer?
    fn is_left_alone(&self, peer: Peer) -> bool {
        self.side(peer.other()).is_dead() && !self.flow(peer.other()).holds()
    }

    fn leave_unread(&mut self, source: Peer, pool: &mut Pool<S::Pipe>) -> Pass {
        let is_news = !self.flow(source).is_over();
        self.flow_mut(source).cut(pool);
        Pass { progress: is_news, ..Pass::default() }
    }

    /// Remembers which side failed first, after the flow from `source` has run. If both did, it was the target: a flow that
    /// finds its source failed first has noted it.
    fn note_first_to_fail(&mut self, source: Peer) {
        if self.first_to_fail().is_none() {
            let first = [source.other(), source].into_iter().find(|peer| self.side(*peer).first_error().is_some());
            first.into_iter().for_each(|peer| self.flow_mut(peer).failed_first = true);
        }
    }

    /// What is to become of it?
    pub fn fate(&self) -> Fate {
        if self.up.is_over() && self.down.is_over() {
            let all_said = self.up.state() == State::Finished && self.down.state() == State::Finished;
            return Fate::Done(if all_said { End::Fin } else { End::Reset });
        }
        if self.has_dead_side() { Fate::OneSideDead } else { Fate::Relaying }
    }

    /// Does moving bytes from this peer count as progress? Throwing bytes away counts only while the peer that sends them
    /// may still get an answer: not when both flows are cut, nor when a side is dead. Then only a reset is left to tell,
    /// and a peer that only writes must not put it off.
    pub fn is_progress(&self, source: Peer) -> bool {
        let cut = |peer| self.flow(peer).state() == State::Cut;
        !cut(source) || !(cut(source.other()) || self.has_dead_side())
    }

    fn has_dead_side(&self) -> bool {
        self.client.is_dead() || self.upstream.is_dead()
    }

    /// Has one of the two finished speaking? A FIN counts as soon as it was seen: behind a reader that stalls it is never
    /// read. So does a hang-up that only reading explains. An error counts too: a pair that still relays has only seen EPIPE.
    pub fn is_half_closed(&self) -> bool {
        self.client.is_end_seen() || self.upstream.is_end_seen() || self.first_to_fail().is_some()
    }

    /// The peer whose FIN was read first.
    pub fn first_fin(&self) -> Option<Peer> {
        Peer::BOTH.into_iter().find(|peer| self.flow(*peer).finished_first)
    }

    /// The side that failed first, and its first error.
    pub fn first_error(&self) -> Option<(Peer, Fault)> {
        let peer = self.first_to_fail()?;
        self.side(peer).first_error().map(|fault| (peer, fault))
    }

    fn first_to_fail(&self) -> Option<Peer> {
        Peer::BOTH.into_iter().find(|peer| self.flow(*peer).failed_first)
    }

    /// Bytes that were written to this peer and are not acknowledged yet; none if its side has failed.
    pub fn unacked(&self, peer: Peer) -> usize {
        self.side(peer).unacked()
    }

    /// Bytes that came for this peer and were not written to it; not those that were thrown away after it had failed.
    pub fn held(&self, target: Peer) -> u64 {
        self.flow(target.other()).undelivered() as u64
    }

    /// Bytes that came for this peer and that it has not acknowledged: what is held, and what its kernel still has. The
    /// FIN is no byte of them, and neither is a header: that was written first, so it is acknowledged first.
    pub fn undelivered(&self, target: Peer) -> u64 {
        let fin = usize::from(self.flow(target.other()).state() == State::Finished);
        let unacked = self.side(target).left_unacked().saturating_sub(fin) as u64;
        self.held(target) + unacked.min(self.flow(target.other()).moved())
    }

    /// How long the kernel waits for this peer's acknowledgement now, if it can say.
    pub fn retransmission_timeout(&self, peer: Peer) -> Option<Duration> {
        self.side(peer).retransmission_timeout()
    }

    /// Gives up on both directions: what is held is dropped, and the pair is done.
    pub fn cut(&mut self, pool: &mut Pool<S::Pipe>) {
        self.up.cut(pool);
        self.down.cut(pool);
    }

    /// Ends both streams: closes them in order if everything was said, otherwise resets them.
    pub fn end(mut self, end: End, pool: &mut Pool<S::Pipe>) {
        self.up.give_back(pool);
        self.down.give_back(pool);
        match end {
            End::Fin => {
                self.client.close();
                self.upstream.close();
            }
            End::Reset => {}
        }
    }
}
