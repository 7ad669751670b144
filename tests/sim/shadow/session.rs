//! What the relay was told of one session.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{Peer, Time, Token};

use super::attempt::Attempt;
use super::headers::Header;
use crate::kernel::ConnId;

/// How one direction ended, as the relay was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A read of 0 that is true.
    Eof,
    /// An error, or a read of 0 behind one.
    Cut,
}

/// One direction of a session, named by the peer it reads from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flow {
    pub(crate) read: u64,
    pub(crate) written: u64,
    /// Bytes read that were thrown away, because their target takes nothing any more; and those that may have been,
    /// because a timeout may have struck.
    pub(crate) wasted: u64,
    pub(crate) doubtful: u64,
    pub(crate) end: Option<End>,
    /// The FIN was passed on.
    pub(crate) finished: bool,
    /// Turns in which it could have moved and did not.
    pub(crate) hungry: usize,
    /// And how many it may take, for there were so many others.
    pub(crate) patience: usize,
    pub(crate) moved: bool,
    /// Bytes read in this turn.
    pub(crate) gulp: u64,
    /// Reads in a row that filled a buffer or brought as much as a large one holds, and went through no pipe.
    pub(crate) large_copies: usize,
    /// Something was said of the source after which its bytes need not go through a pipe: an end, an error, a mark.
    pub(crate) unspliced: bool,
}

impl Flow {
    /// Bytes that were read for the target and not written, at least and at most.
    pub(crate) const fn held(&self) -> (u64, u64) {
        let most = self.read - self.written - self.wasted;
        (most.saturating_sub(self.doubtful), most)
    }
}

/// How far a session is that has nothing more to relay, as the kernel knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// When a byte last moved, an end was told, or one was acknowledged.
    pub(crate) done: Time,
    /// Streams that are known to have ended.
    pub(crate) ends: usize,
    /// When that was seen to have changed, until the relay must have noticed.
    pub(crate) moved: Option<Time>,
    /// When it must have noticed.
    pub(crate) noticed: Time,
    /// Since when nothing is owed.
    pub(crate) paid: Option<Time>,
}

/// Bytes that came for one side and that it has not acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Undelivered {
    /// Read and not written, at least and at most.
    pub(crate) held: (u64, u64),
    /// Written and not acknowledged.
    pub(crate) unacked: u64,
}

/// What the kernel was asked of a session that is ending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Questions {
    /// Since when nothing has been passed on or acknowledged, as far as the relay must know.
    pub(crate) since: Time,
    /// What had been acknowledged of each side when it was last asked, the FIN as one.
    pub(crate) acked: [u64; 2],
    /// The turn in which it was last asked.
    pub(crate) turn: u64,
    /// What the kernel said last of how long it waits for an acknowledgement of each side, and in which turn.
    pub(crate) timeouts: [Option<(u64, Option<Duration>)>; 2],
    /// What was not acknowledged of each side, without the FIN, when the kernel was last asked, and in which turn.
    pub(crate) left: [Option<(u64, u64)>; 2],
    /// Since when nothing else than an alarm can have made it ask, and how often it has asked since then.
    pub(crate) quiet: Time,
    pub(crate) alone: u32,
}

impl Questions {
    pub(crate) const fn new(now: Time) -> Self {
        Self { since: now, acked: [0; 2], turn: 0, timeouts: [None; 2], left: [None; 2], quiet: now, alone: 0 }
    }

    /// Something may have made the session run.
    pub(crate) const fn disturbed(&mut self, now: Time) {
        (self.quiet, self.alone) = (now, 0);
    }
}

/// One accepted client.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its place in the plan.
    pub(crate) plan: usize,
    /// The listener it came to, and the number of that listener's route then.
    pub(crate) door: usize,
    pub(crate) route: usize,
    pub(crate) client: ConnId,
    /// The connection under way, or the one that stands.
    pub(crate) upstream: Option<ConnId>,
    pub(crate) began: Time,
    /// When connecting could begin: then, or when its client was announced.
    pub(crate) opened: Time,
    /// What is known of the header that is to come first.
    pub(crate) header: Header,
    /// The address of its client, as it was announced.
    pub(crate) announced: Option<SocketAddr>,
    /// The turn that accepted it.
    pub(crate) accepted: u64,
    /// Its client had reset the connection before it was accepted.
    pub(crate) came_reset: bool,
    /// An event said so before anything was dialled.
    pub(crate) known_reset: bool,
    pub(crate) connected: Option<Time>,
    pub(crate) flows: [Flow; 2],
    pub(crate) tokens: [Option<Token>; 2],
    /// It is known that this peer has finished speaking.
    pub(crate) saw_fin: [bool; 2],
    /// This Unix peer has hung up, and only reading tells whether it had said all.
    pub(crate) hung_up: [bool; 2],
    /// EPIPE was told, and it may have been a reset.
    pub(crate) in_doubt: [bool; 2],
    /// The last write found no room, and nothing has said since that there is some.
    pub(crate) blocked: [bool; 2],
    /// The first error that a call on this side told.
    pub(crate) told: [Option<Errno>; 2],
    pub(crate) first_told: Option<(Peer, Errno)>,
    /// What the first error was taken for when a timeout may have struck; since then a doubt about it was settled.
    pub(crate) taken_for: Option<(Peer, Errno)>,
    pub(crate) told_at: Option<Time>,
    /// The turn in which one was told last.
    pub(crate) told_turn: u64,
    /// The turn in which it last made a call on a stream.
    pub(crate) served_turn: u64,
    /// When it last made one, or an event told of it.
    pub(crate) called_at: Time,
    pub(crate) first_fin: Option<Peer>,
    /// When bytes were last read for the other side or written, a FIN heard or passed on, an error told.
    pub(crate) last_moved: Time,
    /// When bytes or a FIN were last passed on.
    pub(crate) passed_on: Time,
    /// When bytes were last read or written.
    pub(crate) last_io: Time,
    /// When an error after which nothing can be relayed was first told.
    pub(crate) trouble: Option<Time>,
    /// What came of it since.
    pub(crate) ending: Option<Ending>,
    /// What was asked since it is ending.
    pub(crate) questions: Option<Questions>,
    /// A timeout of inactivity may have struck.
    pub(crate) overdue: bool,
    /// When bytes were first thrown away, because the other peer takes nothing any more.
    pub(crate) thrown_since: Option<Time>,
    /// Bytes were thrown away about when that had gone on for the half-close time.
    pub(crate) may_be_given_up: bool,
    /// When bytes were first thrown away after that time.
    pub(crate) thrown_too_long: Option<Time>,
    /// Nothing had moved for that long when this turn began, and nothing could.
    pub(crate) due: bool,
    /// It could move at the beginning of this turn.
    pub(crate) could_move: bool,
    /// How far it is with the addresses of its upstream.
    pub(crate) attempt: Attempt,
    /// The address that it is connected to, or tried last.
    pub(crate) tried: Option<SocketAddr>,
    /// The last connect found no descriptor or memory; one did.
    pub(crate) starved: bool,
    pub(crate) was_starved: bool,
    /// Its place among those that wait for a full backlog, and since when it has that.
    pub(crate) backlog_place: Option<(u64, Time)>,
    /// It found a backlog full once.
    pub(crate) met_backlog: bool,
    /// A connect found no source port.
    pub(crate) lacked_port: bool,
    /// None of the addresses that it could come from, to one of its upstream's, was this machine's. A line says so, and the
    /// relay says no more if others of its upstream's have no port.
    pub(crate) sourceless: bool,
    /// Why it is not connected yet.
    pub(crate) last_failure: Option<&'static str>,
    pub(crate) dials: usize,
    /// Until when the connection under way may stay without an answer.
    pub(crate) share: Time,
    /// When an address last failed.
    pub(crate) failed_at: Option<Time>,
    pub(crate) failed: Option<ConnId>,
    /// Was it half closed when a timeout may have struck?
    pub(crate) struck_half_closed: bool,
    /// Had an error been told by then?
    pub(crate) struck_told: bool,
    /// Its upstream is kept alive.
    pub(crate) kept_alive: bool,
    /// It has TCP_USER_TIMEOUT.
    pub(crate) user_timeout: bool,
    /// A line said that it begins to relay.
    pub(crate) said_open: bool,
    /// It was cut short for certain.
    pub(crate) cut: bool,
    /// Its client could not be watched.
    pub(crate) unwatched: bool,
    /// It counts among those of its address.
    pub(crate) is_counted: bool,
    /// It may have lasted as long as it may.
    pub(crate) aged: bool,
    /// When a turn first began that found it older than it may be.
    pub(crate) too_old: Option<Time>,
    /// Both streams are gone since then.
    pub(crate) ended: Option<Time>,
    /// It was reset when the relay had been asked to stop, and would wait no longer.
    pub(crate) ended_late: bool,
    pub(crate) said_goodbye: [bool; 2],
    /// What was not delivered to each side when it was reset.
    pub(crate) undelivered: [Undelivered; 2],
    pub(crate) records: usize,
    /// What the record said of that, up and down.
    pub(crate) said_undelivered: [u64; 2],
    pub(crate) cause: Option<String>,
}

impl Session {
    /// A client was accepted.
    pub(crate) fn new(
        client: ConnId,
        (door, route): (usize, usize),
        now: Time,
        accepted: u64,
        came_reset: bool,
    ) -> Self {
        Self {
            plan: client,
            door,
            route,
            client,
            upstream: None,
            began: now,
            opened: now,
            header: Header::default(),
            announced: None,
            accepted,
            came_reset,
            known_reset: false,
            connected: None,
            flows: [Flow::default(); 2],
            tokens: [None; 2],
            saw_fin: [false; 2],
            hung_up: [false; 2],
            in_doubt: [false; 2],
            blocked: [false; 2],
            told: [None; 2],
            first_told: None,
            taken_for: None,
            told_at: None,
            told_turn: 0,
            served_turn: 0,
            called_at: now,
            first_fin: None,
            last_moved: now,
            last_io: now,
            passed_on: now,
            trouble: None,
            ending: None,
            questions: None,
            overdue: false,
            thrown_since: None,
            may_be_given_up: false,
            thrown_too_long: None,
            due: false,
            could_move: false,
            attempt: Attempt::default(),
            tried: None,
            starved: false,
            was_starved: false,
            backlog_place: None,
            met_backlog: false,
            lacked_port: false,
            sourceless: false,
            last_failure: None,
            dials: 0,
            share: now,
            failed_at: None,
            failed: None,
            struck_half_closed: false,
            struck_told: false,
            kept_alive: false,
            user_timeout: false,
            said_open: false,
            cut: false,
            unwatched: false,
            is_counted: false,
            aged: false,
            too_old: None,
            ended: None,
            ended_late: false,
            said_goodbye: [false; 2],
            undelivered: [Undelivered::default(); 2],
            records: 0,
            said_undelivered: [0; 2],
            cause: None,
        }
    }

    pub(crate) fn flow(&mut self, source: Peer) -> &mut Flow {
        &mut self.flows[source as usize]
    }

    /// Has one of the two finished speaking? A FIN that was seen counts, read or not (rule 9). EPIPE says so too.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.saw_fin.contains(&true) || self.hung_up.contains(&true) || self.first_told.is_some()
    }

    /// May its upstream be dialled, as far as the stages go that it has passed?
    pub(crate) fn may_dial(&self) -> bool {
        let is_announced = self.header.awaited.is_none() && self.header.refused.is_none();
        self.connected.is_none() && self.upstream.is_none() && !self.unwatched && self.ended.is_none() && is_announced
    }

    pub(crate) fn conn(&self, peer: Peer) -> Option<ConnId> {
        match peer {
            Peer::Client => Some(self.client),
            Peer::Upstream => self.upstream,
        }
    }
}
