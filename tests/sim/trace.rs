//! What happened in a run: as a hash always, as text if somebody wants to read it.

use rustix::io::Errno;
use tproxy::net::Time;

use crate::keyed::mix;

/// Lines kept of a run that does not end.
const LINES: usize = 20_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps only its hash.
    pub(crate) const fn hash_only() -> Self {
        Self { hash: 0, lines: None }
    }

    /// A trace to be read.
    pub(crate) const fn readable() -> Self {
        Self { hash: 0, lines: Some(Vec::new()) }
    }

    /// Two runs that differ have different hashes.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn mix(&mut self, words: &[u64]) {
        for word in words {
            self.hash = mix(self.hash.rotate_left(5) ^ word);
        }
    }

    /// What a call gave.
    pub(crate) fn result(&mut self, result: Result<usize, Errno>) {
        let (kind, value) = match result {
            Ok(count) => (0, count as u64),
            Err(error) => (1, u64::from(error.raw_os_error().unsigned_abs())),
        };
        self.mix(&[kind, value]);
    }

    pub(crate) fn note(&mut self, now: Time, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines
            && lines.len() < LINES
        {
            lines.push(format!("{:>14.6}ms {}", now.as_nanos() as f64 / 1e6, text()));
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
