//! Tests of a pair with a Unix socket at one end: what EPIPE means there, and how its peer is told of a reset.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset};

use super::script::Script;
use crate::net::{Hints, Peer};
use crate::relay::flow::State;
use crate::relay::input::{End, Fault};
use crate::relay::pair::{Fate, Pair};
use crate::relay::pool::{Pool, Splicing};
use crate::relay::side::Side;

/// `near` is a Unix socket, where a short count proves nothing, as on all streams of this script.
struct Rig {
    pair: Pair<Script<false>>,
    pool: Pool<Vec<u8>>,
    scripts: [Script<false>; 2],
    near: Peer,
}

/// Each case runs both ways round.
fn both_ways(splicing: Splicing, case: impl Fn(Rig)) {
    for near in Peer::BOTH {
        let scripts = [Script::default(), Script::default()];
        scripts[near as usize].is_unix();
        let [client, upstream] = [0, 1].map(|i: usize| Side::new(scripts[i].clone()));
        case(Rig { pair: Pair::new(client, upstream, None), pool: Pool::new(8, splicing), scripts, near });
    }
}

impl Rig {
    fn near(&self) -> &Script<false> {
        &self.scripts[self.near as usize]
    }

    fn far(&self) -> &Script<false> {
        &self.scripts[self.near.other() as usize]
    }

    fn mark(&mut self, peer: Peer, hints: Hints) {
        self.pair.mark(peer, hints);
    }

    fn run(&mut self) {
        let passes = Peer::BOTH.map(|peer| self.pair.relay(peer, 64, &mut self.pool));
        if passes.iter().any(|pass| pass.failed) {
            self.run();
        }
    }

    /// What the far peer says is refused with EPIPE.
    fn refuse(&mut self) {
        self.far().reads(b"upload");
        self.near().refuses(BrokenPipe);
        self.mark(self.near.other(), Hints::READABLE);
    }
}

#[test]
fn an_epipe_without_a_reset_behind_it_leaves_the_answer_whole() {
    both_ways(Splicing::OFF, |mut rig| {
        rig.refuse();
        rig.near().reads(b"answer").ends();
        rig.mark(rig.near, Hints::READABLE | Hints::READ_TO_EAGAIN | Hints::FIN | Hints::HANG_UP);
        rig.run();
        assert_eq!((rig.far().written(), rig.far().is_finished()), (b"answer".to_vec(), true));
        assert_eq!(rig.pair.first_error(), Some((rig.near, Fault::Closed)));
    });
}

/// K20: the reset comes behind the EPIPE, from a read or from SO_ERROR, and only once.
#[test]
fn a_reset_behind_an_epipe_overrules_it_whoever_is_told() {
    for by_read in [true, false] {
        both_ways(Splicing::OFF, |mut rig| {
            rig.refuse();
            rig.run();
            assert_eq!(rig.pair.first_error(), Some((rig.near, Fault::Closed)));
            rig.near().reads(b"answer");
            if by_read {
                rig.near().fails(ConnectionReset);
            } else {
                rig.near().ends().fault(ConnectionReset);
                // It is asked before the end is read: the answer fills a buffer, and the next event tells.
                rig.mark(rig.near, Hints::ERROR);
                assert!(rig.pair.side_mut(rig.near).check_error());
            }
            rig.mark(rig.near, Hints::READABLE | Hints::READ_TO_EAGAIN);
            rig.run();
            assert_eq!((rig.far().written(), rig.far().is_finished()), (b"answer".to_vec(), false));
            assert_eq!(rig.pair.first_error(), Some((rig.near, Fault::Reset)));
            assert_eq!(rig.pair.flow(rig.near).state(), State::Broken);
            assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
        });
    }
}

/// K20: a write that took a part may have consumed the reset, and the read behind it says nothing of it.
#[test]
fn an_epipe_behind_a_part_of_a_write_is_taken_for_a_reset() {
    for (splicing, blocks) in
        [(Splicing::OFF, false), (Splicing::OFF, true), (Splicing { after: 0, pipes_max: 1 }, false)]
    {
        both_ways(splicing, |mut rig| {
            rig.far().reads(b"upload");
            rig.near().takes(3);
            if blocks {
                // It takes bytes, or will: nothing was consumed.
                rig.near().blocks().refuses(BrokenPipe);
            } else {
                rig.near().refuses(BrokenPipe);
            }
            rig.mark(rig.near.other(), Hints::READABLE);
            rig.run();
            rig.near().reads(b"answer").ends();
            rig.mark(rig.near, Hints::READABLE | Hints::WRITABLE | Hints::READ_TO_EAGAIN);
            rig.run();
            assert_eq!((rig.far().written(), rig.far().is_finished()), (b"answer".to_vec(), blocks));
        });
    }
}

/// A close shuts both directions down before it says whether input was unread: an event may be half of the news.
#[test]
fn a_hang_up_beside_a_fin_is_no_proof_but_begins_the_half_close_time() {
    both_ways(Splicing::OFF, |mut rig| {
        let ended = Hints::READABLE | Hints::READ_TO_EAGAIN | Hints::FIN | Hints::HANG_UP;
        assert!(!rig.pair.is_half_closed());
        assert!(rig.pair.mark(rig.near, ended));
        assert!(!rig.pair.mark(rig.near, ended) && rig.pair.is_half_closed());
        rig.near().reads(b"last words").fails(ConnectionReset);
        rig.run();
        assert_eq!((rig.far().written(), rig.far().is_finished()), (b"last words".to_vec(), false));
        assert_eq!(rig.pair.first_error(), Some((rig.near, Fault::Reset)));
    });
    // A FIN alone is one: the other direction is still open.
    both_ways(Splicing::OFF, |mut rig| {
        rig.mark(rig.near, Hints::READABLE | Hints::READ_TO_EAGAIN | Hints::FIN);
        rig.near().reads(b"last words").ends();
        rig.run();
        assert!(rig.far().is_finished());
    });
}

/// K21: what it wrote and nobody has read is all that tells a Unix peer of the reset.
#[test]
fn what_a_unix_peer_wrote_stays_unread_once_the_other_is_dead() {
    both_ways(Splicing::OFF, |mut rig| {
        rig.far().reads(b"part").fails(ConnectionReset);
        rig.near().reads(b"answer");
        rig.mark(rig.near.other(), Hints::READABLE | Hints::READ_TO_EAGAIN | Hints::ERROR);
        rig.run();
        rig.mark(rig.near, Hints::READABLE);
        let before = rig.near().read_calls();
        rig.run();
        assert_eq!(rig.near().read_calls(), before);
        assert_eq!((rig.near().written(), rig.near().is_finished()), (b"part".to_vec(), false));
        assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
    });
}

/// It may have to be read before it takes what it is owed.
#[test]
fn a_unix_peer_that_is_owed_something_is_read_although_the_other_is_dead() {
    both_ways(Splicing::OFF, |mut rig| {
        rig.far().reads(b"part").fails(ConnectionReset);
        rig.near().blocks();
        rig.mark(rig.near.other(), Hints::READABLE | Hints::READ_TO_EAGAIN | Hints::ERROR);
        rig.run();
        rig.near().reads(b"answer");
        rig.mark(rig.near, Hints::READABLE);
        let before = rig.near().read_calls();
        rig.run();
        assert!(rig.near().read_calls() > before);
    });
}

/// A timeout has given up on both directions, and the other side has yet to acknowledge what it was sent.
#[test]
fn what_a_unix_peer_wrote_stays_unread_once_both_directions_are_given_up() {
    both_ways(Splicing::OFF, |mut rig| {
        rig.near().reads(b"more");
        rig.pair.cut(&mut rig.pool);
        rig.mark(rig.near, Hints::READABLE);
        rig.pair.assume_ready();
        rig.run();
        assert_eq!(rig.near().read_calls(), 0, "what is unread tells the peer of the reset");
        assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
    });
}
