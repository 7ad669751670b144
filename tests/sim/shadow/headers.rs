//! What the relay was told before a session's client was known: a model of the headers that are accepted and sent.

use std::time::Duration;

use rustix::io::Errno;

use super::Shadow;
use crate::hello::{Announced, Verdict, header};
use crate::kernel::ConnId;
use crate::shadow::clients::Why;

/// A header may take so long, from accept.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of the header that is to come first on a session's connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Header {
    /// Bytes that were read before it was whole; none if there is to be no header, or it is there.
    pub(crate) awaited: Option<u64>,
    /// What came is no header.
    pub(crate) bad: bool,
    /// Its bytes, once it is whole, and what it says.
    pub(crate) length: u64,
    pub(crate) announced: Option<Announced>,
    /// The client that it announces may not come.
    pub(crate) refused: Option<Why>,
    /// What the upstream is to be sent first, once that is known, and how much of it is not written.
    pub(crate) sent: Option<Vec<u8>>,
    pub(crate) unsent: u64,
}

impl Shadow {
    /// Something was read from a client that was to be announced. Its first bytes are these.
    pub(crate) fn read_header(&mut self, session: usize, verdict: Verdict, result: Result<usize, Errno>) {
        let now = self.now;
        let it = &mut self.sessions[session];
        let before = it.header.awaited.unwrap_or_default();
        match (result, verdict) {
            (Ok(0), _) => it.header.bad = true,
            (Ok(count), Verdict::Header(length, announced)) if before + count as u64 >= length => {
                it.header.awaited = None;
                (it.header.length, it.header.announced) = (length, Some(announced.clone()));
                it.flows[0].read = before + count as u64 - length;
                (it.opened, it.last_moved, it.last_io) = (now, now, now);
                if let Announced::Inet(source, _) = announced {
                    it.announced = Some(source);
                    self.judge_announced(session);
                }
            }
            (Ok(count), verdict) => {
                it.header.awaited = Some(before + count as u64);
                it.header.bad |= matches!(verdict, Verdict::Bad(at) if before + count as u64 >= at);
            }
            (Err(Errno::AGAIN | Errno::INTR), _) => return self.vain_calls += 1,
            (Err(error), _) => {
                let client = it.client;
                self.told(client, error);
            }
        }
        self.progress = true;
    }

    /// "The announced client is the one in allow, deny and per IP."
    fn judge_announced(&mut self, session: usize) {
        let it = &self.sessions[session];
        let (client, route, door) = (self.client_of(it), it.route, it.door);
        match self.limits(door, &self.routes[route], client.ip()) {
            Some(why) => {
                self.sessions[session].header.refused = Some(why);
                self.tell_refused(route, client, why);
            }
            None => {
                // Where it came from may be closed by now: then nobody counts.
                let counts = self.routes[route].max_sessions_per_ip.is_some() && self.doors[door].open;
                self.sessions[session].is_counted = counts;
            }
        }
    }

    /// The address of our end of a client's connection was asked for: the upstream is to be told.
    pub(crate) fn local_was_asked(&mut self, conn: ConnId, result: Result<std::net::SocketAddr, Errno>) {
        let Some((session, tproxy::net::Peer::Client)) = self.owner(conn) else {
            return self.violation(format!("the address of connection {conn} is asked for, and it is no client's"));
        };
        let it = &self.sessions[session];
        let (route, client) = (self.route(it), self.client_of(it));
        let Some(version) = route.send_proxy.filter(|_| it.header.length == 0 && it.header.sent.is_none()) else {
            return self.violation(format!("session {session}: its address is asked for, and nobody needs it"));
        };
        let ends = result.map_or(Announced::Unknown, |destination| Announced::Inet(client, destination));
        self.is_to_send(session, header(version, &ends));
    }

    /// The upstream is connected. "What was accepted is passed on."
    pub(crate) fn passes_on(&mut self, session: usize) {
        let it = &self.sessions[session];
        if let (Some(version), Some(announced)) = (self.route(it).send_proxy, &it.header.announced) {
            let bytes = header(version, announced);
            self.is_to_send(session, bytes);
        }
    }

    fn is_to_send(&mut self, session: usize, bytes: Vec<u8>) {
        let header = &mut self.sessions[session].header;
        (header.unsent, header.sent) = (bytes.len() as u64, Some(bytes));
    }
}
