//! The relay's log, caught before it goes anywhere: one line for each session, which must agree with the shadow model.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Once;

use log::{Level, LevelFilter, Log, Metadata, Record as Line};

use crate::plan::{read_address, read_client};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Catcher;

impl Log for Catcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tproxy")
    }

    fn log(&self, line: &Line<'_>) {
        if self.enabled(line.metadata()) {
            let text = line.args().to_string();
            if line.level() > Level::Info && !text.starts_with("session ") {
                return;
            }
            // A stream may be dropped while its thread goes.
            let _ = LINES.try_with(|lines| lines.borrow_mut().push(text));
        }
    }

    fn flush(&self) {}
}

/// From now on this process's log is caught, each thread's apart.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Catcher).expect("nobody else logs here");
        log::set_max_level(LevelFilter::Debug);
    });
}

/// What was logged by this thread since the last time.
pub(crate) fn take() -> Vec<String> {
    LINES.with(|lines| std::mem::take(&mut *lines.borrow_mut()))
}

/// A session's line, read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The name of its route, if it is said.
    pub(crate) route: Option<String>,
    pub(crate) client: SocketAddr,
    /// None if no address was tried.
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) time: String,
    pub(crate) connect: String,
    pub(crate) end: String,
    /// Up and down, if it is said.
    pub(crate) undelivered: Option<(u64, u64)>,
}

/// The record in this line, if it is a session's.
pub(crate) fn parse(line: &str) -> Option<Record> {
    let mut words = line.strip_prefix("session ")?.split(' ').peekable();
    let route = words.next_if(|word| word.starts_with("route=")).map(|word| word["route=".len()..].to_owned());
    let mut field = |name: &str| words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
    let client = read_client(field("client")?)?;
    let upstream = match field("upstream")? {
        "-" => None,
        address => Some(read_address(address)?),
    };
    let (up, down) = (field("up")?.parse().ok()?, field("down")?.parse().ok()?);
    let (time, connect) = (field("time")?.to_owned(), field("connect")?.to_owned());
    let end = field("end")?.to_owned();
    let undelivered = match words.next() {
        Some(word) => {
            let (up, down) = word.strip_prefix("undelivered=")?.split_once('/')?;
            Some((up.parse().ok()?, down.parse().ok()?))
        }
        None => None,
    };
    words.next().is_none().then_some(Record { route, client, upstream, up, down, time, connect, end, undelivered })
}

#[test]
fn the_documented_line_is_read_back() {
    let line = "session client=127.0.0.1:53110 upstream=[::1]:8888 up=1204 down=88121 time=3.214s connect=0.002s \
                end=client-eof";
    let record = parse(line).unwrap();
    assert_eq!((record.up, record.down, record.end.as_str()), (1204, 88121, "client-eof"));
    assert_eq!((record.time.as_str(), record.connect.as_str()), ("3.214s", "0.002s"));
    assert_eq!((record.undelivered, record.route), (None, None));
    let named = parse(&line.replace("session ", "session route=db ")).unwrap();
    assert_eq!((named.route.as_deref(), named.client), (Some("db"), record.client));
    assert_eq!(parse(&format!("{line} undelivered=3/155200")).unwrap().undelivered, Some((3, 155_200)));
    assert_eq!(parse("draining 3 sessions, up to 15s"), None);
}
