//! Tests of the pair: what the end of one direction means for the other.

use std::io::ErrorKind;

use super::script::Script;
use crate::net::{Hints, Peer};
use crate::relay::input::{End, Fault};
use crate::relay::pair::{Fate, Pair};
use crate::relay::pool::{Pool, Splicing};
use crate::relay::side::Side;

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
        case(Rig { pair: Pair::new(client, upstream, None), pool: Pool::new(8, Splicing::OFF), scripts }, near);
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
        let passes = Peer::BOTH.map(|peer| self.pair.relay(peer, SLICE, &mut self.pool));
        let progress = passes.iter().any(|pass| pass.progress);
        (passes.iter().any(|pass| pass.failed) && self.run()) || progress
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
        assert_eq!(rig.pair.first_error(), None);
        rig.pair.end(End::Fin, &mut rig.pool);
        assert!(rig.scripts.iter().all(Script::is_closed));
    });
}

#[test]
fn a_reset_ends_the_pair_after_what_came_before_it() {
    both_ways(|mut rig, near| {
        let far = near.other();
        rig.script(near).reads(b"last words").fails(ErrorKind::ConnectionReset);
        rig.script(far).blocks();
        // The far side is clogged, so nothing is read: only SO_ERROR can tell.
        rig.script(near).fault(ErrorKind::ConnectionReset);
        rig.event(near, Hints::READABLE);
        rig.event(near, Hints::ERROR);
        assert_eq!(rig.pair.fate(), Fate::OneSideDead);
        assert_eq!(rig.pair.first_error(), Some((near, Fault::Reset)));
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
        assert_eq!(rig.pair.first_error(), Some((far, Fault::Closed)));
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
        assert_eq!(rig.pair.first_error(), Some((near, Fault::Closed)));
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
        assert_eq!(rig.pair.first_error(), Some((far, Fault::Closed)));
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
        assert!(!rig.pair.relay(near, SLICE, &mut rig.pool).failed);
        assert!(rig.pair.relay(far, SLICE, &mut rig.pool).failed);
        // No event came for `near`, and yet its end is found.
        rig.pair.relay(near, SLICE, &mut rig.pool);
        assert_eq!(rig.pair.fate(), Fate::Done(End::Reset));
    });
}

#[test]
fn only_the_living_are_waited_for() {
    both_ways(|mut rig, near| {
        rig.script(near).unacked(3);
        rig.script(near.other()).unacked(4);
        assert_eq!([near, near.other()].map(|peer| rig.pair.unacked(peer)), [3, 4]);
        rig.script(near).fault(ErrorKind::TimedOut);
        rig.event(near, Hints::ERROR);
        assert_eq!([near, near.other()].map(|peer| rig.pair.unacked(peer)), [0, 4]);
        assert_eq!(rig.pair.first_error(), Some((near, Fault::Timeout)));
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
        assert_eq!([near, near.other()].map(|target| rig.pair.undelivered(target)), [0, 5], "they were dropped");
    });
}

#[test]
fn what_is_held_and_what_is_not_acknowledged_is_not_delivered() {
    both_ways(|mut rig, near| {
        let far = near.other();
        rig.script(near).reads(b"12345");
        rig.script(far).takes(3).blocks().unacked(2);
        rig.event(near, Hints::READABLE);
        assert_eq!((rig.pair.held(far), rig.pair.undelivered(far)), (2, 4));
        // The target fails: what is held is dropped, and counts; what comes later is thrown away, and does not.
        rig.script(far).fault(ErrorKind::ConnectionReset).fails(ErrorKind::ConnectionReset);
        rig.event(far, Hints::ERROR);
        rig.script(near).reads(b"678");
        rig.event(near, Hints::READABLE);
        assert_eq!((rig.pair.held(far), rig.pair.undelivered(far)), (2, 4));
        assert_eq!(rig.pair.undelivered(near), 0);
    });
}

#[test]
fn our_fin_is_no_byte_that_is_not_delivered() {
    both_ways(|mut rig, near| {
        rig.script(near).reads(b"123").ends();
        rig.event(near, Hints::READABLE | Hints::READ_TO_EAGAIN);
        for (unacked, bytes) in [(4, 3), (1, 0), (0, 0)] {
            rig.script(near.other()).unacked(unacked);
            assert_eq!(rig.pair.undelivered(near.other()), bytes);
        }
    });
}
