//! What must hold where a header of the PROXY protocol is read or sent.

use std::net::SocketAddr;

use rustix::io::Errno;
use tproxy::net::Peer;

use crate::kernel::ConnId;
use crate::world::World;

impl World {
    /// Before a session is connected, only its header is read.
    pub(super) fn may_read_header(&self, session: usize) -> bool {
        let header = &self.shadow.sessions[session].header;
        header.awaited.is_some() && !header.bad
    }

    /// Something was read from a client that is to be announced.
    pub(super) fn did_read_header(&mut self, session: usize, result: Result<usize, Errno>) {
        let plan = self.shadow.sessions[session].plan;
        let verdict = self.plan.sessions[plan].hello.verdict(&self.peers[plan].behind_hello());
        self.shadow.read_header(session, verdict, result);
    }

    /// The upstream of a session may be connected now: then it is known what it is to hear first.
    pub(crate) fn did_connect(&mut self, conn: ConnId) {
        let Some((session, Peer::Upstream)) = self.shadow.owner(conn) else { return };
        if self.shadow.sessions[session].connected.is_some() {
            self.shadow.passes_on(session);
            self.tell_upstream(session);
        }
    }

    /// Asked once, when the upstream is connected and is to be told.
    pub(crate) fn did_ask_local(&mut self, conn: ConnId, result: Result<SocketAddr, Errno>) {
        if let Some((session, _)) = self.caller(conn, "local") {
            self.shadow.local_was_asked(conn, result);
            self.tell_upstream(session);
        }
    }
}
