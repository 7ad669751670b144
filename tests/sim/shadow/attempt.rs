//! How far a session is with the addresses of its upstream.

use std::net::SocketAddr;

use tproxy::net::Time;

/// What became of an address in one attempt of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It had only a short time. It is tried again.
    Slow,
    Portless,
    /// The backlog of a Unix socket was full.
    Full,
    Failed,
}

/// How far a session is with its upstream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempt {
    /// The addresses that were known when it began.
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) version: u32,
    pub(super) marks: Vec<(SocketAddr, Mark)>,
    pub(super) again: bool,
    /// Something was tried, or is about to be.
    pub(super) begun: bool,
    /// Attempts before this one.
    pub(crate) before: u32,
    /// The connection under way has only a short time.
    pub(super) quick: bool,
    /// It is not known which it was.
    pub(super) vague: bool,
    /// When an address last failed, there were others already: it was not the last of this attempt.
    pub(super) outdated: bool,
    /// Pauses before a full backlog was tried again, and the end of the last if it is this session that tries.
    pub(crate) pauses: u32,
    pub(crate) full_until: Option<Time>,
    /// Others may be before it.
    pub(crate) full_vague: bool,
}

impl Attempt {
    pub(super) fn untried(&self) -> impl Iterator<Item = SocketAddr> {
        self.candidates.iter().copied().filter(|one| self.marks.iter().all(|(tried, _)| tried != one))
    }

    pub(super) fn has(&self, mark: Mark) -> bool {
        self.marks.iter().any(|(_, one)| *one == mark)
    }

    /// Is nothing tried yet?
    pub(crate) fn is_fresh(&self) -> bool {
        !self.begun
    }

    /// May how long an address had depend on something that is not known?
    pub(crate) fn is_vague(&self) -> bool {
        self.vague
    }

    /// Has every address had its time, and none was out of ports?
    pub(crate) fn is_over(&self) -> bool {
        self.vague
            || (!self.marks.is_empty()
                && self.untried().next().is_none()
                && self.marks.iter().all(|(_, mark)| *mark == Mark::Failed))
    }

    /// Are those without a port the only ones left?
    pub(crate) fn lacks_port(&self) -> bool {
        let others = self.has(Mark::Slow) || self.has(Mark::Full);
        self.untried().next().is_none() && !others && self.has(Mark::Portless)
    }

    pub(super) fn mark(&mut self, address: SocketAddr, mark: Mark) {
        self.marks.push((address, mark));
    }
}
