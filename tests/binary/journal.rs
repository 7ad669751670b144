//! What the relay wrote to stderr, line by line.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::patience::until;

/// The lines of a log, while it is being written.
pub(crate) struct Journal {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// A session's line, every field of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Session {
    pub(crate) client: SocketAddr,
    /// None if no address was tried.
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) time: f64,
    pub(crate) connect: f64,
    pub(crate) end: String,
    /// Up and down, if it is said.
    pub(crate) undelivered: Option<(u64, u64)>,
}

impl Journal {
    /// Reads a log to its end, in the background.
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let pile = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                pile.lock().unwrap().push(line.unwrap());
            }
        });
        Self { lines, reader: Some(reader) }
    }

    /// A log that goes somewhere else.
    pub(crate) fn elsewhere() -> Self {
        Self { lines: Arc::default(), reader: None }
    }

    /// Waits for the end of a log whose writer is gone.
    pub(crate) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            until("the end of the log", || reader.is_finished().then_some(()));
            reader.join().unwrap();
        }
    }

    /// For whoever wants to know why a test failed.
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
    pub(crate) fn print(&self) {
        self.lines().iter().take(100).for_each(|line| eprintln!("  {line}"));
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The lines so far that contain this.
    pub(crate) fn with(&self, part: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(part)).cloned().collect()
    }

    /// Waits for a line that contains this.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        until(&format!("a line with {part:?}"), || self.with(part).into_iter().next())
    }

    /// The sessions' lines so far.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.with("INFO  [tproxy] session ").iter().map(|line| Session::parse(line)).collect()
    }

    /// Waits until so many sessions have ended, and not one more.
    pub(crate) fn wait_for_sessions(&self, count: usize) -> Vec<Session> {
        let what = format!("{count} session lines");
        let sessions = until(&what, || Some(self.sessions()).filter(|sessions| sessions.len() >= count));
        assert_eq!(sessions.len(), count, "{sessions:?}");
        sessions
    }

    /// Waits for the one session there is.
    pub(crate) fn wait_for_session(&self) -> Session {
        self.wait_for_sessions(1).remove(0)
    }
}

impl Session {
    /// Reads `... INFO  [tproxy] session client=... upstream=... up=... down=... time=...s connect=...s end=...`, all
    /// of it and in this order, and perhaps ` undelivered=.../...`.
    fn parse(line: &str) -> Self {
        let wrong = || panic!("not a session's line: {line}");
        let (stamp, fields) = line.split_once(" INFO  [tproxy] session ").unwrap_or_else(wrong);
        assert!(stamp.ends_with('Z') && stamp.contains('T'), "UTC, as RFC 3339 has it: {stamp}");
        let mut fields = fields.split(' ');
        let mut field = |name: &str| {
            let value = fields.next().and_then(|field| field.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("{name} is missing or out of place: {line}"))
        };
        let seconds = |text: &str| {
            let digits = text.strip_suffix('s').unwrap();
            assert_eq!(digits.split_once('.').unwrap().1.len(), 3, "three decimals: {line}");
            digits.parse().unwrap()
        };
        let mut session = Self {
            client: field("client").parse().unwrap(),
            upstream: match field("upstream") {
                "-" => None,
                address => Some(address.parse().unwrap()),
            },
            up: field("up").parse().unwrap(),
            down: field("down").parse().unwrap(),
            time: seconds(field("time")),
            connect: seconds(field("connect")),
            end: field("end").to_owned(),
            undelivered: None,
        };
        session.undelivered = fields.next().map(|field| {
            let (up, down) = field.strip_prefix("undelivered=").unwrap().split_once('/').unwrap();
            (up.parse().unwrap(), down.parse().unwrap())
        });
        assert_ne!(session.undelivered, Some((0, 0)), "{line}");
        assert_eq!(fields.next(), None, "{line}");
        session
    }
}
