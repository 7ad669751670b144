//! What must hold of options of sockets, and of the line of a session that begins to relay.

use std::time::Duration;

use tproxy::net::Peer;

use crate::faults::Call;
use crate::kernel::ConnId;
use crate::plan::{read_address, read_client};
use crate::shadow::YOUNG;
use crate::world::World;

/// Upstreams that are kept alive in one turn, at most, if they are not in a hurry.
pub(super) const KEPT_PER_TURN: usize = 256;

impl World {
    /// Once for each upstream's connection of a route that wants it, with the route's time.
    pub(crate) fn did_keep_alive(&mut self, conn: ConnId, idle: Duration) {
        self.note(Call::Unacked, conn, || format!("keep alive {conn} after {idle:?}"));
        if let Some((session, peer)) = self.caller(conn, "keep alive") {
            let wanted = self.shadow.route(&self.shadow.sessions[session]).keepalive;
            let it = &mut self.shadow.sessions[session];
            if std::mem::replace(&mut it.kept_alive, true) || peer == Peer::Client {
                self.violation(format!("session {session}: connection {conn} is kept alive twice"));
            }
            if wanted != Some(idle) {
                self.violation(format!("session {session} is kept alive after {idle:?}, its route wants {wanted:?}"));
            }
            self.shadow.kept_alive += usize::from(idle >= YOUNG);
            if self.shadow.kept_alive > KEPT_PER_TURN {
                self.violation("too many upstreams are kept alive in one turn");
            }
        }
    }

    /// The same of TCP_USER_TIMEOUT, when the session begins to relay.
    pub(crate) fn did_set_user_timeout(&mut self, conn: ConnId, timeout: Duration) {
        self.note(Call::Unacked, conn, || format!("user timeout {conn}: {timeout:?}"));
        let Some(session) = self.shadow.owner_of_upstream(conn) else {
            return self.violation(format!("connection {conn}, which is no upstream's, gets a user timeout"));
        };
        let now = self.shadow.now;
        let wanted = self.shadow.route(&self.shadow.sessions[session]).tcp_user_timeout;
        let it = &mut self.shadow.sessions[session];
        let is_late = it.connected != Some(now);
        if std::mem::replace(&mut it.user_timeout, true) || wanted != Some(timeout) || is_late {
            self.violation(format!("session {session} gets {timeout:?} twice, late, or its route wants {wanted:?}"));
        }
    }

    /// A line says that a session begins to relay: in the turn in which it does, once, and only if its route wants that.
    pub(crate) fn check_open_line(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("open ") else { return false };
        let mut words = rest.split(' ').peekable();
        let name = words.next_if(|word| word.starts_with("route=")).map(|word| word["route=".len()..].to_owned());
        let mut field = |name: &str| words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
        let client = field("client").and_then(read_client);
        let upstream = field("upstream").and_then(read_address);
        let connect = field("connect").map(str::to_owned);
        let place = self.shadow.sessions.iter().position(|it| Some(self.shadow.client_of(it)) == client);
        let Some(session) = place.filter(|_| words.next().is_none()) else {
            self.violation(format!("nobody's line: {line}"));
            return true;
        };
        let now = self.shadow.now;
        let it = &self.shadow.sessions[session];
        let route = self.shadow.route(it);
        let expected = self.plan.names_routes().then(|| route.name.clone());
        let took = format!("{:.3}s", now.since(it.began).as_secs_f64());
        let is_right = route.log_open
            && it.connected == Some(now)
            && (name, upstream, connect) == (expected, it.tried, Some(took))
            && !it.said_open;
        self.shadow.sessions[session].said_open = true;
        if !is_right {
            self.violation(format!("said twice, or not true: {line}"));
        }
        true
    }
}
