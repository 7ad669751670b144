//! How a peer's input ended: one fact, in one place.
//!
//! ```text
//!   input          first error                 a read of 0 means            the socket is
//!   ─────────────  ──────────────────────────  ───────────────────────────  ─────────────
//!   Open           none                        a FIN                        alive
//!   Open           Closed                      a FIN (K16)                  alive
//!   Open           Reset, Timeout, Resources   a reset (K1)                 dead
//!   Doubtful       none                        a FIN                        alive
//!   Doubtful       Reset, Timeout, Resources   a reset                      dead
//!   Doubtful       Closed                      what the kernel's count      alive
//!                                              says (K19)
//!   FinSeen        any                         a FIN                        alive
//!   FinRead        any                         a FIN                        alive
//!   ResetRead      any                         a reset                      dead
//! ```
//! On AF_UNIX an EPIPE does not stay: if ECONNRESET comes behind it, from a read or from SO_ERROR, that is the first error
//! instead (K20). A read of 0 has asked for it, so without one the row "Open, Closed" holds there too. In the row "Doubtful,
//! Closed" nobody can say there, and it is a reset.
//!
//! A dead socket is of no use in either direction: nothing is written to a socket that has failed. One that is alive may
//! still bring what its peer said.
//!
//! The log names the first error: `*-reset`, `*-closed`, `*-timeout`, `no-resources`. A reset behind a FIN that was
//! seen is named `*-closed`: the peer had finished speaking and hung up.

use std::io;

use crate::net::errno::{StreamError, on_stream};

/// What is known of the end of a peer's input. It only moves down this list, except that a doubt may prove to be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing is known.
    Open,
    /// Something stopped a splice in the middle, or a write to a Unix socket, and it may have consumed an ECONNRESET. So an
    /// EPIPE does not prove a FIN here, as it does otherwise (K16). Without one nothing was consumed: the next write would
    /// have told.
    Doubtful,
    /// The FIN has arrived, and perhaps has not been read. What came before it is whole, whatever the socket dies of.
    FinSeen,
    /// Reads are over: the FIN was read.
    FinRead,
    /// Reads are over: they ended without a FIN.
    ResetRead,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a FIN: everything was said.
    Fin,
    /// Without one.
    Reset,
}

/// What a socket died of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer reset the connection. Whatever the kernel says next, its stream was cut (K1).
    Reset,
    /// EPIPE: the peer's FIN came before its reset. It finished speaking and no longer listens (K16).
    Closed,
    /// The peer stopped answering: retransmissions or keepalives ran out, or the network says it is unreachable.
    Timeout,
    /// The kernel ran out of memory or buffers.
    Resources,
}

/// What a read of 0 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtZero {
    /// It is this end.
    Is(End),
    /// It is a FIN if the kernel counted one byte more than were read, otherwise a reset (K19).
    AskTheCount,
}

impl Fault {
    /// What an error of a call on the socket says.
    pub(super) fn of(error: &io::Error) -> Self {
        match on_stream(error) {
            StreamError::Closed => Self::Closed,
            StreamError::Timeout => Self::Timeout,
            StreamError::Shortage => Self::Resources,
            StreamError::Interrupted | StreamError::WouldBlock | StreamError::Reset => Self::Reset,
        }
    }

    /// The same for a call that reads. EPIPE answers writes; if a read gives it, no FIN was read before.
    pub(super) fn of_read(error: &io::Error) -> Self {
        match Self::of(error) {
            Self::Closed => Self::Reset,
            fault @ (Self::Reset | Self::Timeout | Self::Resources) => fault,
        }
    }

    /// Does it say more of the peer's end than an EPIPE before it, where that is a doubt (K20)?
    pub(super) const fn overrules_epipe(self) -> bool {
        self.is_fatal()
    }

    /// Does it end both directions? After EPIPE, what the peer said can still be read.
    const fn is_fatal(self) -> bool {
        match self {
            Self::Reset | Self::Timeout | Self::Resources => true,
            Self::Closed => false,
        }
    }
}

impl Input {
    /// Reads are over, and this is how.
    pub(super) const fn ended(end: End) -> Self {
        match end {
            End::Fin => Self::FinRead,
            End::Reset => Self::ResetRead,
        }
    }

    /// Has the peer finished speaking, whether or not that was read?
    pub(super) const fn has_fin(self) -> bool {
        matches!(self, Self::FinSeen | Self::FinRead)
    }

    /// Are reads over?
    pub(super) const fn is_ended(self) -> bool {
        matches!(self, Self::FinRead | Self::ResetRead)
    }

    /// What a read of 0 means.
    pub(super) fn at_zero(self, first_error: Option<Fault>) -> AtZero {
        match self {
            Self::Open | Self::Doubtful if first_error.is_some_and(Fault::is_fatal) => AtZero::Is(End::Reset),
            Self::Open | Self::FinSeen | Self::FinRead => AtZero::Is(End::Fin),
            Self::Doubtful if first_error.is_none() => AtZero::Is(End::Fin),
            Self::Doubtful => AtZero::AskTheCount,
            Self::ResetRead => AtZero::Is(End::Reset),
        }
    }

    /// Is the socket of no use in either direction?
    pub(super) fn is_dead(self, first_error: Option<Fault>) -> bool {
        self == Self::ResetRead || (!self.has_fin() && first_error.is_some_and(Fault::is_fatal))
    }

    /// What to call an error that comes now. Behind a FIN a reset is a hang-up: once we have sent a FIN too, the
    /// kernel says ECONNRESET where it would have said EPIPE.
    pub(super) const fn name(self, fault: Fault) -> Fault {
        match fault {
            Fault::Reset if self.has_fin() => Fault::Closed,
            Fault::Reset | Fault::Closed | Fault::Timeout | Fault::Resources => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    const NONE: Option<Fault> = None;
    const RESET: Option<Fault> = Some(Fault::Reset);
    const CLOSED: Option<Fault> = Some(Fault::Closed);
    const TIMEOUT: Option<Fault> = Some(Fault::Timeout);
    const RESOURCES: Option<Fault> = Some(Fault::Resources);

    /// The table of the module's documentation.
    #[test]
    fn a_read_of_0_means_what_the_table_says() {
        const FIN: AtZero = AtZero::Is(End::Fin);
        const CUT: AtZero = AtZero::Is(End::Reset);
        for (input, first_error, at_zero, dead) in [
            (Input::Open, NONE, FIN, false),
            (Input::Open, CLOSED, FIN, false),
            (Input::Open, RESET, CUT, true),
            (Input::Open, TIMEOUT, CUT, true),
            (Input::Open, RESOURCES, CUT, true),
            (Input::Doubtful, NONE, FIN, false),
            (Input::Doubtful, CLOSED, AtZero::AskTheCount, false),
            (Input::Doubtful, RESET, CUT, true),
            (Input::Doubtful, TIMEOUT, CUT, true),
            (Input::Doubtful, RESOURCES, CUT, true),
            (Input::FinSeen, NONE, FIN, false),
            (Input::FinSeen, CLOSED, FIN, false),
            (Input::FinSeen, RESET, FIN, false),
            (Input::FinSeen, TIMEOUT, FIN, false),
            (Input::FinSeen, RESOURCES, FIN, false),
            (Input::FinRead, NONE, FIN, false),
            (Input::FinRead, CLOSED, FIN, false),
            (Input::FinRead, TIMEOUT, FIN, false),
            (Input::FinRead, RESOURCES, FIN, false),
            (Input::ResetRead, RESET, CUT, true),
            (Input::ResetRead, TIMEOUT, CUT, true),
            (Input::ResetRead, RESOURCES, CUT, true),
            (Input::ResetRead, CLOSED, CUT, true),
        ] {
            assert_eq!(input.at_zero(first_error), at_zero, "{input:?} {first_error:?}");
            assert_eq!(input.is_dead(first_error), dead, "{input:?} {first_error:?}");
        }
    }

    #[test]
    fn a_reset_behind_a_fin_is_a_hang_up_and_nothing_else_changes_its_name() {
        let inputs = [Input::Open, Input::Doubtful, Input::FinSeen, Input::FinRead, Input::ResetRead];
        for input in inputs {
            let reset = if input.has_fin() { Fault::Closed } else { Fault::Reset };
            assert_eq!(input.name(Fault::Reset), reset, "{input:?}");
            for fault in [Fault::Closed, Fault::Timeout, Fault::Resources] {
                assert_eq!(input.name(fault), fault, "{input:?}");
            }
        }
        assert_eq!(inputs.map(Input::has_fin), [false, false, true, true, false]);
        assert_eq!(inputs.map(Input::is_ended), [false, false, false, true, true]);
    }

    #[test]
    fn what_ends_both_directions_overrules_an_epipe() {
        let faults = [Fault::Reset, Fault::Closed, Fault::Timeout, Fault::Resources];
        assert_eq!(faults.map(Fault::overrules_epipe), [true, false, true, true]);
    }

    #[test]
    fn an_error_number_is_a_fault() {
        for (errno, fault, of_read) in [
            (Errno::CONNRESET, Fault::Reset, Fault::Reset),
            (Errno::PIPE, Fault::Closed, Fault::Reset),
            (Errno::TIMEDOUT, Fault::Timeout, Fault::Timeout),
            (Errno::HOSTUNREACH, Fault::Timeout, Fault::Timeout),
            (Errno::NETUNREACH, Fault::Timeout, Fault::Timeout),
            (Errno::NOMEM, Fault::Resources, Fault::Resources),
            (Errno::NOBUFS, Fault::Resources, Fault::Resources),
            (Errno::IO, Fault::Reset, Fault::Reset),
        ] {
            assert_eq!((Fault::of(&errno.into()), Fault::of_read(&errno.into())), (fault, of_read), "{errno:?}");
        }
    }
}
