//! A line that repeats does not fill the log: 10 a second are written, then how many more there were.
//!
//! It repeats if its text is the same. The line of a session is about that session alone, and is always written.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log::Level;

/// Lines with one text that are written within [`WINDOW`].
const LINES_MAX: u32 = 10;

const WINDOW: Duration = Duration::from_secs(1);

/// Texts that are remembered, at most. Others are written.
const TEXTS_MAX: usize = 1024;

/// The texts of the last second.
#[derive(Debug, Default)]
pub(super) struct Limits {
    texts: HashMap<String, Window>,
    /// Texts with a count to be told: most often none, and then no line costs a look at all of them.
    counts: usize,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    level: Level,
    written: u32,
    suppressed: u64,
}

/// What is to become of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// It is counted. The count begins with it, or has begun.
    Suppress {
        is_first: bool,
    },
}

impl Limits {
    /// A line is said. May it be written?
    pub(super) fn judge(&mut self, level: Level, text: &str, now: Instant) -> Verdict {
        if let Some(window) = self.texts.get_mut(text)
            && (window.suppressed > 0 || now.duration_since(window.begun) < WINDOW)
        {
            if window.written < LINES_MAX {
                window.written += 1;
                return Verdict::Write;
            }
            window.suppressed += 1;
            let is_first = window.suppressed == 1;
            self.counts += usize::from(is_first);
            return Verdict::Suppress { is_first };
        }
        if self.texts.len() >= TEXTS_MAX {
            self.texts.retain(|_, window| window.suppressed > 0 || now.duration_since(window.begun) < WINDOW);
        }
        if self.texts.len() < TEXTS_MAX {
            self.texts.insert(text.to_owned(), Window { begun: now, level, written: 1, suppressed: 0 });
        }
        Verdict::Write
    }

    /// When the next count is to be told.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.counts == 0 {
            return None;
        }
        self.texts.values().filter(|window| window.suppressed > 0).map(|window| window.begun + WINDOW).min()
    }

    /// A count that is to be told by now: its level, its text, and for how many lines it stands.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Level, String, u64)> {
        let is_due = |window: &Window| window.suppressed > 0 && now >= window.begun + WINDOW;
        let text = self.texts.iter().find(|(_, window)| is_due(window)).map(|(text, _)| text.clone())?;
        let Window { level, suppressed, .. } = self.texts.remove(&text)?;
        self.counts -= 1;
        Some((level, format!("{suppressed} more like this one were left out: {text}"), suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::now;
    use super::*;

    #[test]
    fn ten_of_a_text_are_written_in_a_second_and_the_others_are_counted() {
        let (mut limits, begin) = (Limits::default(), now());
        let at = |millis| begin + Duration::from_millis(millis);
        let written = |limits: &mut Limits, text: &str, count, millis| {
            (0..count).filter(|_| limits.judge(Level::Warn, text, at(millis)) == Verdict::Write).count()
        };
        assert_eq!(written(&mut limits, "a", 10, 0), 10);
        assert_eq!(limits.next(), None);
        assert_eq!(limits.judge(Level::Warn, "a", at(1)), Verdict::Suppress { is_first: true });
        assert_eq!(limits.judge(Level::Warn, "a", at(1)), Verdict::Suppress { is_first: false });
        assert_eq!((written(&mut limits, "a", 3, 999), written(&mut limits, "b", 3, 999)), (0, 3));
        assert_eq!((limits.next(), limits.take(at(999))), (Some(at(1000)), None));
        let told = (Level::Warn, "5 more like this one were left out: a".to_owned(), 5);
        assert_eq!((limits.take(at(1000)), limits.take(at(1000)), limits.next()), (Some(told), None, None));
        // Another second has begun.
        assert_eq!((written(&mut limits, "a", 11, 1500), limits.next()), (10, Some(at(2500))));
    }

    #[test]
    fn after_a_calm_second_a_text_is_new_and_few_are_remembered() {
        let (mut limits, begin) = (Limits::default(), now());
        for second in 0..3 {
            let now = begin + Duration::from_secs(second);
            assert!((0..10).all(|_| limits.judge(Level::Info, "x", now) == Verdict::Write));
        }
        assert_eq!(limits.next(), None);
        for number in 0..5000_u64 {
            let now = begin + Duration::from_millis(3000 + number);
            assert_eq!(limits.judge(Level::Info, &number.to_string(), now), Verdict::Write);
            assert!(limits.texts.len() <= TEXTS_MAX);
        }
    }

    #[test]
    fn a_count_is_told_however_many_other_texts_there_are() {
        let (mut limits, begin) = (Limits::default(), now());
        for _ in 0..12 {
            limits.judge(Level::Warn, "often", begin);
        }
        for number in 0..3000_u64 {
            let now = begin + Duration::from_millis(number);
            limits.judge(Level::Info, &number.to_string(), now);
        }
        let (_, text, count) = limits.take(begin + WINDOW).unwrap();
        assert_eq!((text.as_str(), count), ("2 more like this one were left out: often", 2));
    }
}
