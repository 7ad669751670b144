//! Rules 2 to 6: how a stream ended is what the other side sees.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use tproxy::ResetGrace;

use crate::support::*;

/// For peers that never read what they are owed.
const SHORT: Duration = Duration::from_millis(200);

const GRACE: Duration = Duration::from_secs(2);

#[test]
fn a_half_close_is_passed_on_and_the_answer_comes_back() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            say(&near, b"request");
            finish(&near);
            assert_eq!(read_all(&far), (b"request".to_vec(), Ended::Fin));
            let answer = keyed(5, 8 << 20);
            thread::scope(|scope| {
                scope.spawn(|| {
                    say(&far, &answer);
                    finish(&far);
                });
                assert!(read_all(&near) == (answer.clone(), Ended::Fin));
            });
        },
    );
}

#[test]
fn a_reset_is_seen_as_a_reset_after_the_bytes_before_it() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            let said = keyed(6, 100_000);
            say(&near, &said);
            delivered(&near);
            reset(near);
            assert!(read_all(&far) == (said, Ended::Reset));
        },
    );
}

#[test]
fn a_reset_without_a_word_is_seen_as_a_reset() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            reset(near);
            assert_eq!(end_of(&far), Ended::Reset);
        },
    );
}

/// Rule 3: an immediate reset would throw away what the kernel has not delivered yet.
#[test]
fn what_came_before_a_reset_reaches_a_reader_that_begins_late() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            // More than the far end's kernel takes unread, less than the relay's.
            let said = keyed(7, 1 << 20);
            say(&near, &said);
            delivered(&near);
            reset(near);
            assert!(read_all(&far) == (said, Ended::Reset));
        },
    );
}

/// A relay that was only writing to the dead end, or to nobody, learns of the reset all the same.
#[test]
fn a_reset_is_noticed_while_the_other_side_is_clogged() {
    both_ways(
        |config| config.routes[0].reset_grace = ResetGrace::Fixed(SHORT),
        |Ends { near, far }| {
            clog(&near);
            reset(near);
            // The far end does not read, so only a write can tell it.
            until("the far end is told", || (&far).write(b"x").is_err());
        },
    );
}

#[test]
fn a_reset_is_noticed_while_both_directions_are_clogged() {
    both_ways(
        |config| config.routes[0].reset_grace = ResetGrace::Fixed(SHORT),
        |Ends { near, far }| {
            clog(&near);
            clog(&far);
            reset(near);
            // It goes on writing and never reads: what it writes is thrown away, and must not put the reset off.
            assert_eq!(error_of_writing_on(&far), ErrorKind::ConnectionReset);
        },
    );
}

/// K12: after its FIN, a peer's reset shows in no read.
#[test]
fn a_reset_after_the_fin_reaches_who_still_speaks() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            say(&near, b"request");
            finish(&near);
            assert_eq!(read_all(&far), (b"request".to_vec(), Ended::Fin));
            reset(near);
            until("the far end is told", || (&far).write(b"x").is_err());
        },
    );
}

/// K3: closing with unread input is a reset, and is passed on as one.
#[test]
fn a_close_over_unread_input_is_seen_as_a_reset() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            say(&far, b"nobody reads this");
            until("it is there", || near.peek(&mut [0]).is_ok());
            drop(near);
            assert_eq!(end_of(&far), Ended::Reset);
        },
    );
}

/// K9: who answers early and hangs up is heard in full by a peer that uploads before it reads.
#[test]
fn an_early_answer_arrives_whole_although_the_upload_goes_on() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            let answer = keyed(8, 1 << 20);
            say(&near, b"P");
            read_exactly(&far, 1);
            say(&far, &answer);
            delivered(&far);
            drop(far);
            // Now the upload, which nobody wants, and only then the answer.
            say(&near, &keyed(9, 64 << 20));
            let (all, ended) = read_all(&near);
            assert!(all == answer, "{} of {} bytes", all.len(), answer.len());
            assert_eq!(ended, Ended::Fin);
        },
    );
}

/// The answer and its FIN were there before the reset, and only our own FIN made the kernel say ECONNRESET for EPIPE.
#[test]
fn an_answer_that_was_finished_is_not_taken_back_by_a_reset() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            // As long an answer as the path can hold, so the relay has not read it all when the reset comes.
            let answer = clog(&far) as usize;
            let mut heard = 0;
            while unacked(&far) > 0 {
                heard += read_exactly(&near, 256 << 10).len();
            }
            finish(&far);
            delivered(&far);
            say(&near, &keyed(13, 64 << 10));
            finish(&near);
            until("the upload is there", || far.peek(&mut [0; 1 << 16]).is_ok_and(|count| count == 1 << 16));
            // Closing over it is a reset, behind the FIN.
            drop(far);
            let (rest, ended) = read_all(&near);
            assert_eq!((heard + rest.len(), ended), (answer, Ended::Fin));
        },
    );
}

#[test]
fn who_goes_on_writing_to_a_closed_peer_is_told() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            drop(near);
            assert_eq!(end_of(&far), Ended::Fin);
            until("the far end is told", || (&far).write(b"more").is_err());
            let kind = kind((&far).write(b"more"));
            assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind}");
        },
    );
}

/// A pause of this reader is short beside the grace, also on a busy machine; all of them are longer.
#[test]
fn a_reader_slower_than_the_grace_still_gets_all_while_it_reads() {
    both_ways(
        |config| config.routes[0].reset_grace = ResetGrace::Fixed(GRACE),
        |Ends { near, far }| {
            let said = keyed(10, 2 << 20);
            say(&near, &said);
            delivered(&near);
            reset(near);
            let mut all = Vec::new();
            let mut chunk = vec![0; 8 << 10];
            let (ended, took) = timed(|| {
                loop {
                    match (&far).read(&mut chunk) {
                        Ok(0) => break Ended::Fin,
                        Ok(count) => all.extend_from_slice(&chunk[..count]),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                            break Ended::Reset;
                        }
                    }
                    linger();
                }
            });
            assert!(took > GRACE, "this reader is too quick: {took:?}");
            assert!(all == said, "{} of {} bytes", all.len(), said.len());
            assert_eq!(ended, Ended::Reset);
        },
    );
}
