//! The log: lines are queued by any thread and written by a thread of their own.
//!
//! ```text
//!   reactor ── log! ──► queue, 1,024 lines ──► thread "log" ──► text, journal or JSON ──► stderr
//!                       full: drop and count                                             may block, may fail
//! ```
//! stderr can be a pipe that nothing reads, a full disk, or closed. Then the thread waits, or fails, and the relay goes
//! on. At exit the queue is written for as long as lines move, then the last lines, then how many lines were dropped.

mod format;
mod limit;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use format::LogFormat;
use format::{Details, Format};
use limit::{Limits, Verdict};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Lines that wait for stderr. More are dropped and counted.
const QUEUE_MAX: usize = 1024;

/// Lines that are said at exit. They are few, and the queue may be full, so they wait beside it.
const LAST_MAX: usize = 16;

/// At exit, how long to wait for the next line to be written before giving up.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// And for all of them, the last lines included.
const FLUSH_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// When the rest of the queue is dropped, so that the last lines have their time too.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(4);

/// The relay's log, until the process ends.
#[derive(Clone)]
pub(crate) struct LogQueue {
    shared: Arc<Shared>,
}

struct Shared {
    format: Format,
    queue: Mutex<Queue>,
    /// There is a line for the thread.
    filled: Condvar,
    /// The thread has taken a line, or found none.
    taken: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    /// The process ends: what is said now goes to `last`.
    exiting: bool,
    /// Lines to be written behind all others.
    last: VecDeque<Line>,
    dropped: u64,
    /// All lines that were dropped so far.
    dropped_in_all: u64,
    limits: Limits,
    /// Lines can be written, as far as is known. Otherwise the count of dropped lines waits for one that can.
    works: bool,
    /// The thread is writing a line that is not in the queue any more.
    busy: bool,
    /// Lines the thread has taken.
    taken: u64,
}

impl Queue {
    fn drop_lines(&mut self, count: u64) {
        self.dropped += count;
        self.dropped_in_all += count;
    }
}

struct Line {
    level: Level,
    target: String,
    text: String,
    /// For the formats that need them.
    details: Option<Details>,
    /// Lines that are dropped if this one cannot be written: itself, or those it counts.
    stands_for: u64,
}

impl Queue {
    /// Takes the next line to be written. Dropped lines are told behind the first line that could be written, and at
    /// exit behind the last.
    fn take(&mut self) -> Option<Line> {
        let rest_is_written = self.lines.is_empty() && self.last.is_empty();
        if self.dropped > 0 && self.works && (rest_is_written || !self.exiting) {
            let dropped = std::mem::take(&mut self.dropped);
            let text = format!("{dropped} log lines dropped: stderr is slow or failing");
            return Some(Line::own(Level::Warn, text, dropped));
        }
        if let Some(next) = self.limits.next() {
            let now = if self.exiting { next } else { now() };
            if let Some((level, text, suppressed)) = self.limits.take(now) {
                return Some(Line::own(level, text, suppressed));
            }
        }
        self.lines.pop_front().or_else(|| self.last.pop_front())
    }

    /// Is there a line that has not been written?
    fn is_pending(&self) -> bool {
        let count = self.dropped > 0 && self.works;
        self.busy || count || self.limits.next().is_some() || !self.lines.is_empty() || !self.last.is_empty()
    }
}

impl Line {
    /// One that the log says of itself.
    fn own(level: Level, text: String, stands_for: u64) -> Self {
        Self { level, target: "tproxy".into(), text, details: None, stands_for }
    }
}

#[expect(clippy::disallowed_methods, reason = "the log has its own clock")]
fn now() -> Instant {
    Instant::now()
}

/// Starts the log's thread and makes it the process's logger.
pub(crate) fn start(level: LevelFilter, format: LogFormat) -> io::Result<LogQueue> {
    let log = LogQueue::of(Format::new(format, level));
    let writer = log.clone();
    thread::Builder::new().name("log".into()).spawn(move || writer.write_lines())?;
    log::set_max_level(level);
    log::set_boxed_logger(Box::new(log.clone())).map_err(io::Error::other)?;
    Ok(log)
}

impl LogQueue {
    fn of(format: Format) -> Self {
        let shared = Shared { format, queue: Mutex::default(), filled: Condvar::new(), taken: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// One that nobody writes, for tests.
    #[cfg(test)]
    pub(crate) fn unwritten(level: LevelFilter) -> Self {
        Self::of(Format::new(LogFormat::Text, level))
    }

    /// The process ends. The lines that are said from now on are the last, and not dropped.
    pub(crate) fn begin_exit(&self) {
        let mut queue = self.queue();
        // If lines were dropped, this is the last chance to say so.
        (queue.exiting, queue.works) = (true, true);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Waits until all lines are written, for at most a second each and five seconds in all.
    pub(crate) fn finish(&self) {
        let begun = now();
        let mut queue = self.queue();
        while queue.is_pending() {
            let elapsed = begun.elapsed();
            if elapsed >= QUEUE_TIMEOUT {
                let left = queue.lines.len() as u64;
                queue.drop_lines(left);
                queue.lines.clear();
            }
            let (taken, timeout) = (queue.taken, FLUSH_TIMEOUT.min(FLUSH_TIMEOUT_MAX.saturating_sub(elapsed)));
            let stuck = |queue: &mut Queue| queue.taken == taken && queue.is_pending();
            let waited = self.shared.taken.wait_timeout_while(queue, timeout, stuck);
            let (left, result) = waited.unwrap_or_else(PoisonError::into_inner);
            if result.timed_out() {
                return;
            }
            queue = left;
        }
    }

    /// Lines that were dropped so far.
    pub(crate) fn lines_dropped(&self) -> u64 {
        self.queue().dropped_in_all
    }

    /// Waits until there is room for some lines more, or for so long. Is there?
    pub(crate) fn wait_for_room(&self, limit: Duration) -> bool {
        let is_long = |queue: &mut Queue| queue.lines.len() > QUEUE_MAX / 8;
        let waited = self.shared.taken.wait_timeout_while(self.queue(), limit, is_long);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line. One about an event is always written.
    fn push(&self, line: Line, is_event: bool) {
        let mut queue = self.queue();
        if !is_event
            && !queue.exiting
            && let Verdict::Suppress { is_first } = queue.limits.judge(line.level, &line.text, now())
        {
            drop(queue);
            // The thread may sleep for ever, and is to tell the count.
            if is_first {
                self.shared.filled.notify_one();
            }
            return;
        }
        let exiting = queue.exiting;
        let (lines, most) = if exiting { (&mut queue.last, LAST_MAX) } else { (&mut queue.lines, QUEUE_MAX) };
        if lines.len() >= most {
            queue.drop_lines(1);
            return;
        }
        lines.push_back(line);
        let is_first = lines.len() == 1;
        drop(queue);
        // The thread sleeps only while the queue is empty.
        if is_first {
            self.shared.filled.notify_one();
        }
    }

    /// The thread.
    fn write_lines(&self) {
        loop {
            let line = self.pop();
            let works = self.shared.format.write(&line);
            let mut queue = self.queue();
            queue.works = works;
            if !works {
                queue.drop_lines(line.stands_for);
            }
        }
    }

    /// Waits for a line and takes it off the queue.
    fn pop(&self) -> Line {
        let mut queue = self.queue();
        loop {
            let line = queue.take();
            queue.busy = line.is_some();
            queue.taken += u64::from(line.is_some());
            self.shared.taken.notify_all();
            if let Some(line) = line {
                return line;
            }
            queue = match queue.limits.next() {
                None => self.shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let wait = self.shared.filled.wait_timeout(queue, next.saturating_duration_since(now()));
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Log for LogQueue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // The crate, not the module.
            let target = record.target().split("::").next().unwrap_or_default().to_owned();
            let (level, text, details) =
                (record.level(), record.args().to_string(), self.shared.format.details(record));
            let is_event = record.key_values().count() > 0;
            self.push(Line { level, target, text, details, stands_for: 1 }, is_event);
        }
    }

    fn flush(&self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_room_leaves_most_of_it_to_others() {
        let log = LogQueue::unwritten(LevelFilter::Info);
        let mut lines = 0;
        while log.wait_for_room(Duration::ZERO) {
            log.push(Line::own(Level::Info, "a line".into(), 1), true);
            lines += 1;
        }
        assert!((1..=QUEUE_MAX / 4).contains(&lines), "{lines} of {QUEUE_MAX}");
        // Nobody writes them.
        assert_eq!(log.lines_dropped(), 0);
    }
}
