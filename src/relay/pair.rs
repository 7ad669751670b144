//! Two sides and the two flows between them: what one direction's end means for the other.

use super::flow::{Flow, Pass, State};
use super::pool::Pool;
use super::side::{End, Fault, Side};
use crate::net::{Hints, Peer, Stream};

/// The streams of a session while it relays.
///
/// ```text
///   up        down       fate
///   ────────  ────────   ─────────────────────────────────────────────────────────
///   Finished  Finished   Done(Fin)    both said everything: close
///   over      over       Done(Reset)  one is Broken or Cut: flush, then reset
///   any other            OneSideDead       if a socket is dead both ways, else Relaying
/// ```
#[derive(Debug)]
pub struct Pair<S: Stream> {
    client: Side<S>,
    upstream: Side<S>,
    up: Flow<S::Pipe>,
    down: Flow<S::Pipe>,
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
    OneSideDead,
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
    pub const fn flow(&self, source: Peer) -> &Flow<S::Pipe> {
        match source {
            Peer::Client => &self.up,
            Peer::Upstream => &self.down,
        }
    }

    /// Remembers an event of this peer's stream.
    pub fn mark(&mut self, peer: Peer, hints: Hints) {
        self.side_mut(peer).mark(hints);
    }

    /// Forgets what is known of both sides' readiness: the next run tries everything.
    pub fn assume_ready(&mut self) {
        self.client.assume_ready();
        self.upstream.assume_ready();
    }

    /// Moves what can be moved now from `source` to the other side, reading at most `slice` bytes and the rest of one
    /// buffer.
    pub fn run(&mut self, source: Peer, slice: usize, pool: &mut Pool<S::Pipe>) -> Pass {
        let mut pass = match source {
            Peer::Client => self.up.run(&mut self.client, &mut self.upstream, pool, slice),
            Peer::Upstream => self.down.run(&mut self.upstream, &mut self.client, pool, slice),
        };
        // Reading and writing tell of errors themselves, and a read knows whether the FIN came first; so SO_ERROR is
        // asked after them. If both sides failed in this run, the target did so first: a flow asks nothing of it once
        // its source has failed.
        for peer in [source.other(), source] {
            self.side_mut(peer).check_error();
            if self.first_fault.is_none() && self.side_mut(peer).fault().is_some() {
                self.first_fault = Some(peer);
            }
        }
        pass.progress &= self.is_progress(source);
        if self.first_fin.is_none() && self.side_mut(source).has_finished() {
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
        if self.has_dead_side() { Fate::OneSideDead } else { Fate::Relaying }
    }

    /// Is what the flow from this peer does progress? Throwing away is, while its source may yet get an answer: so not
    /// when the other flow is cut too, nor when a side is dead. A reset is all there is to tell then, and a peer that
    /// only writes must not put that off.
    pub fn is_progress(&self, source: Peer) -> bool {
        let cut = |peer| self.flow(peer).state() == State::Cut;
        !cut(source) || !(cut(source.other()) || self.has_dead_side())
    }

    fn has_dead_side(&self) -> bool {
        self.client.is_dead() || self.upstream.is_dead()
    }

    /// Has one of the two finished speaking? A fault says so too, before its FIN is read: what still relays has only
    /// seen EPIPE.
    pub const fn is_half_closed(&self) -> bool {
        self.first_fin.is_some() || self.first_fault.is_some()
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
    pub fn cut(&mut self, pool: &mut Pool<S::Pipe>) {
        self.up.cut(pool);
        self.down.cut(pool);
    }

    /// Ends both streams: with a goodbye if everything was said, else with a reset.
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::super::pool::Splicing;
    use super::super::script::Script;
    use super::*;

    const SLICE: usize = 64;

    struct Rig {
        pair: Pair<Script>,
        pool: Pool<Vec<u8>>,
        /// What the test does to a peer's stream, and what it sees of it.
        scripts: [Script; 2],
    }

    /// Each case runs both ways round: `near` is the peer it is about.
    fn both_ways(case: impl Fn(Rig, Peer)) {
        for near in Peer::BOTH {
            let scripts = [Script::new(), Script::new()];
            let [client, upstream] = [0, 1].map(|i: usize| Side::new(scripts[i].clone()));
            case(Rig { pair: Pair::new(client, upstream), pool: Pool::new(8, Splicing::OFF), scripts }, near);
        }
    }

    impl Rig {
        fn script(&self, peer: Peer) -> &Script {
            &self.scripts[peer as usize]
        }

        fn event(&mut self, peer: Peer, hints: Hints) {
            self.pair.mark(peer, hints);
            self.run();
        }

        /// Both flows, and again if a side was found to have failed, as the reactor does.
        fn run(&mut self) -> bool {
            let faults = self.pair.faults();
            let progress = Peer::BOTH.map(|peer| self.pair.run(peer, SLICE, &mut self.pool).progress).contains(&true);
            (self.pair.faults() > faults && self.run()) || progress
        }
    }

    #[test]
    fn both_said_everything_and_both_are_told_goodbye() {
        both_ways(|mut rig, near| {
            let far = near.other();
            rig.script(near).reads(b"request").ends();
            rig.event(near, Hints::READABLE | Hints::READ_TO_EAGAIN);
            assert_eq!(rig.pair.fate(), Fate::Relaying);
            assert_eq!((rig.script(far).written(), rig.script(far).is_finished()), (b"request".to_vec(), true));
            // The answer comes long after the request's FIN.
            rig.script(far).reads(b"answer").ends();
            rig.event(far, Hints::READABLE | Hints::READ_TO_EAGAIN);
            assert_eq!(rig.pair.fate(), Fate::Done(End::Fin));
            assert_eq!(rig.pair.first_fin(), Some(near));
            assert_eq!(rig.pair.first_fault(), None);
            rig.pair.end(End::Fin, &mut rig.pool);
            assert!(rig.scripts.iter().all(Script::is_closed));
        });
    }

    #[test]
    fn a_reset_dooms_the_pair_after_what_came_before_it() {
        both_ways(|mut rig, near| {
            let far = near.other();
            rig.script(near).reads(b"last words").fails(ErrorKind::ConnectionReset);
            rig.script(far).blocks();
            // The far side is clogged, so nothing is read: only SO_ERROR can tell.
            rig.script(near).fault(ErrorKind::ConnectionReset);
            rig.event(near, Hints::READABLE);
            rig.event(near, Hints::ERROR);
            assert_eq!(rig.pair.fate(), Fate::OneSideDead);
            assert_eq!(rig.pair.first_fault(), Some((near, Fault::Reset)));
            rig.event(far, Hints::WRITABLE);
            assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
            assert_eq!((rig.script(far).written(), rig.script(far).is_finished()), (b"last words".to_vec(), false));
            rig.pair.end(End::Reset, &mut rig.pool);
            assert!(!rig.scripts.iter().any(Script::is_closed));
            assert_eq!(rig.pool.lent(), 0);
        });
    }

    #[test]
    fn an_early_answer_arrives_although_its_sender_has_hung_up() {
        both_ways(|mut rig, near| {
            let far = near.other();
            rig.script(far).reads(b"no thanks");
            rig.script(far).refuses(ErrorKind::BrokenPipe);
            rig.script(near).reads(b"upload");
            rig.event(near, Hints::READABLE);
            assert_eq!(rig.pair.first_fault(), Some((far, Fault::Closed)));
            assert_eq!(rig.pair.fate(), Fate::Relaying);
            // The upload goes on and is thrown away, which is progress: the answer may be read only after it.
            rig.script(near).reads(b"more of it");
            rig.pair.mark(near, Hints::READABLE);
            assert!(rig.run());
            rig.script(far).ends();
            rig.event(far, Hints::READABLE | Hints::READ_TO_EAGAIN);
            assert_eq!((rig.script(near).written(), rig.script(near).is_finished()), (b"no thanks".to_vec(), true));
            assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
            assert_eq!(rig.pair.first_fin(), Some(far));
            rig.script(near).reads(b"still more");
            rig.pair.mark(near, Hints::READABLE);
            assert!(rig.run());
        });
    }

    #[test]
    fn a_peer_that_only_writes_does_not_put_off_its_reset() {
        both_ways(|mut rig, near| {
            let far = near.other();
            rig.script(far).fault(ErrorKind::ConnectionReset).fails(ErrorKind::ConnectionReset);
            rig.event(far, Hints::ERROR);
            rig.script(near).reads(b"blah blah");
            rig.pair.mark(near, Hints::READABLE);
            assert!(!rig.run());
            assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
        });
    }

    #[test]
    fn a_reset_after_the_fin_is_seen_only_in_so_error_and_cuts_what_is_left() {
        both_ways(|mut rig, near| {
            let far = near.other();
            rig.script(near).ends();
            rig.event(near, Hints::READABLE | Hints::READ_TO_EAGAIN);
            assert_eq!(rig.pair.fate(), Fate::Relaying);
            rig.script(near).fault(ErrorKind::BrokenPipe);
            rig.event(near, Hints::ERROR);
            assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
            assert_eq!(rig.pair.first_fault(), Some((near, Fault::Closed)));
            assert!(rig.script(far).is_finished());
        });
    }

    /// Once both FINs are on their way, the kernel says ECONNRESET and not EPIPE. What came before the peer's is whole.
    #[test]
    fn a_reset_after_a_fin_that_was_seen_takes_nothing_back() {
        both_ways(|mut rig, near| {
            let far = near.other();
            rig.script(near).ends();
            rig.event(near, Hints::READABLE | Hints::READ_TO_EAGAIN);
            // The answer is all here, its FIN was seen, and the near end reads slowly.
            rig.script(far).reads(b"the whole answer").ends();
            rig.script(near).takes(1).blocks();
            rig.event(far, Hints::READABLE | Hints::READ_TO_EAGAIN | Hints::FIN);
            rig.script(far).fault(ErrorKind::ConnectionReset);
            rig.event(far, Hints::ERROR | Hints::READ_TO_EAGAIN);
            assert_eq!(rig.pair.fate(), Fate::Relaying);
            rig.event(near, Hints::WRITABLE);
            assert_eq!(rig.script(near).written(), b"the whole answer");
            assert!(rig.script(near).is_finished());
            assert_eq!(rig.pair.first_fault(), Some((far, Fault::Closed)));
        });
    }

    #[test]
    fn an_end_of_input_beside_an_error_is_no_fin() {
        both_ways(|mut rig, near| {
            rig.script(near).fault(ErrorKind::ConnectionReset).ends();
            rig.pair.side_mut(near).mark(Hints::ERROR | Hints::FIN);
            rig.pair.side_mut(near).check_error();
            rig.pair.side_mut(near).mark(Hints::FIN);
            rig.run();
            assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
            assert!(!rig.script(near.other()).is_finished());
        });
    }

    #[test]
    fn a_pair_cut_by_a_time_out_makes_no_progress_by_throwing_away() {
        both_ways(|mut rig, near| {
            rig.pair.cut(&mut rig.pool);
            rig.script(near).reads(b"blah blah");
            rig.pair.mark(near, Hints::READABLE);
            assert!(!rig.run());
        });
    }

    #[test]
    fn a_fin_read_by_a_flow_that_is_cut_counts() {
        both_ways(|mut rig, near| {
            rig.script(near.other()).refuses(ErrorKind::BrokenPipe);
            rig.script(near).reads(b"upload").ends();
            rig.event(near, Hints::READABLE | Hints::READ_TO_EAGAIN);
            assert_eq!(rig.pair.first_fin(), Some(near));
        });
    }

    #[test]
    fn a_fault_found_by_the_second_flow_is_news_for_the_first() {
        both_ways(|mut rig, near| {
            let far = near.other();
            rig.script(near).refuses(ErrorKind::ConnectionReset).fails(ErrorKind::ConnectionReset);
            rig.script(far).reads(b"answer");
            rig.pair.mark(far, Hints::READABLE);
            assert_eq!(rig.pair.faults(), 0);
            rig.pair.run(near, SLICE, &mut rig.pool);
            rig.pair.run(far, SLICE, &mut rig.pool);
            assert_eq!(rig.pair.faults(), 1);
            // No event came for `near`, and yet its end is found.
            rig.pair.run(near, SLICE, &mut rig.pool);
            assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
        });
    }

    #[test]
    fn only_the_living_are_waited_for() {
        both_ways(|mut rig, near| {
            rig.script(near).unacked(3);
            rig.script(near.other()).unacked(4);
            assert_eq!(rig.pair.unacked(), 7);
            rig.script(near).fault(ErrorKind::TimedOut);
            rig.event(near, Hints::ERROR);
            assert_eq!(rig.pair.unacked(), 4);
            assert_eq!(rig.pair.first_fault(), Some((near, Fault::Timeout)));
        });
    }

    #[test]
    fn a_pair_that_is_cut_is_done_and_holds_nothing() {
        both_ways(|mut rig, near| {
            rig.script(near).reads(b"stuck");
            rig.script(near.other()).blocks();
            rig.event(near, Hints::READABLE);
            assert_eq!(rig.pool.lent(), 1);
            rig.pair.cut(&mut rig.pool);
            assert_eq!((rig.pair.fate(), rig.pool.lent()), (Fate::Done(End::Reset), 0));
        });
    }
}
