//! One client and its upstream, from accept to reap.

mod attempts;
mod ending;
mod header;
mod moment;
mod opening;
mod relaying;
mod waiting;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::cause::Cause;
use super::record::Record;
use super::table::Queued;
use super::upstreams::EndpointId;
use crate::net::{Address, Client, Hints, Peer, Row, Stream, Time, Token, report};
use crate::relay::flow::Preface;
use crate::relay::input::End;
use crate::relay::pair::{Fate, Pair};
use crate::relay::pool::Pool;
use crate::relay::side::Side;
use ending::Ending;
use header::Awaiting;
use moment::Moment;
use opening::Opening;
pub(super) use relaying::{Conclusion, Trigger};

/// One accepted client and its upstream connection. At most 152 bytes: an idle session costs nothing else.
#[derive(Debug)]
pub(super) struct Session<S: Stream> {
    stage: Stage<S>,
    client: Client,
    route: u16,
    /// The endpoint in use, or last tried.
    endpoint: Option<EndpointId>,
    /// The serials of the client's and of the upstream's socket: see [`Token`].
    serials: [u32; 2],
    began: Time,
    /// When a byte or a state last moved.
    last_progress: Time,
    /// When its entry in the table of alarms is due; NEVER when it has none.
    pub(super) alarm: Time,
    /// When the upstream was connected, in milliseconds after the beginning.
    connected_ms: u32,
    /// When bytes were first thrown away because their target takes nothing any more.
    discards_since: Option<Moment>,
    /// Set when something other than the streams decides the end.
    cause: Option<Cause>,
    /// The queues of the table that it is on.
    pub(super) queued: Queued,
    /// It was reset by the drain deadline or a stop request that does not wait.
    cut_short: bool,
    /// Its client counts among the sessions of its address.
    is_counted: bool,
}

/// What a session is doing.
///
/// ```text
///   Header ──► Opening ──► Relaying ──► Relaying with an Ending ──► reaped
///      └──────────┴───────────┴──────────────────────────────────────▲
/// ```
#[derive(Debug)]
enum Stage<S: Stream> {
    /// The client is to be announced by a proxy. Where that is not so, a session begins with the next.
    Header(Awaiting<S>),
    /// The client waits for its upstream.
    Opening(Opening<S>),
    /// Bytes move; or, with an ending, nothing more will be relayed and what was written is being acknowledged.
    Relaying(Pair<S>, Option<Ending>),
    /// The streams are being moved from one stage to the next. No other method ever sees it.
    Moving,
}

impl<S: Stream> Stage<S> {
    /// A method was called in a stage that it is not for.
    fn unexpected(&self, what: &str) {
        let stage = match self {
            Self::Header(_) => "awaiting a header",
            Self::Opening(_) => "opening",
            Self::Relaying(_, None) => "relaying",
            Self::Relaying(_, Some(_)) => "ending",
            Self::Moving => "moving",
        };
        debug_assert!(false, "{what} while {stage}");
    }
}

impl<S: Stream> Session<S> {
    /// A client that was just accepted.
    pub(super) fn new(stream: S, client: Client, (route, accept_proxy): (u16, bool), serial: u32, now: Time) -> Self {
        Self {
            stage: match accept_proxy {
                true => Stage::Header(Awaiting::new(stream)),
                false => Stage::Opening(Opening::new(Side::new(stream), None, now)),
            },
            client,
            route,
            endpoint: None,
            serials: [serial, 0],
            began: now,
            last_progress: now,
            alarm: Time::NEVER,
            connected_ms: 0,
            discards_since: None,
            cause: None,
            queued: Queued::default(),
            cut_short: false,
            is_counted: false,
        }
    }

    /// Its client counts among the sessions of this address from now on, if it has one.
    pub(super) fn count_client(&mut self) -> Option<IpAddr> {
        let ip = self.client.ip();
        self.is_counted = ip.is_some();
        ip
    }

    /// The address among whose sessions its client counts, if it does.
    pub(super) fn counted_client(&self) -> Option<IpAddr> {
        self.client.ip().filter(|_| self.is_counted)
    }

    /// The route that it came in by.
    pub(super) fn route(&self) -> u16 {
        self.route
    }

    /// When connecting began: when its client was accepted, or was announced. It relays nothing yet.
    pub(super) fn opened(&self) -> Time {
        self.last_progress
    }

    /// The endpoint in use, or last tried.
    pub(super) fn endpoint(&self) -> Option<EndpointId> {
        self.endpoint
    }

    /// The serial of this peer's socket, 0 if it has none yet.
    pub(super) fn serial(&self, peer: Peer) -> u32 {
        self.serials[peer as usize]
    }

    /// The token of this peer's socket, and of the flow that reads from it.
    pub(super) fn token(&self, key: u32, peer: Peer) -> Token {
        Token::new(self.serial(peer), key, peer)
    }

    /// A new connection to the upstream gets this serial.
    pub(super) fn renumber_upstream(&mut self, serial: u32) {
        self.serials[Peer::Upstream as usize] = serial;
    }

    /// Remembers an event. The half-close time starts when a FIN is seen, read or not.
    pub(super) fn mark(&mut self, peer: Peer, hints: Hints, now: Time) {
        match &mut self.stage {
            Stage::Header(awaiting) => {
                awaiting.client.mark(hints);
            }
            Stage::Opening(opening) => opening.mark(peer, hints),
            Stage::Relaying(pair, _) => {
                if pair.mark(peer, hints) {
                    self.last_progress = now;
                }
            }
            Stage::Moving => self.stage.unexpected("marked"),
        }
    }

    /// Forgets every WouldBlock of both sides: the next run tries everything.
    pub(super) fn assume_ready(&mut self) {
        match &mut self.stage {
            Stage::Header(awaiting) => awaiting.client.assume_ready(),
            Stage::Opening(opening) => opening.client.assume_ready(),
            Stage::Relaying(pair, _) => pair.assume_ready(),
            Stage::Moving => self.stage.unexpected("made ready"),
        }
    }

    /// Is nothing relayed yet?
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Header(_) | Stage::Opening(_))
    }

    /// The upstream is connected: from opening to relaying. The preface is what it is sent first. False, and nothing changes,
    /// if there is no upstream.
    fn established(&mut self, preface: Option<Preface<S::Pipe>>, now: Time) -> bool {
        match std::mem::replace(&mut self.stage, Stage::Moving) {
            Stage::Opening(Opening { client, upstream: Some(upstream), .. }) => {
                self.stage = Stage::Relaying(Pair::new(client, upstream, preface), None);
                self.last_progress = now;
                self.connected_ms = u32::try_from(now.since(self.began).as_millis()).unwrap_or(u32::MAX);
                true
            }
            stage @ (Stage::Header(_) | Stage::Opening(_) | Stage::Relaying(..) | Stage::Moving) => {
                stage.unexpected("established");
                self.stage = stage;
                false
            }
        }
    }

    /// When the upstream was connected, to the millisecond.
    pub(super) fn connected_at(&self) -> Time {
        self.began + Duration::from_millis(self.connected_ms.into())
    }

    /// Sets SO_KEEPALIVE with this idle time on the upstream's socket, unless the session is ending.
    pub(super) fn keep_alive(&mut self, idle: Duration) {
        if let Stage::Relaying(pair, None) = &mut self.stage {
            pair.side_mut(Peer::Upstream).stream_mut().keep_alive(idle);
        }
    }

    /// Sets TCP_USER_TIMEOUT on the upstream's socket.
    fn set_user_timeout(&mut self, timeout: Duration) {
        match &mut self.stage {
            Stage::Relaying(pair, _) => pair.side_mut(Peer::Upstream).stream_mut().set_user_timeout(timeout),
            Stage::Header(_) | Stage::Opening(_) | Stage::Moving => self.stage.unexpected("timed"),
        }
    }

    /// Something other than the streams decides the end. The first cause stays, also if it was a stream's.
    pub(super) fn set_cause(&mut self, cause: Cause) {
        let earlier = match &self.stage {
            Stage::Relaying(pair, _) => pair.first_error(),
            Stage::Header(_) | Stage::Opening(_) | Stage::Moving => None,
        };
        let cause = earlier.map_or(cause, |(peer, fault)| Cause::of_fault(peer, fault));
        self.cause.get_or_insert(cause);
    }

    /// The drain does not wait for it any longer.
    pub(super) fn cut_short(&mut self) {
        self.set_cause(Cause::Drain);
        self.cut_short = true;
    }

    /// What can be told of it while it lives.
    pub(super) fn row(&self, route: Arc<str>, upstream: Option<Address>, now: Time) -> Row {
        let (stage, up, down) = match &self.stage {
            Stage::Header(_) => (report::Stage::Header, 0, 0),
            Stage::Opening(opening) => (opening.stage(), 0, 0),
            Stage::Relaying(pair, ending) => (
                if ending.is_some() { report::Stage::Ending } else { report::Stage::Relaying },
                pair.flow(Peer::Client).moved(),
                pair.flow(Peer::Upstream).moved(),
            ),
            Stage::Moving => (report::Stage::Pause, 0, 0),
        };
        let (age, idle) = (now.since(self.began), now.since(self.last_progress));
        Row { route, client: self.client, upstream, stage, age, idle, up, down }
    }

    /// Ends the streams and returns the record. Dropping a session without this resets its streams too, but the pool
    /// loses count of its leases.
    pub(super) fn close(
        self,
        route: Option<Arc<str>>,
        upstream: Option<Address>,
        now: Time,
        pool: &mut Pool<S::Pipe>,
    ) -> Record {
        let time = now.since(self.began);
        let mut record = Record {
            route,
            client: self.client,
            upstream,
            up: 0,
            down: 0,
            undelivered_up: 0,
            undelivered_down: 0,
            time,
            connect: time,
            end: Cause::Unknown,
            cut_short: self.cut_short,
            reached: matches!(self.stage, Stage::Relaying(..)),
        };
        match self.stage {
            Stage::Relaying(pair, _) => {
                record.up = pair.flow(Peer::Client).moved();
                record.down = pair.flow(Peer::Upstream).moved();
                record.connect = Duration::from_millis(self.connected_ms.into());
                let error = pair.first_error().map(|(peer, fault)| Cause::of_fault(peer, fault));
                let fin = pair.first_fin().map(Cause::of_fin);
                // An orderly close only if all was said and nothing forced the end.
                let end = match pair.fate() {
                    Fate::Done(end) if self.cause.is_none() => end,
                    Fate::Done(_) | Fate::OneSideDead | Fate::Relaying => End::Reset,
                };
                let streams = if end == End::Fin { fin } else { error.or(fin) };
                record.end = self.cause.or(streams).unwrap_or(record.end);
                if end == End::Reset {
                    // A drain that resets a crowd makes no call for each of them.
                    let undelivered = Peer::BOTH.map(|target| match self.cut_short {
                        true => pair.held(target),
                        false => pair.undelivered(target),
                    });
                    record.undelivered_up = undelivered[Peer::Upstream as usize];
                    record.undelivered_down = undelivered[Peer::Client as usize];
                }
                pair.end(end, pool);
            }
            Stage::Header(awaiting) => {
                record.end = self.cause.unwrap_or(record.end);
                awaiting.header.give_back(pool);
            }
            Stage::Opening(opening) => {
                record.end = self.cause.unwrap_or(opening.attempts.last);
                opening.header.into_iter().for_each(|header| header.give_back(pool));
            }
            Stage::Moving => Stage::<S>::Moving.unexpected("closed"),
        }
        // Who was idle counts as finished.
        record.cut_short &= record.end != Cause::DrainIdle;
        record
    }
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
