//! One connection, TCP or Unix: two ends and the two directions between them. What a kernel remembers, without its clock.

use std::collections::VecDeque;

use rustix::io::Errno;
use tproxy::net::{Time, Token};

/// Which end of a connection: every one here has the relay at one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// A client or an upstream.
    Peer,
    /// The process under test.
    Relay,
}

impl Who {
    /// The one at the other end.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Peer => Self::Relay,
            Self::Relay => Self::Peer,
        }
    }
}

/// One direction. Positions count bytes since the beginning and never fall:
///
/// ```text
///    read ≤ arrived ≤ sent ≤ written        acked ≤ arrived
///    ├─ receive queue ─┼─ wire ─┼─ not sent yet ─┤
/// ```
/// The FIN stands behind `written`; the sender keeps everything from `acked` on.
#[derive(Debug)]
pub(crate) struct Half {
    /// From `read` to `written`.
    bytes: VecDeque<u8>,
    pub(crate) read: u64,
    pub(crate) arrived: u64,
    pub(crate) sent: u64,
    pub(crate) written: u64,
    pub(crate) acked: u64,
    pub(crate) fin_written: bool,
    pub(crate) fin_sent: bool,
    pub(crate) fin_arrived: bool,
    pub(crate) fin_acked: bool,
    /// Places of urgent bytes that have not arrived.
    marks_sent: VecDeque<u64>,
    /// Place of the last urgent byte that arrived, until it is read. A kernel remembers only one.
    pub(crate) mark: Option<u64>,
    pub(crate) send_cap: u64,
    pub(crate) receive_cap: u64,
    /// Nothing arrives before what was sent before it.
    pub(crate) last_arrival: Time,
    pub(crate) last_ack: Time,
    /// It is a Unix socket's: what is written has arrived, and takes room until it is read.
    pub(crate) unix: bool,
    /// Places behind a message with a descriptor: a read stops there (K27).
    pub(crate) stops: VecDeque<u64>,
    /// Bytes that the sender had not sent when it died: the kernel goes on counting them (K29).
    unsent: u64,
    /// When the sender last learned that a byte had arrived, by the relay's clock.
    pub(crate) acked_at: Time,
    /// When the first byte was written that is not acknowledged, or acknowledged up to it.
    pub(crate) pending_since: Time,
}

impl Half {
    pub(crate) fn new(send_cap: usize, receive_cap: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            read: 0,
            arrived: 0,
            sent: 0,
            written: 0,
            acked: 0,
            fin_written: false,
            fin_sent: false,
            fin_arrived: false,
            fin_acked: false,
            marks_sent: VecDeque::new(),
            mark: None,
            send_cap: send_cap as u64,
            receive_cap: receive_cap as u64,
            last_arrival: Time::START,
            last_ack: Time::START,
            unix: false,
            stops: VecDeque::new(),
            unsent: 0,
            acked_at: Time::START,
            pending_since: Time::START,
        }
    }

    /// Bytes that can be read now.
    pub(crate) const fn unread(&self) -> u64 {
        self.arrived - self.read
    }

    /// Bytes that may be read before the urgent mark stops it: the byte under the mark begins the next read (K15).
    pub(crate) fn readable(&self) -> u64 {
        match self.mark {
            Some(mark) if mark > self.read => self.before_stop().min(mark - self.read),
            Some(_) | None => self.before_stop(),
        }
    }

    /// Bytes before the next message with a descriptor, that message included.
    fn before_stop(&self) -> u64 {
        let stop = self.stops.iter().find(|stop| **stop > self.read);
        self.unread().min(stop.map_or(u64::MAX, |stop| stop - self.read))
    }

    /// Bytes that may be spliced: never past the mark, not even from there (K15).
    pub(crate) fn spliceable(&self) -> u64 {
        self.before_stop().min(self.mark.unwrap_or(self.arrived) - self.read)
    }

    /// Room in the send queue, which holds what is not acknowledged.
    pub(crate) const fn room(&self) -> u64 {
        self.send_cap.saturating_sub(self.written - self.acked)
    }

    /// Room enough to announce it: Linux waits until a third of the queue is free (`sk_stream_is_writeable`).
    pub(crate) const fn is_roomy(&self) -> bool {
        self.room() > 0 && self.room() * 2 >= self.written - self.acked
    }

    /// SIOCOUTQ: the FIN counts as one (K17), also when the sender is dead (K29). On AF_UNIX it means something else (K21),
    /// and is not asked.
    pub(crate) fn unacked(&self) -> usize {
        if self.unix {
            return 0;
        }
        usize::try_from(self.written - self.acked + self.unsent).unwrap() + usize::from(self.owes_fin())
    }

    /// Is the FIN written and not acknowledged?
    pub(crate) const fn owes_fin(&self) -> bool {
        self.fin_written && !self.fin_acked
    }

    pub(crate) fn write(&mut self, data: &[u8], urgent: bool) {
        self.bytes.extend(data);
        self.written += data.len() as u64;
        if urgent {
            self.marks_sent.push_back(self.written - 1);
        }
    }

    /// Everything up to here is in the receive queue.
    pub(crate) fn arrive(&mut self, upto: u64) {
        self.arrived = self.arrived.max(upto);
        while let Some(mark) = self.marks_sent.front().copied().filter(|mark| *mark < self.arrived) {
            self.marks_sent.pop_front();
            if mark >= self.read {
                self.mark = Some(mark);
            }
        }
    }

    /// Takes bytes out of the receive queue.
    pub(crate) fn take(&mut self, room: &mut [u8]) {
        let count = room.len();
        for (place, byte) in room.iter_mut().zip(self.bytes.drain(..count)) {
            *place = byte;
        }
        self.read += count as u64;
        if self.unix {
            self.acked = self.read;
            self.stops.retain(|stop| *stop > self.read);
        }
        if self.mark.is_some_and(|mark| mark < self.read) {
            self.mark = None;
        }
    }

    /// The sender is dead: what it had not sent is gone, and still counted.
    pub(crate) fn purge(&mut self) {
        self.unsent += self.written - self.sent;
        self.written = self.sent;
        self.bytes.truncate(usize::try_from(self.sent - self.read).unwrap());
    }
}

/// What has become of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// A SYN is out.
    Connecting,
    /// A process has it open, and the connection stands, in at least one direction.
    Open,
    /// A process has it open, and the connection is over: reset, timed out, refused.
    Dead,
    /// Closed with a goodbye; the kernel delivers the rest.
    Orphan,
    /// Nothing is left of it.
    Gone,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) life: Life,
    /// One-shot.
    pub(crate) error: Option<Errno>,
    /// The host fell silent: nothing comes from it, nothing is acknowledged.
    pub(crate) silent: bool,
    /// The last write left no room, so the room that comes is announced.
    pub(crate) no_space: bool,
    /// The next event tells that both directions are over, and not yet of the error behind it (K20).
    pub(crate) half_told: bool,
}

impl End {
    pub(crate) const fn new(life: Life) -> Self {
        Self { life, error: None, silent: false, no_space: false, half_told: false }
    }
}

/// What the event queue knows of the relay's end.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) token: Option<Token>,
    /// It is on the list of those to be looked at by the next wait.
    pub(crate) listed: bool,
    /// mio-minimum: edges that are owed, because a call said WouldBlock.
    pub(crate) owes_read: bool,
    pub(crate) owes_write: bool,
    pub(crate) owes_error: bool,
}

/// A connection between the relay and a peer.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) peer: End,
    pub(crate) relay: End,
    pub(crate) from_peer: Half,
    pub(crate) from_relay: Half,
    pub(crate) watch: Watch,
    /// It met itself: both ends are one socket (K14).
    pub(crate) to_itself: bool,
    /// It is between Unix sockets.
    pub(crate) unix: bool,
    /// The relay wanted to reset it, and had no way to tell: nothing was unread (K21).
    pub(crate) untold: bool,
}

impl Conn {
    pub(crate) fn end(&mut self, who: Who) -> &mut End {
        match who {
            Who::Peer => &mut self.peer,
            Who::Relay => &mut self.relay,
        }
    }

    /// From now on it is one between Unix sockets.
    pub(crate) fn make_unix(&mut self) {
        (self.unix, self.from_peer.unix, self.from_relay.unix) = (true, true, true);
    }

    /// What `who` writes to.
    pub(crate) fn out(&mut self, who: Who) -> &mut Half {
        match who {
            Who::Peer => &mut self.from_peer,
            Who::Relay => &mut self.from_relay,
        }
    }

    /// What `who` reads from.
    pub(crate) fn inn(&mut self, who: Who) -> &mut Half {
        self.out(who.other())
    }

    /// Are both directions of the relay's end over?
    pub(crate) const fn is_shut_down(&self) -> bool {
        let hung_up = self.unix && matches!(self.peer.life, Life::Gone);
        matches!(self.relay.life, Life::Dead) || hung_up || (self.from_peer.fin_arrived && self.from_relay.fin_written)
    }

    /// Can the relay's end be read, were it only to learn of the end?
    pub(crate) const fn is_readable(&self) -> bool {
        match self.relay.life {
            Life::Connecting => false,
            Life::Open => self.from_peer.unread() > 0 || self.from_peer.fin_arrived,
            Life::Dead | Life::Orphan | Life::Gone => true,
        }
    }

    /// Can the relay's end be written to, were it only to learn of an error?
    pub(crate) const fn is_writable(&self) -> bool {
        match self.relay.life {
            Life::Connecting => false,
            Life::Open if self.unix && matches!(self.peer.life, Life::Gone) => true,
            Life::Open => self.from_relay.fin_written || self.from_relay.is_roomy(),
            Life::Dead | Life::Orphan | Life::Gone => true,
        }
    }
}
