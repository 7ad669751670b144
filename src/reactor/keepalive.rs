//! Upstream sockets that have no SO_KEEPALIVE yet.
//!
//! The four calls are made only for sessions that last, of routes that want it: accepted sockets inherit the options (K13),
//! connected ones do not, and a short session need not pay for them.

use std::collections::VecDeque;
use std::time::Duration;

use super::alarms::{Alarm, Alarms};
use super::routes::Routes;
use super::table::Table;
use crate::net::{Stream, Time, Token};

/// Sessions that get it in one turn, at most.
const PER_TURN: usize = 256;

/// Places that the list begins with: 128 KiB, which an allocator asks the kernel for and gives back, so that a burst leaves
/// nothing behind (`mallopt(3)`, M_MMAP_THRESHOLD). Those that nobody takes have no memory.
const RESERVED: usize = 1 << 14;

/// The pause before the next portion.
const PAUSE: Duration = Duration::from_millis(10);

/// Sessions younger than [`AFTER`](Self::AFTER), oldest first, by their upstream's token. An entry of a session that has
/// ended is skipped, so there are as many as sessions were connected within that time. One alarm serves all.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<Token>,
}

impl Pending {
    /// The age at which a session's upstream socket gets SO_KEEPALIVE. The kernel counts the idle time from the last segment
    /// that came, so the first probe is not late if its idle time is as long, or longer.
    pub(super) const AFTER: Duration = Duration::from_secs(5);

    /// The session with this upstream was connected now.
    pub(super) fn add(&mut self, upstream: Token, now: Time, alarms: &mut Alarms) {
        if self.queue.is_empty() {
            alarms.set(now + Self::AFTER, Alarm::Keepalive);
        }
        if self.queue.capacity() == 0 {
            self.queue.reserve(RESERVED);
        }
        self.queue.push_back(upstream);
    }

    /// The alarm went off: sets the options of the sessions that are old enough.
    pub(super) fn run<S: Stream>(&mut self, table: &mut Table<S>, routes: &Routes, now: Time, alarms: &mut Alarms) {
        let mut budget = PER_TURN;
        while let Some(token) = self.queue.front() {
            if let Some(key) = table.find(*token) {
                let due = table[key].connected_at() + Self::AFTER;
                if due > now {
                    return alarms.set(due, Alarm::Keepalive);
                }
                if budget == 0 {
                    return alarms.set(now + PAUSE, Alarm::Keepalive);
                }
                budget -= 1;
                if let Some(idle) = routes.get(table[key].route()).settings.keepalive {
                    table[key].keep_alive(idle);
                }
            }
            self.queue.pop_front();
        }
        // A burst leaves no memory behind.
        self.queue.shrink_to_fit();
    }
}
