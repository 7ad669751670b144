//! The log: lines are queued by any thread and written by a thread of their own.
//!
//! ```text
//!   reactor ── log! ──► queue, 1,024 lines ──► thread "log" ──► simple_logger ──► stderr
//!                       full: drop and count                                      may block, may fail
//! ```
//! stderr can be a pipe that nothing reads, a full disk, or closed. Then the thread waits, or fails, and the relay goes
//! on.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

/// Lines that wait for stderr. More are dropped and counted.
const QUEUE_MAX: usize = 1024;

/// At exit, how long to wait for the next line to be written before giving up.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// And for all of them.
const FLUSH_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// The relay's log, until the process ends.
#[derive(Clone)]
pub(crate) struct LogQueue {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is a line for the thread.
    filled: Condvar,
    /// The thread has taken a line, or found none.
    taken: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    dropped: u64,
    /// The thread is writing a line that is not in the queue any more.
    busy: bool,
    /// Lines the thread has taken.
    taken: u64,
}

struct Line {
    level: Level,
    target: String,
    text: String,
}

/// Starts the log's thread and makes it the process's logger.
pub(crate) fn start(level: LevelFilter) -> io::Result<LogQueue> {
    let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new(), taken: Condvar::new() });
    let log = LogQueue { shared };
    let sink = SimpleLogger::new().with_level(level).with_utc_timestamps();
    let writer = log.clone();
    thread::Builder::new().name("log".into()).spawn(move || writer.write_lines(&sink))?;
    log::set_max_level(level);
    log::set_boxed_logger(Box::new(log.clone())).map_err(io::Error::other)?;
    Ok(log)
}

impl LogQueue {
    /// Waits until the last lines are written, for at most a second each and five seconds in all.
    #[expect(clippy::disallowed_methods, reason = "the loop has ended")]
    pub(crate) fn finish(&self) {
        let begun = Instant::now();
        let mut queue = self.queue();
        while (queue.busy || !queue.lines.is_empty()) && begun.elapsed() < FLUSH_TIMEOUT_MAX {
            let taken = queue.taken;
            let stuck = |queue: &mut Queue| queue.taken == taken && (queue.busy || !queue.lines.is_empty());
            let waited = self.shared.taken.wait_timeout_while(queue, FLUSH_TIMEOUT, stuck);
            let (left, result) = waited.unwrap_or_else(PoisonError::into_inner);
            if result.timed_out() {
                return;
            }
            queue = left;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Line) {
        let mut queue = self.queue();
        if queue.lines.len() >= QUEUE_MAX {
            queue.dropped += 1;
            return;
        }
        queue.lines.push_back(line);
        let is_first = queue.lines.len() == 1;
        drop(queue);
        // The thread sleeps only while the queue is empty.
        if is_first {
            self.shared.filled.notify_one();
        }
    }

    /// The thread.
    fn write_lines(&self, sink: &SimpleLogger) {
        loop {
            let line = self.pop();
            self.write_line(&line, sink);
        }
    }

    /// Waits for a line and takes it off the queue.
    fn pop(&self) -> Line {
        let mut queue = self.queue();
        loop {
            queue.busy = !queue.lines.is_empty();
            self.shared.taken.notify_all();
            if let Some(line) = queue.lines.pop_front() {
                queue.taken += 1;
                return line;
            }
            queue = self.shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes a line, and behind it how many were dropped before it.
    fn write_line(&self, line: &Line, sink: &SimpleLogger) {
        if !write(line, sink) {
            self.queue().dropped += 1;
            return;
        }
        let dropped = std::mem::take(&mut self.queue().dropped);
        if dropped > 0 {
            let text = format!("{dropped} log lines dropped: stderr is slow or failing");
            if !write(&Line { level: Level::Warn, target: "tproxy".into(), text }, sink) {
                self.queue().dropped += dropped;
            }
        }
    }
}

/// simple_logger ends in `eprintln!`, which panics when stderr fails. Did it work?
fn write(Line { level, target, text }: &Line, sink: &SimpleLogger) -> bool {
    let write = || sink.log(&Record::builder().level(*level).target(target).args(format_args!("{text}")).build());
    catch_unwind(AssertUnwindSafe(write)).is_ok()
}

impl Log for LogQueue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // The crate, not the module.
            let target = record.target().split("::").next().unwrap_or_default().to_owned();
            self.push(Line { level: record.level(), target, text: record.args().to_string() });
        }
    }

    fn flush(&self) {
        self.finish();
    }
}
