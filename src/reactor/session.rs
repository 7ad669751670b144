//! One client and its upstream, from accept to reap.

use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::ending::Ending;
use super::record::{Cause, Record};
use crate::net::{Hints, Peer, Stream, Time, Token};
use crate::relay::pair::{Fate, Pair};
use crate::relay::pool::Pool;
use crate::relay::side::{End, Side};

/// One accepted client and its upstream connection. At most 152 bytes: an idle session costs nothing else.
#[derive(Debug)]
pub(super) struct Session<S: Stream> {
    pub(super) phase: Phase<S>,
    /// getpeername fails after a reset, so the address is kept; that of an IPv4 client as `::ffff:a.b.c.d`, which takes
    /// four bytes less than not to know which it is.
    client: SocketAddrV6,
    /// Place of the upstream address in use, or last tried, in the configuration.
    pub(super) upstream: u8,
    /// The serials of the client's and of the upstream's socket: see [`Token`].
    serials: [u32; 2],
    began: Time,
    /// When a byte or a state last moved.
    pub(super) last_progress: Time,
    /// When its entry in the table of alarms is due; NEVER when it has none.
    pub(super) alarm: Time,
    /// When the upstream was connected, in milliseconds after the beginning.
    connected_ms: u32,
    /// Set when something other than the streams themselves decides the end.
    cause: Option<Cause>,
    /// It is on the ready queue.
    pub(super) ready: bool,
    /// Its flows are on the backlog: up, down.
    pub(super) queued: [bool; 2],
    /// It waits to be reaped.
    pub(super) ended: bool,
    /// Its upstream is asked now and then whether it is still there.
    pub(super) kept_alive: bool,
    /// Because it had not finished when the relay was to stop.
    pub(super) cut_short: bool,
}

/// What a session is doing.
#[derive(Debug)]
pub(super) enum Phase<S: Stream> {
    /// Nothing is relayed yet.
    Connecting(Connecting<S>),
    /// Bytes move.
    Relaying(Pair<S>),
    /// Nothing more will be relayed; what was written is being acknowledged.
    Ending(Pair<S>, Ending),
    /// Between two phases, and after the last.
    Gone,
}

/// A client that waits for its upstream.
#[derive(Debug)]
pub(super) struct Connecting<S> {
    pub(super) client: Side<S>,
    /// The connection under way; none in the pause between attempts.
    pub(super) upstream: Option<Side<S>>,
    /// The address to be tried next.
    pub(super) next: u16,
    /// Attempts that failed.
    pub(super) failures: u32,
    /// When the address in use, or the pause, has had its time.
    pub(super) until: Time,
    /// Why the last address failed.
    pub(super) last: Cause,
    /// It waits for a descriptor, not for the upstream.
    pub(super) waits_for_descriptor: bool,
}

impl<S: Stream> Session<S> {
    /// A client that was just accepted.
    pub(super) fn new(stream: S, client: SocketAddr, serial: u32, now: Time) -> Self {
        let connecting = Connecting {
            client: Side::new(stream),
            upstream: None,
            next: 0,
            failures: 0,
            until: now,
            last: Cause::ConnectTimeout,
            waits_for_descriptor: false,
        };
        Self {
            phase: Phase::Connecting(connecting),
            client: match client {
                SocketAddr::V4(address) => SocketAddrV6::new(address.ip().to_ipv6_mapped(), address.port(), 0, 0),
                SocketAddr::V6(address) => address,
            },
            upstream: 0,
            serials: [serial, 0],
            began: now,
            last_progress: now,
            alarm: Time::NEVER,
            connected_ms: 0,
            cause: None,
            ready: false,
            queued: [false; 2],
            ended: false,
            cut_short: false,
            kept_alive: false,
        }
    }

    /// The serial of this peer's socket, 0 if it has none yet.
    pub(super) const fn serial(&self, peer: Peer) -> u32 {
        self.serials[peer as usize]
    }

    /// The token of this peer's socket, and of the flow that reads from it.
    pub(super) const fn token(&self, key: u32, peer: Peer) -> Token {
        Token::new(self.serial(peer), key, peer)
    }

    /// A new connection to the upstream goes under this serial; events of the one before it no longer count.
    pub(super) const fn renumber_upstream(&mut self, serial: u32) {
        self.serials[Peer::Upstream as usize] = serial;
    }

    /// When connecting must be over.
    pub(super) fn connect_deadline(&self, timeout: Duration) -> Time {
        self.began + timeout
    }

    /// Remembers an event.
    pub(super) fn mark(&mut self, peer: Peer, hints: Hints) {
        match &mut self.phase {
            Phase::Connecting(connecting) => match peer {
                Peer::Client => connecting.client.mark(hints),
                Peer::Upstream => {
                    if let Some(upstream) = &mut connecting.upstream {
                        upstream.mark(hints);
                    }
                }
            },
            Phase::Relaying(pair) | Phase::Ending(pair, _) => pair.mark(peer, hints),
            Phase::Gone => {}
        }
    }

    /// The upstream is there: from connecting to relaying.
    pub(super) fn connected(&mut self, now: Time) {
        if let Phase::Connecting(connecting) = std::mem::replace(&mut self.phase, Phase::Gone)
            && let Some(upstream) = connecting.upstream
        {
            self.last_progress = now;
            self.connected_ms = millis(now.since(self.began));
            self.phase = Phase::Relaying(Pair::new(connecting.client, upstream));
        }
    }

    /// Forgets what is known of both sides' readiness: the next run tries everything.
    pub(super) fn assume_ready(&mut self) {
        match &mut self.phase {
            Phase::Connecting(connecting) => connecting.client.assume_ready(),
            Phase::Relaying(pair) | Phase::Ending(pair, _) => pair.assume_ready(),
            Phase::Gone => {}
        }
    }

    /// Is it relaying, and nobody looks after the upstream's connection yet?
    pub(super) const fn lacks_keepalive(&self) -> bool {
        matches!(self.phase, Phase::Relaying(_)) && !self.kept_alive
    }

    /// Has the kernel look after the upstream's connection.
    pub(super) fn keep_alive(&mut self) {
        if let Phase::Relaying(pair) = &mut self.phase {
            self.kept_alive = true;
            pair.side_mut(Peer::Upstream).stream_mut().keep_alive();
        }
    }

    /// From relaying to ending, unless it ends already.
    pub(super) fn begin_ending(&mut self, now: Time) {
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Relaying(pair) => {
                self.last_progress = now;
                self.phase = Phase::Ending(pair, Ending::new(now));
            }
            phase @ (Phase::Connecting(_) | Phase::Ending(..) | Phase::Gone) => self.phase = phase,
        }
    }

    /// When inactivity is too much, and what it is called.
    pub(super) fn inactive_at(&self, idle: Option<Duration>, half_close: Option<Duration>) -> Option<(Time, Cause)> {
        let Phase::Relaying(pair) = &self.phase else {
            return None;
        };
        let half_close = half_close.filter(|_| pair.is_half_closed()).map(|wait| (wait, Cause::HalfCloseTimeout));
        let idle = idle.map(|wait| (wait, Cause::IdleTimeout));
        let nearest = idle.into_iter().chain(half_close).min_by_key(|(wait, _)| *wait);
        nearest.map(|(wait, cause)| (self.last_progress + wait, cause))
    }

    /// Something other than the streams decides the end. The first cause stays, also if it was a stream's.
    pub(super) fn set_cause(&mut self, cause: Cause) {
        let earlier = match &self.phase {
            Phase::Relaying(pair) | Phase::Ending(pair, _) => pair.first_fault(),
            Phase::Connecting(_) | Phase::Gone => None,
        };
        let cause = earlier.map_or(cause, |(peer, fault)| Cause::of_fault(peer, fault));
        self.cause.get_or_insert(cause);
    }

    /// Ends the streams and says what there was. Dropping a session without this resets its streams too, but loses
    /// count of its leases.
    pub(super) fn end(mut self, upstreams: &[SocketAddr], now: Time, pool: &mut Pool<S::Pipe>) -> Record {
        let time = now.since(self.began);
        let mut record = Record {
            client: match self.client.ip().to_ipv4_mapped() {
                Some(ip) => SocketAddr::new(ip.into(), self.client.port()),
                None => self.client.into(),
            },
            upstream: upstreams[usize::from(self.upstream)],
            up: 0,
            down: 0,
            time,
            connect: time,
            end: Cause::NoResources,
            cut_short: self.cut_short,
        };
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Relaying(pair) | Phase::Ending(pair, _) => {
                record.up = pair.flow(Peer::Client).moved();
                record.down = pair.flow(Peer::Upstream).moved();
                record.connect = Duration::from_millis(self.connected_ms.into());
                let fault = pair.first_fault().map(|(peer, fault)| Cause::of_fault(peer, fault));
                let fin = pair.first_fin().map(Cause::of_fin);
                // A goodbye only if all was said and nobody forced the end.
                let end = match pair.fate() {
                    Fate::Done(end) if self.cause.is_none() => end,
                    Fate::Done(_) | Fate::OneSideDead | Fate::Relaying => End::Reset,
                };
                let streams = if end == End::Fin { fin } else { fault.or(fin) };
                record.end = self.cause.or(streams).unwrap_or(record.end);
                pair.end(end, pool);
            }
            Phase::Connecting(connecting) => record.end = self.cause.unwrap_or(connecting.last),
            Phase::Gone => {}
        }
        record
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::mio::Socket;

    #[test]
    fn a_session_is_at_most_152_bytes() {
        assert!(size_of::<Session<Socket>>() <= 152, "{}", size_of::<Session<Socket>>());
    }
}
