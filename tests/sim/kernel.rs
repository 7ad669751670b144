//! A kernel made of queues: sockets, one listener, descriptors, a clock and an event queue, all from one seed.
//!
//! Everything that takes time is an entry of the agenda. The model is Linux' (`net/ipv4/tcp*.c`), as far as a process
//! can see it; `conformance.rs` holds it against the real one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;
use tproxy::net::Time;

use crate::conn::{Conn, End, Half, Life, Watch, Who};

pub(crate) type ConnId = usize;

/// What one kernel is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Laws {
    /// Linux announces every arrival; a mio-minimum kernel owes an edge only after WouldBlock.
    pub(crate) linux: bool,
    /// Nanoseconds a packet takes, at least and at most.
    pub(crate) delay: (u64, u64),
    /// What a packet leads to has happened when the call that sent it returns, as it may on loopback.
    pub(crate) at_once: bool,
    /// Bytes in a segment, at most.
    pub(crate) segment: usize,
    /// Clients that may wait to be accepted.
    pub(crate) backlog: usize,
    /// Descriptors the process may have.
    pub(crate) descriptors: usize,
    /// Can it say how much is not acknowledged?
    pub(crate) counts_unacked: bool,
    /// Of 256 writes, so many take less than there is room for; so do reads where that is legal.
    pub(crate) short: u8,
    /// Bytes a pipe holds, at most. One that holds less than 64 KiB may be full with fewer.
    pub(crate) pipe_size: usize,
}

/// What an entry of the agenda does when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A segment reaches the other end of the connection.
    Arrive { conn: ConnId, from: Who, upto: u64, fin: bool },
    /// An acknowledgement reaches the sender.
    Acked { conn: ConnId, to: Who, upto: u64, fin: bool },
    /// The receiver's window opened.
    Pump { conn: ConnId, from: Who },
    /// A reset reaches this end.
    Rst { conn: ConnId, to: Who },
    /// A client's SYN reaches the listener.
    Syn { conn: ConnId, tries: u32 },
    /// An upstream answered the relay's SYN, or gave no answer for long enough.
    Dialled { conn: ConnId, error: Option<Errno> },
    /// The relay's kernel gives up on a peer that fell silent.
    Fail { conn: ConnId, error: Errno },
    /// A peer has something to do.
    Wake { peer: usize },
    /// The upstream's process dies.
    Crash,
    /// Somebody asks the relay to stop.
    Stop,
}

/// Entries of one moment keep their order.
#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    due: Due,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) now: Time,
    /// What the relay takes for now, while it works.
    pub(crate) turn: Option<Time>,
    pub(crate) laws: Laws,
    pub(crate) conns: Vec<Conn>,
    pub(crate) rng: Rng,
    agenda: BinaryHeap<Reverse<Entry>>,
    scheduled: u64,
    /// Connections whose relay's end has an edge to be looked at.
    pub(crate) edges: VecDeque<ConnId>,
    pub(crate) listening: bool,
    pub(crate) queue: VecDeque<ConnId>,
    pub(crate) listener_edge: bool,
    pub(crate) listener_owed: bool,
    /// Open in the relay's process, the listener not counted.
    pub(crate) open: usize,
    /// Pipes among them, two descriptors each.
    pub(crate) pipes: usize,
    /// Bytes that went into pipes.
    pub(crate) spliced: u64,
    /// Peers' ends to which something happened.
    pub(crate) stirred: Vec<ConnId>,
}

impl Kernel {
    pub(crate) fn new(laws: Laws, rng: Rng) -> Self {
        Self {
            now: Time::START,
            turn: None,
            laws,
            conns: Vec::new(),
            rng,
            agenda: BinaryHeap::new(),
            scheduled: 0,
            edges: VecDeque::new(),
            listening: true,
            queue: VecDeque::new(),
            listener_edge: false,
            listener_owed: true,
            open: 0,
            pipes: 0,
            spliced: 0,
            stirred: Vec::new(),
        }
    }

    // ---- the agenda ----

    pub(crate) fn at(&mut self, at: Time, due: Due) {
        self.scheduled += 1;
        self.agenda.push(Reverse(Entry { at: at.max(self.now), number: self.scheduled, due }));
    }

    pub(crate) fn after(&mut self, wait: Duration, due: Due) {
        self.at(self.now + wait, due);
    }

    /// When something happens next by itself.
    pub(crate) fn next(&self) -> Option<Time> {
        self.agenda.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next entry that is due by `until`, and moves the clock to it.
    pub(crate) fn pop(&mut self, until: Time) -> Option<Due> {
        self.next().filter(|at| *at <= until)?;
        let Reverse(Entry { at, due, .. }) = self.agenda.pop()?;
        self.now = self.now.max(at);
        Some(due)
    }

    /// Does what the kernel has to do with an entry; the rest is for peers and the schedule.
    pub(crate) fn carry_out(&mut self, due: Due) {
        match due {
            Due::Arrive { conn, from, upto, fin } => self.arrive(conn, from, upto, fin),
            Due::Acked { conn, to, upto, fin } => self.acknowledge(conn, to, upto, fin),
            Due::Pump { conn, from } => self.pump(conn, from),
            Due::Rst { conn, to } => self.reset(conn, to),
            Due::Syn { conn, tries } => self.syn(conn, tries),
            Due::Dialled { conn, error } => self.dialled(conn, error),
            Due::Fail { conn, error } => self.fail(conn, Who::Relay, error),
            Due::Wake { .. } | Due::Crash | Due::Stop => {}
        }
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = self.laws.delay;
        Duration::from_nanos(if least == most { least } else { self.rng.u64(least..=most) })
    }

    // ---- connections come about ----

    /// A client that wants to connect to the relay.
    pub(crate) fn dial_relay(&mut self, caps: [usize; 4]) -> ConnId {
        let conn = self.socket(caps, Life::Connecting, Life::Gone);
        let delay = self.delay();
        self.after(delay, Due::Syn { conn, tries: 0 });
        conn
    }

    /// The relay's connect: the outcome is another entry of the agenda.
    pub(crate) fn dial_upstream(&mut self, caps: [usize; 4]) -> ConnId {
        self.socket(caps, Life::Connecting, Life::Connecting)
    }

    fn socket(&mut self, caps: [usize; 4], peer: Life, relay: Life) -> ConnId {
        let [peer_send, relay_receive, relay_send, peer_receive] = caps;
        self.conns.push(Conn {
            peer: End::new(peer),
            relay: End::new(relay),
            from_peer: Half::new(peer_send, relay_receive),
            from_relay: Half::new(relay_send, peer_receive),
            watch: Watch::default(),
            to_itself: false,
        });
        self.conns.len() - 1
    }

    fn syn(&mut self, conn: ConnId, tries: u32) {
        if self.conns[conn].peer.life != Life::Connecting {
            return;
        }
        if !self.listening {
            return self.fail(conn, Who::Peer, Errno::CONNREFUSED);
        }
        if self.queue.len() > self.laws.backlog {
            // A full queue drops SYNs (K7), and the client tries again.
            return match tries {
                5 => self.fail(conn, Who::Peer, Errno::TIMEDOUT),
                _ => self.after(Duration::from_secs(1 << tries), Due::Syn { conn, tries: tries + 1 }),
            };
        }
        self.conns[conn].peer.life = Life::Open;
        self.conns[conn].relay.life = Life::Open;
        self.queue.push_back(conn);
        self.listener_edge = true;
        self.stirred.push(conn);
    }

    fn dialled(&mut self, conn: ConnId, error: Option<Errno>) {
        if self.conns[conn].relay.life != Life::Connecting {
            return;
        }
        match error {
            Some(error) => self.fail(conn, Who::Relay, error),
            None => {
                self.conns[conn].relay.life = Life::Open;
                if !self.conns[conn].to_itself {
                    self.conns[conn].peer.life = Life::Open;
                    self.stirred.push(conn);
                }
                self.edge(conn);
            }
        }
    }

    /// Takes a client off the queue. The descriptor comes first, as in Linux' `do_accept`.
    pub(crate) fn accept(&mut self) -> Result<ConnId, Errno> {
        if self.open >= self.laws.descriptors {
            return Err(Errno::MFILE);
        }
        let Some(conn) = self.queue.pop_front() else {
            self.listener_owed = true;
            return Err(Errno::AGAIN);
        };
        self.open += 1;
        Ok(conn)
    }

    /// The listener goes, and with it who waits in its queue.
    pub(crate) fn stop_listening(&mut self) {
        self.listening = false;
        self.listener_edge = false;
        while let Some(conn) = self.queue.pop_front() {
            self.close(conn, Who::Relay, true);
        }
    }

    // ---- bytes ----

    pub(crate) fn recv(&mut self, conn: ConnId, who: Who, room: &mut [u8]) -> Result<usize, Errno> {
        let linux = self.laws.linux || who == Who::Peer;
        let short = !linux && self.rng.u8(..) < self.laws.short;
        let it = &mut self.conns[conn];
        let queue = it.inn(who);
        let mut count = queue.readable().min(room.len() as u64);
        if count > 0 {
            if short {
                count = self.rng.u64(1..=count);
            }
            let closed = queue.sent - queue.read >= queue.receive_cap;
            let count = usize::try_from(count).unwrap();
            queue.take(&mut room[..count]);
            if closed {
                let delay = self.delay();
                self.after(delay, Due::Pump { conn, from: who.other() });
            }
            return Ok(count);
        }
        // The FIN is looked at before the error (SOCK_DONE, K12), the error only once (K1).
        if queue.fin_arrived {
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
                _ if it.from_peer.fin_arrived => Ok(Vec::new()),
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
        if closed {
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
        let it = &mut self.conns[conn];
        if it.end(who).life == Life::Dead || it.end(who).error.is_some() {
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
        it.out(who).write(&data[..taken], urgent);
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

    /// close(2), with SO_LINGER {1, 0} armed or not. Unread input turns it into a reset too (K3).
    pub(crate) fn close(&mut self, conn: ConnId, who: Who, armed: bool) {
        let it = &mut self.conns[conn];
        if who == Who::Relay {
            it.watch = Watch::default();
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

    /// The connection is over for this end, for a reason the network gave.
    pub(crate) fn fail(&mut self, conn: ConnId, who: Who, error: Errno) {
        let it = &mut self.conns[conn];
        match it.end(who).life {
            Life::Dead | Life::Gone => return,
            Life::Orphan => it.end(who).life = Life::Gone,
            Life::Connecting | Life::Open => {
                it.end(who).life = Life::Dead;
                it.end(who).error = Some(error);
            }
        }
        it.out(who).purge();
        it.watch.owes_error |= who == Who::Relay;
        self.happened(conn, who);
    }

    /// Puts on the wire what the receiver has room for.
    fn pump(&mut self, conn: ConnId, from: Who) {
        let silent = self.conns[conn].end(from).silent;
        if silent || !matches!(self.conns[conn].end(from).life, Life::Open | Life::Orphan) {
            return;
        }
        loop {
            let segment = self.rng.u64(1..=self.laws.segment as u64);
            let delay = self.delay();
            let at = self.now + delay;
            let half = self.conns[conn].out(from);
            let window = half.receive_cap.saturating_sub(half.sent - half.read);
            let count = window.min(half.written - half.sent).min(segment);
            let fin = half.fin_written && !half.fin_sent && half.sent + count == half.written;
            if count == 0 && !fin {
                return;
            }
            half.sent += count;
            half.fin_sent |= fin;
            half.last_arrival = half.last_arrival.max(at);
            let (at, upto) = (half.last_arrival, half.sent);
            self.at(at, Due::Arrive { conn, from, upto, fin });
        }
    }

    fn arrive(&mut self, conn: ConnId, from: Who, upto: u64, fin: bool) {
        let to = from.other();
        let delay = self.delay();
        let ack_at = self.now + delay;
        let it = &mut self.conns[conn];
        if it.end(to).silent {
            return;
        }
        let news = upto > it.out(from).arrived;
        match it.end(to).life {
            Life::Open => {}
            Life::Orphan if !news => {}
            Life::Orphan => {
                // Data for a closed socket: the connection is aborted, with whatever it still had to say.
                it.end(to).life = Life::Gone;
                it.out(to).purge();
                return self.say_rst(conn, to);
            }
            Life::Gone | Life::Dead => return self.say_rst(conn, to),
            Life::Connecting => panic!("connection {conn}: data arrived before the handshake"),
        }
        let half = it.out(from);
        half.arrive(upto);
        half.fin_arrived |= fin;
        half.last_ack = half.last_ack.max(ack_at);
        let at = half.last_ack;
        self.at(at, Due::Acked { conn, to: from, upto, fin });
        self.happened(conn, to);
    }

    fn acknowledge(&mut self, conn: ConnId, to: Who, upto: u64, fin: bool) {
        let it = &mut self.conns[conn];
        if it.end(to).silent {
            return;
        }
        let now = self.turn.unwrap_or(self.now);
        let half = it.out(to);
        if upto > half.acked || (fin && !half.fin_acked) {
            (half.acked, half.acked_at) = (upto.max(half.acked), now);
        }
        let over = fin && !half.fin_acked;
        half.fin_acked |= fin;
        let roomy = half.is_roomy();
        let heard = it.inn(to).fin_arrived;
        // Room is announced to whoever found none; the last acknowledgement of all wakes as well (TIME_WAIT).
        if (it.end(to).no_space && roomy) || (over && heard) {
            it.end(to).no_space = false;
            self.happened(conn, to);
        }
        self.pump(conn, to);
    }

    /// Sends a reset, behind what is on the wire already.
    fn say_rst(&mut self, conn: ConnId, from: Who) {
        let delay = self.delay();
        let at = self.now + delay;
        let it = &mut self.conns[conn];
        if it.end(from).silent || it.to_itself {
            return;
        }
        let half = it.out(from);
        half.last_arrival = half.last_arrival.max(at);
        let at = half.last_arrival;
        self.at(at, Due::Rst { conn, to: from.other() });
    }

    fn reset(&mut self, conn: ConnId, to: Who) {
        let it = &mut self.conns[conn];
        if it.end(to).silent {
            return;
        }
        let heard = it.inn(to).fin_arrived;
        let (said, over) = (it.out(to).fin_written, it.out(to).fin_acked);
        match it.end(to).life {
            // It had not heard of the connection yet, and never will.
            Life::Connecting => {}
            // In TIME_WAIT, or after LAST_ACK, nobody is left to hear it.
            Life::Open if heard && said && over => {}
            // CLOSE_WAIT: the peer had said everything (K16).
            Life::Open if heard && !said => self.fail(conn, to, Errno::PIPE),
            Life::Open | Life::Orphan => self.fail(conn, to, Errno::CONNRESET),
            Life::Dead | Life::Gone => {}
        }
    }
}
