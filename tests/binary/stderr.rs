//! A stderr that takes nothing: the relay goes on at full speed, and stops as it always does.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read};
use std::time::Duration;

use rustix::io::ioctl_fionread;
use rustix::process::Signal;

use crate::journal::Journal;
use crate::patience::{a_while, timed, until};
use crate::peers::{Ended, Upstream, bytes, client, end_of, finish, read_all, say};
use crate::process::{Relay, relay_to};
use crate::systemd::Systemd;

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

/// The queue is full when the relay stops, so nothing can be added to it.
#[test]
fn the_last_lines_say_what_was_relayed_and_how_many_lines_were_lost() {
    let (late, full) = small_pipe();
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).stderr(full).start();
    many_sessions(&relay, &upstream, SESSIONS);
    relay.signal(Signal::TERM);
    until("it to stop listening", || (!relay.listens()).then_some(()));
    relay.log = Journal::of(late);
    assert_eq!(relay.code(), 0);
    assert!(relay.log.sessions().len() >= 1024, "{} arrived", relay.log.sessions().len());
    ends_with_an_exact_account(&relay, SESSIONS);
}

/// More lines wait than can be written in the time there is. The last lines are written all the same.
#[test]
fn a_reader_that_is_too_slow_at_exit_gets_the_last_lines_and_an_exact_count() {
    let (slow, full) = small_pipe();
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).stderr(full).start();
    many_sessions(&relay, &upstream, SESSIONS / 2);
    relay.log = Journal::of(Slow(slow));
    let (code, took) = timed(|| relay.stop());
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(relay.log.sessions().len() < SESSIONS / 2, "a faster reader than it should be");
    ends_with_an_exact_account(&relay, SESSIONS / 2);
}

/// At this level nothing is said at exit, so no line brings the count.
#[test]
fn lines_lost_to_a_failing_stderr_are_counted_at_exit_although_nothing_else_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stderr = File::options().append(true).open(file.path()).unwrap();
    let upstream = Upstream::new();
    let plan = relay_to(upstream.address).with(["--quiet", "--max-sessions", "1"]);
    let mut relay = plan.after_shell("trap '' XFSZ").stderr(stderr).start();
    relay.limit_file_size(Some(0));
    upstream.brief_session(&relay);
    until("the line to be tried", || relay.is_asleep().then_some(()));
    relay.limit_file_size(None);
    assert_eq!(relay.stop(), 0);
    let log = std::fs::read_to_string(file.path()).unwrap();
    let [line] = &log.lines().collect::<Vec<_>>()[..] else { panic!("one line, please: {log}") };
    assert!(line.contains(" WARN  [tproxy] 1 log lines dropped: "), "{line}");
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
    // The next time there is room for one line, and none for the count behind it, which stands for the five.
    relay.limit_file_size(Some(0));
    sessions(5);
    let room = with(" session client=").last().unwrap().len() + 1;
    relay.limit_file_size(Some(file.path().metadata().unwrap().len() + room as u64));
    sessions(1);
    relay.limit_file_size(None);
    sessions(1);
    let expected = ["7", "12", "5"].map(str::to_owned).to_vec();
    assert_eq!((with(" session client=").len(), counted()), (8, expected));
    assert_eq!(relay.stop(), 0);
    assert_eq!(counted().len(), 3);
}

/// What arrived and what was counted make up all there was, and the end is as it should be.
fn ends_with_an_exact_account(relay: &Relay, sessions: usize) {
    let lines = relay.log.lines();
    let [.., stopped, count] = &lines[..] else { panic!("two lines at least: {lines:?}") };
    assert!(stopped.contains(&format!("stopped after {sessions} sessions, ")), "{stopped}");
    assert!(count.contains(" log lines dropped"), "{count}");
    let at_start = lines.iter().take_while(|line| !line.contains(" session client=")).count();
    let arrived = lines.iter().filter(|line| !line.contains(" log lines dropped")).count();
    // At the end: draining, stopped.
    assert_eq!(arrived + lost(relay), at_start + sessions + 2);
}

/// A report has lines for all sessions, and the log's queue is to keep room for those that say how a session ended.
#[test]
fn a_report_ends_where_stderr_is_stuck() {
    const SESSIONS: usize = 300;
    let (upstream, systemd) = (Upstream::new(), Systemd::new());
    let (late, full) = small_pipe();
    let plan = relay_to(upstream.address).with(["--drain-timeout", "1m"]).stderr(full);
    let mut relay = systemd.start(plan, "");
    let sessions: Vec<_> = (0..SESSIONS).map(|_| upstream.session(&relay)).collect();
    relay.signal(Signal::USR1);
    until("the pipe to be full", || (ioctl_fionread(&late).unwrap() > 3_000).then_some(()));
    // The thread that obeys signals says STOPPING only when the report is over.
    relay.signal(Signal::TERM);
    while !systemd.hears().starts_with("STOPPING=1\n") {}
    drop(sessions);
    let text = std::io::read_to_string(late).unwrap();
    assert_eq!(relay.code(), 0);
    assert_eq!(text.matches("the report ends here: stderr is slow").count(), 1, "{text}");
    let live = text.matches(" live route=").count();
    assert!((64..SESSIONS).contains(&live), "{live} lines");
}

/// A pipe from which little is read at a time.
struct Slow(PipeReader);

impl Read for Slow {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        a_while();
        self.0.read(room)
    }
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
