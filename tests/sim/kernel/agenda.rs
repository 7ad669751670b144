//! The agenda: what will happen, and when.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{NameId, Time};

use super::{ConnId, Kernel};
use crate::conn::Who;

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
    /// A client's SYN reaches this place.
    Syn { conn: ConnId, place: usize, tries: u32 },
    /// An upstream answered the relay's SYN, or gave no answer for long enough.
    Dialled { conn: ConnId, error: Option<Errno> },
    /// The relay's kernel gives up on a peer that fell silent.
    Fail { conn: ConnId, error: Errno },
    /// A peer has something to do.
    Wake { peer: usize },
    /// The resolver answers a question about this name of the plan.
    Resolved { name: NameId, place: usize, index: usize },
    /// The upstream's process dies.
    Crash,
    /// The relay gets a stop signal.
    Stop,
    /// Somebody calls `Control::stop()`.
    StopCall,
    /// Somebody asks it to stop without a drain.
    StopNow,
    /// Somebody gives it other routes: the reload of the plan with this number.
    Reload(usize),
    /// Somebody looks inside: the query of the plan with this number.
    Query(usize),
    /// Another process is to get the listeners: the hand-over of the plan with this number.
    HandOver(usize),
    /// It has them and serves.
    HandedOver,
}

/// Entries of one moment keep their order.
#[derive(Debug)]
pub(super) struct Entry {
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

impl Kernel {
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
            Due::Syn { conn, place, tries } => self.syn(conn, place, tries),
            Due::Dialled { conn, error } => self.dialled(conn, error),
            Due::Fail { conn, error } => self.fail(conn, Who::Relay, error),
            Due::Wake { .. } | Due::Resolved { .. } | Due::Crash => {}
            Due::Stop | Due::StopCall | Due::StopNow | Due::Reload(_) | Due::Query(_) => {}
            Due::HandOver(_) | Due::HandedOver => {}
        }
    }
}
