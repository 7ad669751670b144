//! A direction that is bulk now and small then, and what happens to it in between.

use std::io::{ErrorKind, Write};
use std::thread;

use crate::support::*;

/// Enough to be taken for bulk several times over.
const BULK: usize = 6 << 20;

#[test]
fn bulk_and_small_messages_take_turns_and_no_byte_is_moved() {
    bulk_both_ways(|Ends { near, far }| {
        near.set_nodelay(true).unwrap();
        for round in 0..4 {
            let (bulk, small) = (keyed(round, BULK + round as usize), keyed(!round, 64));
            thread::scope(|scope| {
                scope.spawn(|| say(&near, &bulk));
                assert!(read_exactly(&far, bulk.len()) == bulk);
            });
            for _ in 0..20 {
                say(&near, &small);
                assert!(read_exactly(&far, small.len()) == small);
            }
        }
        finish(&near);
        assert_eq!(end_of(&far), Ended::Fin);
    });
}

#[test]
fn an_urgent_byte_in_the_middle_of_bulk_stops_nothing() {
    bulk_both_ways(|Ends { near, far }| {
        let bulk = keyed(7, BULK);
        thread::scope(|scope| {
            scope.spawn(|| {
                for part in bulk.chunks(BULK / 3) {
                    say(&near, part);
                    say_urgently(&near, b'!');
                }
                finish(&near);
            });
            let expected: Vec<u8> = bulk.chunks(BULK / 3).flat_map(|part| [part, b"!"].concat()).collect();
            assert!(read_all(&far) == (expected, Ended::Fin));
        });
    });
}

#[test]
fn a_reset_in_the_middle_of_bulk_is_a_reset_behind_what_came_before() {
    bulk_both_ways(|Ends { near, far }| {
        let bulk = keyed(8, BULK);
        thread::scope(|scope| {
            let reader = scope.spawn(|| read_all(&far));
            say(&near, &bulk);
            reset(near);
            let (heard, ended) = reader.join().unwrap();
            assert_eq!(ended, Ended::Reset);
            assert!(bulk.starts_with(&heard), "{} bytes", heard.len());
        });
    });
}

/// What the kernel says to a push into a socket that was reset meanwhile is not always the reset (`splice_to_socket`).
#[test]
fn a_reader_that_resets_in_the_middle_of_bulk_never_looks_like_one_that_finished() {
    bulk_both_ways(|Ends { near, far }| {
        let bulk = keyed(9, BULK);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                near.set_write_timeout(Some(LIMIT)).unwrap();
                // A write may be told first, and then nothing is left to be read (K2).
                match (&near).write_all(&bulk).and_then(|()| (&near).write_all(&bulk)) {
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => Ended::Reset,
                    Ok(()) | Err(_) => end_of(&near),
                }
            });
            read_exactly(&far, BULK / 2);
            reset(far);
            assert_eq!(writer.join().unwrap(), Ended::Reset);
        });
    });
}

/// EPIPE behind a part of a pipe may be what is left of a reset, and may be true. Here it is true.
#[test]
fn an_upload_in_bulk_that_is_answered_and_hung_up_on_gets_the_whole_answer_and_a_fin() {
    for round in 0..20 {
        bulk_both_ways(|Ends { near, far }| {
            let bulk = keyed(round, 2 * BULK);
            thread::scope(|scope| {
                scope.spawn(|| {
                    near.set_write_timeout(Some(LIMIT)).unwrap();
                    // It is told to stop sooner or later.
                    let _ = (&near).write_all(&bulk);
                });
                read_exactly(&far, BULK / 2);
                say(&far, b"no thanks");
                finish(&far);
                // Over unread input: a reset behind the FIN.
                drop(far);
                assert_eq!(read_all(&near), (b"no thanks".to_vec(), Ended::Fin), "round {round}");
            });
        });
    }
}
