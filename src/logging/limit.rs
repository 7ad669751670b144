//! A class of lines that repeats does not fill the log: 10 a second are written, then how many more there were.
//!
//! A class is the place in the code that says the line. The line of a session is about that session alone, and has none.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log::{Level, Record};

/// Lines of one class that are written within [`WINDOW`].
const LINES_MAX: u32 = 10;

const WINDOW: Duration = Duration::from_secs(1);

/// A place in the code.
pub(super) type Class = (&'static str, u32);

/// The class of a record, if it has one.
pub(super) fn class(record: &Record<'_>) -> Option<Class> {
    let is_event = record.key_values().count() > 0;
    record.file_static().zip(record.line()).filter(|_| !is_event)
}

/// The classes that were seen: as many as there are places.
#[derive(Debug, Default)]
pub(super) struct Limits(HashMap<Class, Window>);

#[derive(Debug)]
struct Window {
    begun: Instant,
    written: u32,
    suppressed: u64,
    /// The last that was not written.
    last: Option<(Level, String)>,
}

impl Limits {
    /// May another line of this class be written now? Those that may not are counted.
    pub(super) fn admits(&mut self, class: Class, level: Level, text: &str, now: Instant) -> bool {
        let fresh = || Window { begun: now, written: 0, suppressed: 0, last: None };
        let window = self.0.entry(class).or_insert_with(fresh);
        // What was left out has to be told first.
        if window.suppressed == 0 && now.duration_since(window.begun) >= WINDOW {
            *window = fresh();
        }
        if window.written < LINES_MAX {
            window.written += 1;
            return true;
        }
        window.suppressed += 1;
        window.last = Some((level, text.to_owned()));
        false
    }

    /// When the next count is to be told.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|window| window.suppressed > 0).map(|window| window.begun + WINDOW).min()
    }

    /// A count that is to be told by now: its level, its text, and for how many lines it stands.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Level, String, u64)> {
        let window = self.0.values_mut().find(|window| window.suppressed > 0 && now >= window.begun + WINDOW)?;
        let (suppressed, last) = (std::mem::take(&mut window.suppressed), window.last.take());
        (window.begun, window.written) = (now, 0);
        let (level, text) = last?;
        Some((level, format!("{suppressed} more like this one were left out: {text}"), suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::now;
    use super::*;

    #[test]
    fn ten_a_second_are_written_and_the_others_are_counted() {
        let (mut limits, begin) = (Limits::default(), now());
        let at = |millis| begin + Duration::from_millis(millis);
        let written = |limits: &mut Limits, line, count, millis| {
            (0..count).filter(|nth| limits.admits(("x.rs", line), Level::Warn, &format!("n{nth}"), at(millis))).count()
        };
        assert_eq!(written(&mut limits, 1, 10, 0), 10);
        assert_eq!(limits.next(), None);
        assert_eq!((written(&mut limits, 1, 5, 999), written(&mut limits, 2, 3, 999)), (0, 3));
        assert_eq!((limits.next(), limits.take(at(999))), (Some(at(1000)), None));
        let told = (Level::Warn, "5 more like this one were left out: n4".to_owned(), 5);
        assert_eq!((limits.take(at(1000)), limits.take(at(1000)), limits.next()), (Some(told), None, None));
        // Another second has begun.
        assert_eq!(written(&mut limits, 1, 11, 1500), 10);
        assert_eq!(limits.next(), Some(at(2000)));
    }

    #[test]
    fn after_a_calm_second_a_class_is_new() {
        let (mut limits, begin) = (Limits::default(), now());
        for second in 0..3 {
            let now = begin + Duration::from_secs(second);
            assert!((0..10).all(|_| limits.admits(("x.rs", 1), Level::Info, "x", now)));
        }
        assert_eq!(limits.next(), None);
    }
}
