//! The header of the PROXY protocol: read before anything is dialled, sent before anything is relayed.
//!
//! ```text
//!   accepted ── header ──► whole: the client that it announces is the session's from now on ──► dialled as always
//!                  ├──────► bad-header: something else came, or the end
//!                  └──────► header-timeout: 5 s were not enough
//! ```
//! The header stays in its lease until the upstream is connected, and what was read behind it too.

use std::time::Duration;

use super::opening::Opening;
use super::{Session, Stage};
use crate::net::{Address, Client, Net, Stream, Time};
use crate::reactor::Reactor;
use crate::reactor::cause::Cause;
use crate::relay::flow::Preface;
use crate::relay::incoming::{Accepted, Incoming, Progress};
use crate::relay::pool::Pool;
use crate::relay::proxy::{Ends, ProxyVersion, UNIX_PATHS, encode};
use crate::relay::side::Side;

/// How long a header may take, from accept: the specification asks for 3 s at least, to cover a retransmission.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a session is before its client's header is there.
#[derive(Debug)]
pub(super) struct Awaiting<S: Stream> {
    pub(super) client: Side<S>,
    pub(super) header: Incoming<S::Pipe>,
}

impl<S: Stream> Awaiting<S> {
    pub(super) fn new(client: S) -> Self {
        Self { client: Side::new(client), header: Incoming::default() }
    }
}

impl<S: Stream> Session<S> {
    /// Is its client's header still to come?
    pub(in crate::reactor) fn awaits_header(&self) -> bool {
        matches!(self.stage, Stage::Header(_))
    }

    /// The header is there. If it announces a client, the session is that client's from now on; does it?
    fn header_is_whole(
        &mut self,
        header: Accepted<S::Pipe>,
        keeps_header: bool,
        now: Time,
        pool: &mut Pool<S::Pipe>,
    ) -> bool {
        let source = match header.ends() {
            Ends::Inet { source, .. } => Some(source),
            Ends::Unix(_) | Ends::Unknown => None,
        };
        match std::mem::replace(&mut self.stage, Stage::Moving) {
            Stage::Header(Awaiting { client, .. }) => {
                let header = if keeps_header || header.has_rest() {
                    Some(header)
                } else {
                    header.give_back(pool);
                    None
                };
                self.stage = Stage::Opening(Opening::new(client, header, now));
                self.last_progress = now;
                self.client = source.map_or(self.client, Client::from);
                source.is_some()
            }
            stage @ (Stage::Opening(_) | Stage::Relaying(..) | Stage::Moving) => {
                stage.unexpected("given a header");
                self.stage = stage;
                header.give_back(pool);
                false
            }
        }
    }

    /// What the upstream is sent first. The client was accepted by the listener at this address.
    pub(in crate::reactor) fn preface(
        &mut self,
        send: Option<ProxyVersion>,
        at: &Address,
        pool: &mut Pool<S::Pipe>,
    ) -> Option<Preface<S::Pipe>> {
        let Stage::Opening(opening) = &mut self.stage else {
            self.stage.unexpected("asked for a preface");
            return None;
        };
        if let Some(header) = opening.header.take() {
            return header.into_preface(send, pool);
        }
        let version = send?;
        let mut paths = [0; UNIX_PATHS];
        let ends = match (self.client.address(), at) {
            (Some(source), _) => match opening.client.stream_mut().local() {
                Ok(Address::Inet(destination)) => Ends::Inet { source, destination },
                Ok(Address::Unix(_)) | Err(_) => Ends::Unknown,
            },
            // The client's end has no name. The listener's is as it was written.
            (None, Address::Unix(name)) => {
                paths[UNIX_PATHS / 2..].iter_mut().zip(&**name).for_each(|(place, byte)| *place = *byte);
                Ends::Unix(&paths)
            }
            (None, Address::Inet(_)) => Ends::Unknown,
        };
        Some(Preface::header(encode(version, ends).bytes(), pool))
    }
}

impl<N: Net> Reactor<N> {
    /// Something happened to a session whose header is still to come. Is it there now, and may its client come?
    pub(super) fn read_header(&mut self, key: u32) -> bool {
        let session = &mut self.table[key];
        let until = session.began + HEADER_TIMEOUT;
        let Stage::Header(Awaiting { client, header }) = &mut session.stage else {
            session.stage.unexpected("read");
            return false;
        };
        client.check_error();
        if client.first_error().is_some() {
            self.end(key, Some(Cause::ClientGone));
            return false;
        }
        match header.read(client, &mut self.pool) {
            Progress::Whole(header) => {
                let keeps_header = self.routes.get(session.route).settings.send_proxy.is_some();
                let is_announced = session.header_is_whole(header, keeps_header, self.now, &mut self.pool);
                self.disarm(key);
                // Otherwise the proxy speaks for itself, and it may come.
                return !is_announced || self.may_come(key);
            }
            Progress::Bad if client.first_error().is_some() => self.end(key, Some(Cause::ClientGone)),
            Progress::Bad => self.end(key, Some(Cause::BadHeader)),
            Progress::Incomplete if self.now >= until => self.end(key, Some(Cause::HeaderTimeout)),
            Progress::Incomplete => self.arm(key, until),
        }
        false
    }

    /// May the client come that was announced?
    fn may_come(&mut self, key: u32) -> bool {
        let session = &self.table[key];
        let (route, client) = (session.route, session.client);
        match self.refusal(route, &client) {
            None => {
                if let Some(listener) = self.routes.listener(route) {
                    self.count_client(key, listener);
                }
                true
            }
            Some(why) => {
                self.tell_refused(route, &client, why);
                self.end(key, Some(why.cause()));
                false
            }
        }
    }
}
