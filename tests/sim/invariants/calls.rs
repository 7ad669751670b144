//! What must hold at each call.

use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{Peer, Time};

use crate::faults::kills;
use crate::kernel::ConnId;
use crate::shadow::{End, Flow};
use crate::world::World;

impl World {
    /// Whose call is this? Only a session's stream may be read and written.
    pub(super) fn caller(&mut self, conn: ConnId, what: &str) -> Option<(usize, Peer)> {
        let owner = self.shadow.owner(conn);
        let (turn, now) = (self.shadow.turn, self.shadow.now);
        if let Some((session, _)) = owner {
            self.shadow.sessions[session].called_at = now;
        }
        if let Some((session, _)) = owner
            && std::mem::replace(&mut self.shadow.sessions[session].served_turn, turn) != turn
        {
            self.shadow.served += 1;
        }
        if let Some((session, _)) = owner
            && self.shadow.called.as_ref().is_some_and(|called| !called.contains(&session))
        {
            self.violation(format!("session {session}: {what}, although nothing was said of it"));
        }
        // Keepalive of a socket that goes with this turn changes nothing.
        if self.shadow.stop_now && what != "keep alive" {
            self.violation(format!("{what} on connection {conn}, although everything is given up"));
        }
        match owner {
            Some((session, Peer::Client)) if what == "read" && self.may_read_header(session) => owner,
            Some((session, _)) if self.shadow.sessions[session].connected.is_none() => {
                self.violation(format!("{what} on connection {conn} before its session was connected"));
                None
            }
            None => {
                self.violation(format!("{what} on connection {conn}, which belongs to no session"));
                None
            }
            Some(_) => owner,
        }
    }

    pub(crate) fn did_read(&mut self, conn: ConnId, result: Result<usize, Errno>) {
        let Some((session, peer)) = self.caller(conn, "read") else {
            return;
        };
        if self.shadow.sessions[session].header.awaited.is_some() {
            return self.did_read_header(session, result);
        }
        let now = self.shadow.now;
        let half_close = self.shadow.route(&self.shadow.sessions[session]).half_close_timeout;
        let enough = self.shadow.may_have_thrown_enough(&self.shadow.sessions[session]);
        let arrived = self.kernel.conns[conn].from_peer.fin_arrived;
        if result == Ok(0) {
            let counts = self.plan.laws.counts_unacked && !self.kernel.conns[conn].unix;
            self.shadow.settle_doubt(session, peer, arrived && counts);
        }
        let it = &mut self.shadow.sessions[session];
        match result {
            Ok(0) => {
                // Behind an error it cannot be known to be true; but EPIPE is the sign of a FIN (K16).
                let sure = match it.told[peer as usize] {
                    None => true,
                    Some(error) => error == Errno::PIPE && !it.in_doubt[peer as usize],
                };
                let trusted = sure || it.saw_fin[peer as usize];
                let end = if arrived && trusted { End::Eof } else { End::Cut };
                it.saw_fin[peer as usize] |= end == End::Eof;
                if end == End::Eof {
                    it.first_fin.get_or_insert(peer);
                    it.last_moved = now;
                }
                it.flow(peer).end.get_or_insert(end);
                it.flow(peer).moved = true;
            }
            Ok(count) => {
                let target = peer.other() as usize;
                // A Unix peer can be told of a reset only by what it wrote and nobody read. Who is owed something may have
                // to be read first.
                let dead = it.told[target].is_some_and(|error| error != Errno::PIPE) && !it.saw_fin[target];
                let owed = it.flows[target].held().1 > 0;
                let untold = dead && !owed && it.served_turn != it.told_turn && self.kernel.conns[conn].unix;
                let (wasted, doubtful) = (it.told[target].is_some(), it.overdue || it.due || it.aged || enough);
                let clogged = it.blocked[target] && !wasted && !doubtful;
                it.flow(peer).read += count as u64;
                match (wasted, doubtful) {
                    (true, _) => it.flow(peer).wasted += count as u64,
                    (false, true) => it.flow(peer).doubtful += count as u64,
                    (false, false) => {}
                }
                it.flow(peer).gulp += count as u64;
                let large = count >= self.plan.config.buffer_size.min(64 << 10);
                it.flow(peer).large_copies = if large { it.flow(peer).large_copies + 1 } else { 0 };
                it.flow(peer).moved = true;
                // Throwing away is progress only while the peer may yet get its answer, and only for the half-close time in
                // all: since the target hung up, or at the latest since a byte was thrown away for it. The relay counts in
                // steps of 268 ms.
                let step = Duration::from_nanos(1 << 28);
                if wasted {
                    it.thrown_since.get_or_insert(now);
                }
                let limit = |since: Option<Time>| since.zip(half_close).map(|(at, most)| at + most);
                let certainly = wasted && limit(it.thrown_since).is_some_and(|limit| now >= limit + step);
                let too_long = wasted && enough;
                let cut = |target: Peer| it.told[target as usize].is_some() || it.overdue || it.aged;
                if !cut(peer.other()) || !(cut(peer) || it.trouble.is_some() || too_long) {
                    it.last_io = now;
                }
                if !cut(peer.other()) {
                    it.last_moved = now;
                }
                it.may_be_given_up |= too_long;
                it.overdue |= too_long;
                if certainly && it.trouble.is_none() {
                    it.thrown_too_long.get_or_insert(now);
                }
                if untold {
                    self.violation(format!(
                        "session {session}: {count} bytes read that could have told connection {conn} of the reset"
                    ));
                }
                if clogged {
                    self.violation(format!("session {session}: {count} bytes read, although their target is blocked"));
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => return self.shadow.vain_calls += 1,
            Err(error) => {
                it.flow(peer).end.get_or_insert(End::Cut);
                self.shadow.told(conn, error);
                // Nothing more can be read, and after an error nothing is written: the socket is of no use.
                self.shadow.sessions[session].trouble.get_or_insert(now);
            }
        }
        self.shadow.progress = true;
    }

    /// As a read, but only bytes count. An error is told all the same, and reading goes on.
    pub(crate) fn did_splice_in(&mut self, conn: ConnId, result: Result<usize, Errno>) {
        if let Some((session, peer)) = self.shadow.owner(conn) {
            let flow = self.shadow.sessions[session].flow(peer);
            flow.unspliced |= result.is_err_and(|error| error != Errno::INTR);
        }
        match result {
            Ok(1..) => {
                self.did_read(conn, result);
                if let Some((session, peer)) = self.shadow.owner(conn) {
                    self.shadow.sessions[session].flow(peer).large_copies = 0;
                }
            }
            Err(error) if kills(error) => {
                if self.caller(conn, "splice_in").is_some() {
                    self.shadow.told(conn, error);
                }
            }
            Ok(0) | Err(_) => {
                self.caller(conn, "splice_in");
                self.shadow.vain_calls += 1;
                let failed = result.is_err_and(|error| ![Errno::INTR, Errno::AGAIN].contains(&error));
                self.shadow.splice_failed |= failed;
                self.shadow.splice_news |= failed;
            }
        }
    }

    /// As a write. EPIPE right behind a push that sent less than all may be what is left of a reset (K16 holds for the
    /// first error only): the end of input will tell, for then the kernel's count is asked.
    pub(crate) fn did_splice_out(&mut self, conn: ConnId, result: Result<usize, Errno>, count: usize) {
        let short = self.shadow.short_splice_out == Some(conn);
        if result != Err(Errno::INTR) {
            self.shadow.short_splice_out = result.is_ok_and(|done| done < count).then_some(conn);
        }
        if result.is_err_and(|error| !kills(error) && error != Errno::AGAIN && error != Errno::INTR) {
            // Not an error of the connection: what is in the pipe has to be copied, and nothing is spliced here again.
            if let Some((session, peer)) = self.caller(conn, "splice_out") {
                let it = &mut self.shadow.sessions[session];
                it.flow(peer.other()).unspliced = true;
                it.in_doubt[peer as usize] |= short && !it.saw_fin[peer as usize] && it.told[peer as usize].is_none();
            }
            self.shadow.vain_calls += 1;
            self.shadow.splice_failed = true;
            return;
        }
        self.did_write(conn, result);
        if let Some((session, peer)) = self.shadow.owner(conn).filter(|_| short && result == Err(Errno::PIPE)) {
            let it = &mut self.shadow.sessions[session];
            it.in_doubt[peer as usize] = !it.saw_fin[peer as usize] && it.told[peer as usize] == Some(Errno::PIPE);
        }
    }

    /// On AF_UNIX, EPIPE behind a write that took a part may be what is left of a reset (K20).
    pub(crate) fn did_write_some(&mut self, conn: ConnId, result: Result<usize, Errno>, wanted: usize) {
        if result == Err(Errno::INTR) || !self.kernel.conns[conn].unix {
            return;
        }
        let short = self.shadow.short_write == Some(conn);
        self.shadow.short_write = result.is_ok_and(|count| count < wanted).then_some(conn);
        if let Some((session, peer)) = self.shadow.owner(conn).filter(|_| short && result == Err(Errno::PIPE)) {
            let it = &mut self.shadow.sessions[session];
            it.in_doubt[peer as usize] = !it.saw_fin[peer as usize] && it.told[peer as usize] == Some(Errno::PIPE);
        }
    }

    pub(crate) fn did_write(&mut self, conn: ConnId, result: Result<usize, Errno>) {
        let Some((session, peer)) = self.caller(conn, "write") else {
            return;
        };
        let now = self.shadow.now;
        let it = &mut self.shadow.sessions[session];
        let told = it.told[peer as usize];
        // An alarm makes its session try everything, whatever was said before.
        let alarm = self.shadow.alarm;
        let it = &mut self.shadow.sessions[session];
        it.blocked[peer as usize] = false;
        if result.is_ok() || result == Err(Errno::AGAIN) {
            // A reset that a splice has swallowed is EPIPE to the write behind it. No EPIPE: nothing was swallowed.
            it.in_doubt[peer as usize] &= it.told[peer as usize].is_some();
        }
        // What the relay puts in front is no payload.
        let header = match peer {
            Peer::Upstream => it.header.unsent.min(result.unwrap_or_default() as u64),
            Peer::Client => 0,
        };
        it.header.unsent -= header;
        let flow = it.flow(peer.other());
        let finished = flow.finished;
        match result {
            Ok(count) => {
                flow.written += count as u64 - header;
                // It was not cut.
                flow.doubtful = 0;
                flow.moved = true;
                let (read, written) = (flow.read, flow.written);
                (it.last_moved, it.last_io, it.passed_on) = (now, now, now);
                it.overdue = it.may_be_given_up;
                self.shadow.progress = true;
                if written > read {
                    self.violation(format!("session {session}: {written} bytes written of {read} read"));
                }
            }
            Err(error @ (Errno::AGAIN | Errno::INTR)) => {
                it.blocked[peer as usize] = error == Errno::AGAIN && !alarm;
                self.shadow.vain_calls += 1;
            }
            Err(error) => self.shadow.told(conn, error),
        }
        if finished {
            self.violation(format!("session {session}: a write to connection {conn} after its FIN"));
        }
        if told.is_some() {
            self.violation(format!("session {session}: a write to connection {conn} after {told:?}"));
        }
    }

    /// A FIN goes out only for a FIN that came in, after the last byte before it, once.
    pub(crate) fn did_shutdown_write(&mut self, conn: ConnId, result: Result<(), Errno>) {
        let Some((session, peer)) = self.caller(conn, "shutdown_write") else {
            return;
        };
        let now = self.shadow.now;
        let it = &mut self.shadow.sessions[session];
        let unsent = if peer == Peer::Upstream { it.header.unsent } else { 0 };
        let flow = it.flow(peer.other());
        let Flow { read, written, end, finished, .. } = *flow;
        match result {
            Ok(()) => (flow.finished, flow.moved) = (true, true),
            Err(error) => self.shadow.told(conn, error),
        }
        let it = &mut self.shadow.sessions[session];
        (it.last_moved, it.passed_on) = (now, now);
        self.shadow.progress = true;
        if finished {
            self.violation(format!("session {session}: a second FIN to connection {conn}"));
        }
        if end != Some(End::Eof) {
            self.violation(format!("session {session}: a FIN to connection {conn} for none that came ({end:?})"));
        }
        if unsent > 0 {
            self.violation(format!("session {session}: a FIN to connection {conn} before its header"));
        }
        if read != written {
            self.violation(format!("session {session}: a FIN to connection {conn} after {written} of {read} bytes"));
        }
    }
}
