//! System calls on one connected socket.

use std::time::Duration;

use rustix::io::Errno;

use super::{ConnId, Due, Kernel};
use crate::conn::{Life, Watch, Who};

/// The longest that the kernel waits before it sends again.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

impl Kernel {
    pub(crate) fn recv(&mut self, conn: ConnId, who: Who, room: &mut [u8]) -> Result<usize, Errno> {
        let linux = self.laws.linux || who == Who::Peer;
        let short = !linux && self.rng.u8(..) < self.laws.short;
        let it = &mut self.conns[conn];
        let unix = it.unix;
        let queue = it.inn(who);
        let mut count = queue.readable().min(room.len() as u64);
        if count > 0 {
            if short {
                count = self.rng.u64(1..=count);
            }
            let closed = queue.sent - queue.read >= queue.receive_cap;
            let count = usize::try_from(count).unwrap();
            queue.take(&mut room[..count]);
            if unix {
                self.make_room(conn, who);
            } else if closed {
                let delay = self.delay();
                self.after(delay, Due::Pump { conn, from: who.other() });
            }
            return Ok(count);
        }
        // On AF_UNIX the error comes first (K20).
        let it = &mut self.conns[conn];
        if it.unix
            && let Some(error) = it.end(who).error.take()
        {
            return Err(error);
        }
        // The FIN is looked at before the error (SOCK_DONE, K12), the error only once (K1).
        if it.inn(who).fin_arrived {
            return Ok(0);
        }
        if let Some(error) = it.end(who).error.take() {
            return Err(error);
        }
        if it.end(who).life == Life::Dead {
            return Ok(0);
        }
        if who == Who::Relay {
            it.watch.owes_read = true;
        }
        Err(Errno::AGAIN)
    }

    /// splice(2) from the relay's end into an empty pipe. A pipe is full when it has no slot left, however few bytes
    /// are in them, so any count is legal. WouldBlock here owes no edge: only reading finds out.
    pub(crate) fn splice_in(&mut self, conn: ConnId, most: usize) -> Result<Vec<u8>, Errno> {
        assert!(most > 0, "nothing is asked for, and nothing would look like the end");
        let few = self.laws.pipe_size < 1 << 16 && self.rng.u8(..4) == 0;
        let it = &mut self.conns[conn];
        let queue = &mut it.from_peer;
        let mut count = queue.spliceable().min(self.laws.pipe_size.min(most) as u64);
        if count == 0 {
            // The FIN is looked at first, even if there are bytes behind the mark.
            return match it.relay.error {
                _ if it.from_peer.fin_arrived && !(it.unix && it.relay.error.is_some()) => Ok(Vec::new()),
                Some(error) => {
                    it.relay.error = None;
                    Err(error)
                }
                None if it.relay.life == Life::Dead => Ok(Vec::new()),
                None => Err(Errno::AGAIN),
            };
        }
        if few {
            count = self.rng.u64(1..=count);
        }
        let closed = queue.sent - queue.read >= queue.receive_cap;
        self.spliced += count;
        let mut bytes = vec![0; usize::try_from(count).unwrap()];
        queue.take(&mut bytes);
        if it.unix {
            self.make_room(conn, Who::Relay);
        } else if closed {
            let delay = self.delay();
            self.after(delay, Due::Pump { conn, from: Who::Peer });
        }
        Ok(bytes)
    }

    /// A pipe, two descriptors.
    pub(crate) fn pipe(&mut self) -> Result<(), Errno> {
        if self.open + 2 > self.laws.descriptors {
            return Err(Errno::MFILE);
        }
        self.open += 2;
        self.pipes += 1;
        Ok(())
    }

    pub(crate) fn send(&mut self, conn: ConnId, who: Who, data: &[u8], urgent: bool) -> Result<usize, Errno> {
        let short = !urgent && self.rng.u8(..) < self.laws.short;
        if self.is_cut(conn, who) {
            return Err(Errno::PIPE);
        }
        let passes = who == Who::Peer && self.conns[conn].unix && self.rng.u8(..) < self.laws.passes;
        let it = &mut self.conns[conn];
        if !it.unix && (it.end(who).life == Life::Dead || it.end(who).error.is_some()) {
            return Err(it.end(who).error.take().unwrap_or(Errno::PIPE));
        }
        if it.out(who).fin_written {
            return Err(Errno::PIPE);
        }
        let mut count =
            if it.end(who).life == Life::Connecting { 0 } else { it.out(who).room().min(data.len() as u64) };
        if count == 0 {
            it.end(who).no_space = true;
            it.watch.owes_write |= who == Who::Relay;
            return Err(Errno::AGAIN);
        }
        if short {
            count = self.rng.u64(1..=count);
        }
        let taken = usize::try_from(count).unwrap();
        if it.out(who).unacked() == 0 {
            it.out(who).pending_since = self.now;
        }
        it.out(who).write(&data[..taken], urgent);
        if passes {
            let stop = it.out(who).written;
            it.out(who).stops.push_back(stop);
        }
        if taken < data.len() {
            it.end(who).no_space = true;
            if it.out(who).is_roomy() && who == Who::Relay && self.laws.linux {
                // Memory was short, not the queue: Linux says when there is some again.
                self.edge(conn);
            }
        }
        self.pump(conn, who);
        Ok(taken)
    }

    /// shutdown(Write). To a dead socket it is ENOTCONN, which SO_ERROR decides, as the seam says.
    pub(crate) fn finish(&mut self, conn: ConnId, who: Who) -> Result<(), Errno> {
        let it = &mut self.conns[conn];
        if it.end(who).life != Life::Open {
            return self.take_error(conn, who);
        }
        it.out(who).fin_written = true;
        self.pump(conn, who);
        if who == Who::Relay {
            // `inet_shutdown` wakes whoever polls.
            self.edge(conn);
        }
        Ok(())
    }

    /// SO_ERROR.
    pub(crate) fn take_error(&mut self, conn: ConnId, who: Who) -> Result<(), Errno> {
        self.conns[conn].end(who).error.take().map_or(Ok(()), Err)
    }

    /// The retransmission time-out of TCP_INFO. A closed window leaves it as it is; losses in a row double it (K28).
    pub(crate) fn retransmission_timeout(&self, conn: ConnId) -> Duration {
        let it = &self.conns[conn];
        let first = self.laws.timeout * (1 + u32::try_from(conn % 3).unwrap());
        if it.from_relay.unacked() == 0 || !(self.laws.lossy || it.relay.silent || it.peer.silent) {
            return first;
        }
        let pending = self.now.since(it.from_relay.pending_since);
        let (mut timeout, mut sent_again) = (first, first);
        while sent_again <= pending && timeout < TIMEOUT_MAX {
            timeout = (2 * timeout).min(TIMEOUT_MAX);
            sent_again += timeout;
        }
        timeout
    }

    /// close(2), with SO_LINGER {1, 0} armed or not. Unread input turns it into a reset too (K3).
    pub(crate) fn close(&mut self, conn: ConnId, who: Who, armed: bool) {
        let it = &mut self.conns[conn];
        if who == Who::Relay {
            it.watch = Watch::default();
        }
        if it.unix && it.end(who).life == Life::Open {
            return self.close_unix(conn, who, armed);
        }
        match it.end(who).life {
            Life::Orphan | Life::Gone => panic!("connection {conn}: {who:?} closes a closed descriptor"),
            Life::Dead => it.end(who).life = Life::Gone,
            Life::Connecting => {
                it.end(who).life = Life::Gone;
                // Whoever answered in the meantime has an answer coming.
                self.say_rst(conn, who);
            }
            Life::Open => {
                let (unread, heard) = (it.inn(who).unread() > 0, it.inn(who).fin_arrived);
                let out = it.out(who);
                if unread || armed {
                    // In LAST_ACK and CLOSING Linux says nothing more, unless something was not even sent
                    // (`tcp_disconnect`); in TIME_WAIT never.
                    let said = heard && out.fin_sent && (out.fin_acked || !unread);
                    out.purge();
                    it.end(who).life = Life::Gone;
                    if !said {
                        self.say_rst(conn, who);
                    }
                } else {
                    out.fin_written = true;
                    it.end(who).life = Life::Orphan;
                    self.pump(conn, who);
                }
            }
        }
    }
}
