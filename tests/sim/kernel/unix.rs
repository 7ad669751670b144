//! What is different between Unix sockets: nothing travels, nothing is acknowledged, and a reset is only ever told by input
//! that was not read (K20, K21, K27).

use rustix::io::Errno;

use super::{ConnId, Kernel};
use crate::conn::{Life, Watch, Who};

impl Kernel {
    /// What was written is there.
    pub(super) fn deliver(&mut self, conn: ConnId, from: Who) {
        let half = self.conns[conn].out(from);
        let news = half.arrived < half.written || (half.fin_written && !half.fin_arrived);
        half.sent = half.written;
        half.arrive(half.written);
        if half.fin_written {
            (half.fin_sent, half.fin_arrived, half.fin_acked) = (true, true, true);
        }
        if news {
            self.happened(conn, from.other());
        }
    }

    /// Input was taken: there is room for the other.
    pub(super) fn make_room(&mut self, conn: ConnId, reader: Who) {
        let it = &mut self.conns[conn];
        let writer = reader.other();
        if it.unix && it.end(writer).no_space && it.out(writer).is_roomy() {
            it.end(writer).no_space = false;
            self.happened(conn, writer);
        }
    }

    /// Can this end write nothing any more, because the other is gone? That takes no error (K20).
    pub(super) fn is_cut(&mut self, conn: ConnId, who: Who) -> bool {
        let it = &mut self.conns[conn];
        it.unix && it.end(who.other()).life == Life::Gone
    }

    /// A write that has sent a part finds that the other is gone, and does not tell. It may have found the error, and nobody
    /// is told of that any more (`sock_alloc_send_pskb`).
    pub(crate) fn swallow(&mut self, conn: ConnId) {
        if self.conns[conn].unix && self.rng.bool() {
            self.conns[conn].relay.error = None;
        }
    }

    /// close(2). Linger is nothing here.
    pub(super) fn close_unix(&mut self, conn: ConnId, who: Who, armed: bool) {
        let half_told = self.laws.linux && self.laws.passes > 0 && self.rng.bool();
        let it = &mut self.conns[conn];
        let unread = it.inn(who).unread() > 0;
        it.end(who).life = Life::Gone;
        if who == Who::Relay {
            it.watch = Watch::default();
            it.untold = armed && !unread;
        }
        let other = who.other();
        if it.end(other).life == Life::Open {
            let out = it.out(who);
            (out.fin_written, out.fin_sent, out.fin_arrived, out.fin_acked) = (true, true, true, true);
            if unread {
                it.end(other).error = Some(Errno::CONNRESET);
                it.end(other).half_told = half_told && other == Who::Relay;
                it.watch.owes_error |= other == Who::Relay;
            }
            self.happened(conn, other);
        }
    }
}
