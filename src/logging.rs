//! The log: lines are queued by whoever has something to say and written by a thread of their own.
//!
//! ```text
//!   reactor ── log! ──► queue, 1,024 lines ──► thread "log" ──► simple_logger ──► stderr
//!                       full: drop and count                                      may block, may fail
//! ```
//! stderr can be a pipe nobody reads, a full disk, or closed. Then the thread waits, or fails, and the relay goes on.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

/// Lines that wait for stderr. More are dropped and counted.
const QUEUE_MAX: usize = 1024;

/// How long the end of the process waits for the next of the last lines.
const FAREWELL: Duration = Duration::from_secs(1);

/// The relay's log, until the process ends.
#[derive(Clone)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    written: Condvar,
    /// One byte into it wakes the thread: a condition variable would do for the loop, but not for a signal handler.
    bell: UnixStream,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    lost: u64,
    /// The thread is writing a line that is not in the queue any more.
    busy: bool,
    /// Lines the thread has taken.
    taken: u64,
    /// Somebody waits for the last lines and is told of each.
    ending: bool,
    /// What to look at when the bell rings.
    watchers: Vec<Box<dyn FnMut() -> Option<String> + Send>>,
}

struct Line {
    level: Level,
    target: String,
    text: String,
}

/// Starts the log's thread and makes it the process's logger.
pub(crate) fn start(level: LevelFilter) -> io::Result<Journal> {
    let (bell, door) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    let shared = Arc::new(Shared { queue: Mutex::default(), written: Condvar::new(), bell });
    let journal = Journal { shared };
    let sink = SimpleLogger::new().with_level(level).with_utc_timestamps();
    let writer = journal.clone();
    thread::Builder::new().name("log".into()).spawn(move || writer.write_lines(door, &sink))?;
    log::set_max_level(level);
    log::set_boxed_logger(Box::new(journal.clone())).map_err(io::Error::other)?;
    Ok(journal)
}

impl Journal {
    /// A descriptor that wakes the log's thread when a byte is written to it.
    pub(crate) fn bell(&self) -> io::Result<OwnedFd> {
        Ok(self.shared.bell.try_clone()?.into())
    }

    /// Asks this whenever the bell rings, and logs what it answers.
    pub(crate) fn on_wake(&self, watcher: impl FnMut() -> Option<String> + Send + 'static) {
        self.queue().watchers.push(Box::new(watcher));
    }

    /// Waits until the last lines are written, or none was for a while.
    pub(crate) fn finish(&self) {
        let mut queue = self.queue();
        queue.ending = true;
        while queue.busy || !queue.lines.is_empty() {
            let taken = queue.taken;
            let stuck = |queue: &mut Queue| queue.taken == taken && (queue.busy || !queue.lines.is_empty());
            let waited = self.shared.written.wait_timeout_while(queue, FAREWELL, stuck);
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
            queue.lost += 1;
            return;
        }
        queue.lines.push_back(line);
        if queue.lines.len() == 1 {
            drop(queue);
            // A full bell has been rung often enough.
            let _ = (&self.shared.bell).write(b"!");
        }
    }

    /// The thread: sleeps until the bell rings, then writes until the queue is empty.
    fn write_lines(&self, mut door: UnixStream, sink: &SimpleLogger) {
        let mut rings = [0; 64];
        loop {
            match door.read(&mut rings) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) | Ok(0) => return,
                Ok(1..) => {}
            }
            let mut watchers = std::mem::take(&mut self.queue().watchers);
            let news: Vec<_> = watchers.iter_mut().filter_map(|watcher| watcher()).collect();
            self.queue().watchers.append(&mut watchers);
            for text in news {
                self.push(Line { level: Level::Info, target: "tproxy".into(), text });
            }
            while let Some(line) = self.pop() {
                self.write_line(&line, sink);
            }
        }
    }

    fn pop(&self) -> Option<Line> {
        let mut queue = self.queue();
        let line = queue.lines.pop_front();
        queue.busy = line.is_some();
        queue.taken += u64::from(queue.busy);
        if queue.ending || !queue.busy {
            self.shared.written.notify_all();
        }
        line
    }

    /// Writes a line, and what there is to say about those that were lost before it.
    fn write_line(&self, line: &Line, sink: &SimpleLogger) {
        if !write(line, sink) {
            self.queue().lost += 1;
            return;
        }
        let lost = std::mem::take(&mut self.queue().lost);
        if lost > 0 {
            let text = format!("{lost} lines of this log were lost, for it could not be written fast enough or at all");
            if !write(&Line { level: Level::Warn, target: "tproxy".into(), text }, sink) {
                self.queue().lost += lost;
            }
        }
    }
}

/// simple_logger ends in `eprintln!`, which panics when stderr fails. Did it work?
fn write(Line { level, target, text }: &Line, sink: &SimpleLogger) -> bool {
    let write = || sink.log(&Record::builder().level(*level).target(target).args(format_args!("{text}")).build());
    catch_unwind(AssertUnwindSafe(write)).is_ok()
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let (level, target, text) = (record.level(), record.target().to_owned(), record.args().to_string());
            self.push(Line { level, target, text });
        }
    }

    fn flush(&self) {
        self.finish();
    }
}
