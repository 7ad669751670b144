//! A stderr that takes nothing: the relay goes on at full speed, and stops as it always does.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::time::Duration;

use crate::journal::Journal;
use crate::patience::{timed, until};
use crate::peers::{Ended, Upstream, bytes, client, end_of, finish, read_all, say};
use crate::process::{Relay, relay_to};

/// More lines than the queue of 1,024 and a pipe of one page hold.
const SESSIONS: usize = 2_400;

const THREADS: usize = 4;

#[test]
fn a_full_pipe_that_nobody_reads_holds_nothing_up() {
    let (_unread, full) = small_pipe();
    let upstream = Upstream::new();
    works_as_always(&upstream, relay_to(upstream.address).stderr(full).start());
}

#[test]
fn a_full_disk_holds_nothing_up() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let upstream = Upstream::new();
    works_as_always(&upstream, relay_to(upstream.address).stderr(full).start());
}

#[test]
fn a_closed_stderr_holds_nothing_up() {
    let upstream = Upstream::new();
    works_as_always(&upstream, relay_to(upstream.address).after_shell("exec 2>&-").start());
}

#[test]
fn a_pipe_whose_reader_is_gone_holds_nothing_up() {
    let (reader, writer) = small_pipe();
    drop(reader);
    let upstream = Upstream::new();
    works_as_always(&upstream, relay_to(upstream.address).stderr(writer).start());
}

#[test]
fn sessions_are_reset_in_time_although_nobody_reads_the_log() {
    let (_unread, full) = small_pipe();
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--drain-timeout", "50ms"]).stderr(full).start();
    many_sessions(&relay, &upstream, SESSIONS / 2);
    let client = client(relay.address);
    let (code, took) = timed(|| relay.stop());
    assert_eq!((code, end_of(&client)), (4, Ended::Reset));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_log_that_is_read_late_says_how_many_lines_were_lost() {
    let (late, full) = small_pipe();
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).stderr(full).start();
    many_sessions(&relay, &upstream, SESSIONS);
    relay.log = Journal::of(late);
    let accounted = |relay: &Relay| relay.log.sessions().len() + lost(relay);
    until("every session's line to be there or lost", || (accounted(&relay) == SESSIONS).then_some(()));
    assert!(lost(&relay) > 0 && relay.log.sessions().len() >= 1024, "{} lost", lost(&relay));
    assert_eq!(relay.stop(), 0);
    assert_eq!(accounted(&relay), SESSIONS);
}

/// A file that may not grow for a while: no part of a line is written then. Each session has one line.
#[test]
fn lines_that_a_failing_stderr_did_not_take_are_counted_exactly() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stderr = File::options().append(true).open(file.path()).unwrap();
    let upstream = Upstream::new();
    // Without a handler, the signal of a file that is too large ends the process.
    let mut relay = relay_to(upstream.address).after_shell("trap '' XFSZ").stderr(stderr).start();
    let before = relay.descriptors();
    let sessions = |count: usize| {
        for _ in 0..count {
            upstream.brief_session(&relay);
        }
        // The relay's thread comes before the log's: once it sleeps, the log's has been woken.
        until("the last line to be tried", || (relay.descriptors() == before && relay.is_asleep()).then_some(()));
    };
    let with = |part: &str| -> Vec<String> {
        let log = std::fs::read_to_string(file.path()).unwrap();
        log.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    };
    let counted = || -> Vec<String> {
        let lines = with(" log lines dropped");
        lines
            .iter()
            .map(|line| line.split_once(" WARN  [tproxy] ").unwrap().1.split(' ').next().unwrap().into())
            .collect()
    };
    sessions(2);
    relay.limit_file_size(Some(0));
    sessions(7);
    relay.limit_file_size(None);
    sessions(3);
    assert_eq!((with(" session client=").len(), counted()), (5, vec!["7".to_owned()]));
    relay.limit_file_size(Some(0));
    sessions(12);
    relay.limit_file_size(None);
    sessions(1);
    assert_eq!((with(" session client=").len(), counted()), (6, vec!["7".to_owned(), "12".to_owned()]));
    assert_eq!(relay.stop(), 0);
    assert_eq!(counted().len(), 2);
}

/// Lines that the log owns up to have lost.
fn lost(relay: &Relay) -> usize {
    let lines = relay.log.with(" log lines dropped");
    let count = |line: &String| line.split_once(" WARN  [tproxy] ").unwrap().1.split(' ').next().unwrap().parse();
    lines.iter().map(|line| count(line).unwrap_or(0_usize)).sum()
}

/// Sessions from several clients at a time, each from its beginning to its good end.
fn many_sessions(relay: &Relay, upstream: &Upstream, count: usize) {
    upstream.answer_all(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..count / THREADS {
                    let client = client(relay.address);
                    say(&client, b"hello");
                    finish(&client);
                    assert_eq!(read_all(&client), (b"hello".to_vec(), Ended::Fin));
                }
            });
        }
    });
}

/// A pipe of one page, so that it is full soon.
fn small_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    (reader, writer)
}

/// Megabytes both ways, thousands of sessions, and a stop without delay.
fn works_as_always(upstream: &Upstream, mut relay: Relay) {
    many_sessions(&relay, upstream, SESSIONS);
    let client = client(relay.address);
    let big = bytes(1, 4_000_037);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            say(&client, &big);
            finish(&client);
        });
        let (echo, ended) = read_all(&client);
        assert!(echo == big && ended == Ended::Fin);
    });
    let (code, took) = timed(|| relay.stop());
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(5), "{took:?}");
}
