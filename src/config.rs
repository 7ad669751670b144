//! What a relay is told to do.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Error;

/// What a relay is told to do. [`Config::new`] gives the defaults; change the fields that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen. Port 0 lets the kernel choose one; `[::]` takes IPv4 clients too.
    pub from: SocketAddr,
    /// Where to connect to, tried in this order: 1 to 256 addresses, none with port 0.
    pub to: Vec<SocketAddr>,
    /// Bounds the whole of connecting to the upstream, attempts and pauses included. Default 5 s.
    pub connect_timeout: Duration,
    /// How often all the upstream addresses are tried, at least once. Default 3.
    pub connect_attempts: u32,
    /// Inactivity in both directions, since the first FIN, after which both ends are reset. None is never. Default 5
    /// min.
    pub half_close_timeout: Option<Duration>,
    /// Inactivity in both directions after which both ends are reset. None is never, and the default.
    pub idle_timeout: Option<Duration>,
    /// How long sessions may take to finish after a stop request; zero resets them at once, None waits for ever.
    /// Default 15 s.
    pub drain_timeout: Option<Duration>,
    /// How long a peer may take to acknowledge the next byte of what it is owed before its connection is reset.
    /// Default 300 ms, which is short for a distant peer.
    pub reset_grace: Duration,
    /// Bytes in a buffer, of which a direction holds one while it holds bytes, unless they are in a pipe (see
    /// [`splice`](Self::splice)): 4 KiB to 16 MiB. Default 64 KiB.
    pub buffer_size: usize,
    /// Whether bytes may pass through a pipe of the kernel's instead of being copied (`splice(2)`, Linux). Default
    /// [`Splice::Auto`].
    pub splice: Splice,
    /// The most sessions at a time. None, the default, is what the limit of open descriptors allows; more than that is
    /// lowered to it.
    pub max_sessions: Option<usize>,
}

/// When bytes pass through a pipe of the kernel's instead of being copied.
///
/// It makes bulk transfers cheaper and small messages dearer. `splice(2)` knows no MSG_NOSIGNAL: a process that neither
/// ignores nor handles SIGPIPE may be killed by it. Rust's `main` ignores it; without one, choose [`Off`](Self::Off).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Splice {
    /// When a direction has proved to be bulk, until it proves to be small again.
    #[default]
    Auto,
    /// From the first byte on, where there is a pipe. For tests, and for those who know.
    On,
    /// Never.
    Off,
}

/// The most addresses an upstream may have.
const UPSTREAMS_MAX: usize = 256;

/// Every duration is at least a tick and at most a year: more is a mistake in the unit.
const DURATIONS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 60 * 60);

impl Config {
    /// Relay what connects to `from` to the first of `to` that answers.
    pub fn new(from: SocketAddr, to: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            from,
            to: to.into_iter().collect(),
            connect_timeout: Duration::from_secs(5),
            connect_attempts: 3,
            half_close_timeout: Some(Duration::from_secs(300)),
            idle_timeout: None,
            drain_timeout: Some(Duration::from_secs(15)),
            reset_grace: Duration::from_millis(300),
            buffer_size: 64 << 10,
            splice: Splice::Auto,
            max_sessions: None,
        }
    }

    /// Is every field within its range?
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Config(what));
        if !(1..=UPSTREAMS_MAX).contains(&self.to.len()) {
            return wrong(format!("{} upstream addresses; 1 to {UPSTREAMS_MAX} are possible", self.to.len()));
        }
        if let Some(upstream) = self.to.iter().find(|upstream| upstream.port() == 0) {
            return wrong(format!("nobody can be reached at port 0: {upstream}"));
        }
        let drain = self.drain_timeout.filter(|timeout| !timeout.is_zero());
        for (name, duration) in [
            ("connect", Some(self.connect_timeout)),
            ("half-close", self.half_close_timeout),
            ("idle", self.idle_timeout),
            ("drain", drain),
            ("reset-grace", Some(self.reset_grace)),
        ] {
            if let Some(duration) = duration
                && !DURATIONS.contains(&duration)
            {
                return wrong(format!("the {name} time of {duration:?} is not between 1ms and 365 days"));
            }
        }
        if self.connect_attempts == 0 {
            return wrong("at least one attempt to connect is needed".to_owned());
        }
        if !(4 << 10..=16 << 20).contains(&self.buffer_size) {
            return wrong(format!("a buffer of {} bytes is not between 4 KiB and 16 MiB", self.buffer_size));
        }
        if self.max_sessions == Some(0) {
            return wrong("with no session at all there is nothing to relay".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(([127, 0, 0, 1], 0).into(), [([127, 0, 0, 1], 80).into()])
    }

    fn complaint(change: impl FnOnce(&mut Config)) -> String {
        let mut config = config();
        change(&mut config);
        config.check().expect_err("this should be out of range").to_string()
    }

    #[test]
    fn the_defaults_are_in_range() {
        config().check().unwrap();
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let day = Duration::from_secs(24 * 60 * 60);
        for (complaint, word) in [
            (complaint(|c| c.to.clear()), "0 upstream addresses"),
            (complaint(|c| c.to = vec![c.to[0]; 257]), "257 upstream addresses"),
            (complaint(|c| c.to[0].set_port(0)), "port 0"),
            (complaint(|c| c.connect_timeout = Duration::ZERO), "connect"),
            (complaint(|c| c.connect_attempts = 0), "attempt"),
            (complaint(|c| c.half_close_timeout = Some(366 * day)), "half-close"),
            (complaint(|c| c.idle_timeout = Some(Duration::from_micros(999))), "idle"),
            (complaint(|c| c.drain_timeout = Some(366 * day)), "drain"),
            (complaint(|c| c.reset_grace = Duration::ZERO), "reset-grace"),
            (complaint(|c| c.buffer_size = (4 << 10) - 1), "buffer"),
            (complaint(|c| c.buffer_size = (16 << 20) + 1), "buffer"),
            (complaint(|c| c.max_sessions = Some(0)), "session"),
        ] {
            assert!(complaint.contains(word), "{complaint}");
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_in_range() {
        for change in [
            |c: &mut Config| c.to = vec![c.to[0]; 256],
            |c: &mut Config| c.drain_timeout = Some(Duration::ZERO),
            |c: &mut Config| c.drain_timeout = None,
            |c: &mut Config| c.half_close_timeout = None,
            |c: &mut Config| c.idle_timeout = Some(Duration::from_millis(1)),
            |c: &mut Config| c.connect_timeout = Duration::from_secs(365 * 24 * 60 * 60),
            |c: &mut Config| c.buffer_size = 4 << 10,
            |c: &mut Config| c.buffer_size = 16 << 20,
            |c: &mut Config| c.max_sessions = Some(1),
            |c: &mut Config| c.connect_attempts = 1,
        ] {
            let mut config = config();
            change(&mut config);
            config.check().unwrap();
        }
    }
}
