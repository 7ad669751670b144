//! A kernel made of queues, all from one seed.
//!
//! Everything that takes time is an entry of the agenda. The model is Linux' (`net/ipv4/tcp*.c`), as far as a process
//! can see it; `conformance` holds it against the real one. This file follows a connection from its SYN to its reset.

mod agenda;
mod listener;
mod sockets;
mod unix;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

pub(crate) use agenda::Due;
use agenda::Entry;
use fastrand::Rng;
use listener::{Listener, Shared};
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
    /// Source ports to one address, at most.
    pub(crate) ports: usize,
    /// Can it say how much is not acknowledged?
    pub(crate) counts_unacked: bool,
    /// Of 256 writes, so many take less than there is room for; so do reads where that is legal.
    pub(crate) short: u8,
    /// Bytes a pipe holds, at most. One that holds less than 64 KiB may be full with fewer.
    pub(crate) pipe_size: usize,
    /// How long the first connections wait for an acknowledgement before they send again; others, up to three times as
    /// long.
    pub(crate) timeout: Duration,
    /// Nothing arrives that is sent again, as far as the time-out tells: it doubles while nothing is acknowledged.
    pub(crate) lossy: bool,
    /// Of 256 messages to a Unix socket of the relay's, so many have a descriptor with them. If any, an event of a close may
    /// also be half of the news.
    pub(crate) passes: u8,
}

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
    pub(crate) listeners: Vec<Listener>,
    /// Those that another process has and the relay has not, by their places.
    shared: BTreeMap<usize, Shared>,
    /// Open in the relay's process, the listeners not counted.
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
            listeners: Vec::new(),
            shared: BTreeMap::new(),
            open: 0,
            pipes: 0,
            spliced: 0,
            stirred: Vec::new(),
        }
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = self.laws.delay;
        Duration::from_nanos(if least == most { least } else { self.rng.u64(least..=most) })
    }

    // ---- connections come about ----

    /// A client that wants to connect to this place.
    pub(crate) fn dial_relay(&mut self, caps: [usize; 4], place: usize) -> ConnId {
        let conn = self.socket(caps, Life::Connecting, Life::Gone);
        let delay = self.delay();
        self.after(delay, Due::Syn { conn, place, tries: 0 });
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
            unix: false,
            untold: false,
        });
        self.conns.len() - 1
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

    // ---- what travels ----

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
        if self.conns[conn].unix {
            return self.deliver(conn, from);
        }
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
        if it.end(to).silent || it.end(to).life == Life::Dead {
            return;
        }
        let now = self.turn.unwrap_or(self.now);
        let half = it.out(to);
        if upto > half.acked || (fin && !half.fin_acked) {
            (half.acked, half.acked_at) = (upto.max(half.acked), now);
            half.pending_since = self.now;
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
