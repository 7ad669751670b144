//! Two sides and the two flows between them: what one direction's end means for the other.

use super::flow::{Flow, Pass};
use super::pool::Pool;
use super::side::{Fault, Side};
use crate::net::{Bits, Peer, Stream};
use crate::relay::flow::State;
use crate::relay::side::End;

/// The streams of a session while it relays.
///
/// ```text
///   up        down       fate
///   ────────  ────────   ─────────────────────────────────────────────────────────
///   Finished  Finished   Done(Fin)    both said everything: close
///   over      over       Done(Reset)  one is Broken or Cut: flush, then reset
///   any other            Doomed       if a socket is dead both ways, else Relaying
/// ```
#[derive(Debug)]
pub struct Pair<S> {
    client: Side<S>,
    upstream: Side<S>,
    up: Flow,
    down: Flow,
    /// Whose FIN came first.
    first_fin: Option<Peer>,
    /// Whose error came first.
    first_fault: Option<Peer>,
}

/// What is to become of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Relaying,
    /// One socket is dead both ways. What it sent before is still being delivered; then the other is reset.
    Doomed,
    /// Nothing more will be relayed; it ends like this.
    Done(End),
}

impl<S: Stream> Pair<S> {
    /// A pair that has relayed nothing.
    pub fn new(client: Side<S>, upstream: Side<S>) -> Self {
        let (up, down) = (Flow::new(), Flow::new());
        Self { client, upstream, up, down, first_fin: None, first_fault: None }
    }

    /// The side of this peer.
    pub const fn side_mut(&mut self, peer: Peer) -> &mut Side<S> {
        match peer {
            Peer::Client => &mut self.client,
            Peer::Upstream => &mut self.upstream,
        }
    }

    /// The flow that reads from this peer.
    pub const fn flow(&self, source: Peer) -> &Flow {
        match source {
            Peer::Client => &self.up,
            Peer::Upstream => &self.down,
        }
    }

    /// Remembers an event of this peer's stream.
    pub fn mark(&mut self, peer: Peer, bits: Bits) {
        self.side_mut(peer).mark(bits);
    }

    /// Forgets what is known of both sides' readiness: the next run tries everything.
    pub fn nudge(&mut self) {
        self.client.nudge();
        self.upstream.nudge();
    }

    /// Moves what can be moved now from `source` to the other side, reading at most `slice` bytes and the rest of one
    /// buffer.
    pub fn run(&mut self, source: Peer, slice: usize, pool: &mut Pool) -> Pass {
        for peer in Peer::BOTH {
            self.side_mut(peer).ask();
            self.remember_fault(peer);
        }
        let pass = match source {
            Peer::Client => self.up.run(&mut self.client, &mut self.upstream, pool, slice),
            Peer::Upstream => self.down.run(&mut self.upstream, &mut self.client, pool, slice),
        };
        for peer in [source, source.other()] {
            self.remember_fault(peer);
        }
        if self.first_fin.is_none() && matches!(self.flow(source).state(), State::Flushing(End::Fin) | State::Finished)
        {
            self.first_fin = Some(source);
        }
        pass
    }

    /// What is to become of it?
    pub fn fate(&self) -> Fate {
        if self.up.is_over() && self.down.is_over() {
            let all_said = self.up.state() == State::Finished && self.down.state() == State::Finished;
            return Fate::Done(if all_said { End::Fin } else { End::Reset });
        }
        let dead = |side: &Side<S>| side.fault().is_some_and(Fault::is_fatal);
        if dead(&self.client) || dead(&self.upstream) { Fate::Doomed } else { Fate::Relaying }
    }

    /// Whose FIN came first, if one came.
    pub const fn first_fin(&self) -> Option<Peer> {
        self.first_fin
    }

    /// Which side failed first and of what, if one did.
    pub fn first_fault(&self) -> Option<(Peer, Fault)> {
        let peer = self.first_fault?;
        let side = match peer {
            Peer::Client => &self.client,
            Peer::Upstream => &self.upstream,
        };
        side.fault().map(|fault| (peer, fault))
    }

    /// How many sides have failed. When a run makes it more, the other flow has something to find out, and no event
    /// may come to say so.
    pub fn faults(&self) -> usize {
        usize::from(self.client.fault().is_some()) + usize::from(self.upstream.fault().is_some())
    }

    /// What the living have not acknowledged, both sides together.
    pub fn unacked(&self) -> usize {
        self.client.unacked() + self.upstream.unacked()
    }

    /// Gives up on both directions: what is held is dropped, and the pair is done.
    pub fn cut(&mut self, pool: &mut Pool) {
        self.up.cut(pool);
        self.down.cut(pool);
    }

    /// Ends both streams: with a goodbye if everything was said, else with a reset.
    pub fn end(mut self, end: End, pool: &mut Pool) {
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

    fn remember_fault(&mut self, peer: Peer) {
        if self.first_fault.is_none() && self.side_mut(peer).fault().is_some() {
            self.first_fault = Some(peer);
        }
    }
}
