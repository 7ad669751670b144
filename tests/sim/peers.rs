//! The other ends: clients and upstreams that follow a script, and check every byte they are given.

use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::Time;

use crate::conn::{Life, Who};
use crate::kernel::{ConnId, Due, Kernel};
use crate::keyed::Key;
use crate::plan::{Act, PeerPlan, Reading, SessionPlan};

/// How the stream ended that a peer read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// A clean end of file.
    Eof,
    /// An error.
    Reset(Errno),
}

/// A peer at work.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) session: usize,
    pub(crate) is_client: bool,
    pub(crate) conn: ConnId,
    pub(crate) plan: PeerPlan,
    /// Place in the script, and what is left of the bytes of this act.
    at: usize,
    left: u32,
    /// Pausing, or between two reads, until then.
    speaks_at: Time,
    reads_at: Time,
    begun: bool,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) said_fin: bool,
    pub(crate) closed: bool,
    pub(crate) ended: Option<How>,
    /// A send took the one-shot error.
    broken: Option<Errno>,
    /// It has an entry in the agenda.
    pub(crate) woken: bool,
    says: Key,
    hears: Key,
    /// What it says before that, and what it is to hear before that.
    says_first: Vec<u8>,
    pub(crate) hears_first: Vec<u8>,
    /// Of what it hears, what the relay put in front; and of what the other said, what the relay took off.
    pub(crate) added: u64,
    pub(crate) removed: u64,
}

/// What a peer has to report of one step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    Sent(usize),
    Heard(usize),
    Ended(How),
    Did(Act),
    /// The byte at this place is not the one that was sent.
    Mismatch(u64),
}

impl Peer {
    pub(crate) fn new(seed: u64, session: usize, is_client: bool, conn: ConnId, of: &SessionPlan) -> Self {
        let plan = if is_client { &of.client } else { &of.upstream }.clone();
        let says_first = if is_client { of.hello.bytes.clone() } else { Vec::new() };
        Self {
            session,
            is_client,
            conn,
            plan,
            at: 0,
            left: 0,
            speaks_at: Time::START,
            reads_at: Time::START,
            begun: false,
            sent: 0,
            received: 0,
            said_fin: false,
            closed: false,
            ended: None,
            broken: None,
            woken: false,
            says: Key::new(seed, session, is_client),
            hears: Key::new(seed, session, !is_client),
            says_first,
            hears_first: Vec::new(),
            added: 0,
            removed: 0,
        }
    }

    /// Would it read whatever came?
    pub(crate) const fn reads_all(&self) -> bool {
        !matches!(self.plan.reading, Reading::Never | Reading::UpTo(_))
    }

    /// Bytes that came, without those that come first.
    fn payload(&self) -> u64 {
        self.received.saturating_sub(self.hears_first.len() as u64)
    }

    /// The first bytes that a client says behind its hello.
    pub(crate) fn behind_hello(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.says.fill(0, &mut bytes);
        bytes
    }

    /// The place of the first byte that is not as expected.
    fn mismatch(&self, bytes: &[u8]) -> Option<u64> {
        let first = self.hears_first.get(usize::try_from(self.received).unwrap()..).unwrap_or_default();
        let (front, behind) = bytes.split_at(first.len().min(bytes.len()));
        if let Some(place) = front.iter().zip(first).position(|(one, other)| one != other) {
            return Some(self.received + place as u64);
        }
        let at = (self.received + front.len() as u64).saturating_sub(self.hears_first.len() as u64);
        self.hears.mismatch(at, behind)
    }

    /// Does what can be done now, and asks to be woken for what cannot.
    pub(crate) fn step(&mut self, me: usize, kernel: &mut Kernel, mut tell: impl FnMut(News)) {
        if self.closed || kernel.conns[self.conn].peer.life == Life::Connecting {
            return;
        }
        if !self.begun {
            self.begun = true;
            if let Reading::After(wait) = self.plan.reading {
                self.reads_at = kernel.now + wait;
                kernel.after(wait, Due::Wake { peer: me });
            }
        }
        // What is read may allow the next act, and what is said the next read.
        for _ in 0..64 {
            let (read, spoke) = (self.read(me, kernel, &mut tell), self.speak(me, kernel, &mut tell));
            if self.closed {
                return;
            }
            if !read && !spoke {
                break;
            }
        }
        let over = self.at == self.plan.acts.len() && self.said_fin && self.ended == Some(How::Eof);
        if over || matches!(self.ended, Some(How::Reset(_))) {
            self.closed = true;
            kernel.close(self.conn, Who::Peer, false);
        }
    }

    fn read(&mut self, me: usize, kernel: &mut Kernel, tell: &mut impl FnMut(News)) -> bool {
        let mut room = [0; 2048];
        let mut moved = false;
        while self.ended.is_none() && kernel.now >= self.reads_at {
            let allowed = match self.plan.reading {
                Reading::Prompt | Reading::After(_) => room.len(),
                Reading::Slow(count, _) => room.len().min(count as usize),
                Reading::UpTo(most) => room.len().min(usize::try_from(most.saturating_sub(self.received)).unwrap()),
                Reading::Never => 0,
            };
            if allowed == 0 {
                break;
            }
            match kernel.recv(self.conn, Who::Peer, &mut room[..allowed]) {
                Ok(0) => {
                    let how = match self.broken {
                        None | Some(Errno::PIPE) => How::Eof,
                        Some(error) => How::Reset(error),
                    };
                    self.ended = Some(how);
                    tell(News::Ended(how));
                }
                Ok(count) => {
                    if let Some(place) = self.mismatch(&room[..count]) {
                        tell(News::Mismatch(place));
                    }
                    self.received += count as u64;
                    tell(News::Heard(count));
                    if let Reading::Slow(_, gap) = self.plan.reading {
                        self.reads_at = kernel.now + gap;
                        kernel.after(gap, Due::Wake { peer: me });
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    self.ended = Some(How::Reset(error));
                    tell(News::Ended(How::Reset(error)));
                }
            }
            moved = true;
        }
        moved
    }

    fn speak(&mut self, me: usize, kernel: &mut Kernel, tell: &mut impl FnMut(News)) -> bool {
        let mut moved = false;
        while let Some(act) = self.plan.acts.get(self.at).copied() {
            if self.broken.is_some() || kernel.now < self.speaks_at {
                break;
            }
            match act {
                Act::Send(count) => {
                    if self.left == 0 {
                        self.left = count;
                    }
                    if !self.send(kernel, false, tell) {
                        break;
                    }
                }
                Act::Urgent => {
                    self.left = 1;
                    if !self.send(kernel, true, tell) {
                        break;
                    }
                }
                Act::Pause(wait) => {
                    self.speaks_at = kernel.now + wait;
                    kernel.after(wait, Due::Wake { peer: me });
                }
                Act::At(moment) => {
                    self.speaks_at = Time::START + moment;
                    kernel.at(self.speaks_at, Due::Wake { peer: me });
                }
                Act::AwaitBytes(count) if self.payload() < count && self.ended.is_none() => break,
                Act::AwaitEnd if self.ended.is_none() => break,
                Act::AwaitBytes(_) | Act::AwaitEnd => {}
                Act::Fin => {
                    self.said_fin = true;
                    // A dead socket tells its error when it is read.
                    self.broken = kernel.finish(self.conn, Who::Peer).err().or(self.broken);
                }
                Act::Close | Act::Reset => {
                    let unread = kernel.conns[self.conn].from_relay.unread() > 0;
                    self.said_fin |= (act == Act::Close || kernel.conns[self.conn].unix) && !unread;
                    self.closed = true;
                    kernel.close(self.conn, Who::Peer, act == Act::Reset);
                }
                // Its host is ours.
                Act::Vanish if kernel.conns[self.conn].unix => {
                    self.said_fin |= kernel.conns[self.conn].from_relay.unread() == 0;
                    self.closed = true;
                    kernel.close(self.conn, Who::Peer, false);
                }
                Act::Vanish => {
                    self.closed = true;
                    kernel.conns[self.conn].peer.silent = true;
                    // Keepalives find out in two minutes, retransmissions in a quarter of an hour.
                    let wait = if kernel.conns[self.conn].from_relay.unacked() == 0 { 120 } else { 924 };
                    kernel.after(Duration::from_secs(wait), Due::Fail { conn: self.conn, error: Errno::TIMEDOUT });
                }
            }
            tell(News::Did(act));
            moved = true;
            self.at += 1;
            if self.closed {
                break;
            }
        }
        moved
    }

    /// Sends what is left of this act. Is it all gone?
    fn send(&mut self, kernel: &mut Kernel, urgent: bool, tell: &mut impl FnMut(News)) -> bool {
        let mut data = [0; 2048];
        while self.left > 0 {
            let part = &mut data[..(self.left as usize).min(2048)];
            let first = self.says_first.get(usize::try_from(self.sent).unwrap()..).unwrap_or_default();
            let (front, behind) = part.split_at_mut(first.len().min(part.len()));
            front.copy_from_slice(&first[..front.len()]);
            let at = (self.sent + front.len() as u64).saturating_sub(self.says_first.len() as u64);
            self.says.fill(at, behind);
            match kernel.send(self.conn, Who::Peer, part, urgent) {
                Ok(count) => {
                    self.sent += count as u64;
                    self.left -= u32::try_from(count).unwrap();
                    tell(News::Sent(count));
                }
                Err(Errno::AGAIN) => return false,
                Err(error) => {
                    self.broken = Some(error);
                    return false;
                }
            }
        }
        true
    }
}
