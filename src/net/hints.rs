//! What an event hints at.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use super::token::Token;

/// What an event hints at.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints(u8);

impl Hints {
    /// A read may give something; for a listener, an accept.
    pub const READABLE: Self = Self(1);
    /// A write may take something; while connecting, it may be over.
    pub const WRITABLE: Self = Self(2);
    /// A FIN, a hang-up or an urgent mark was seen: from now on only WouldBlock proves this socket dry (K6, K15).
    pub const READ_TO_EAGAIN: Self = Self(4);
    /// The peer's FIN has arrived: everything it sent before can be read, and the end of that will be true, whatever the
    /// socket dies of afterwards. It never comes together with ERROR, because a reset hangs up both directions as well.
    pub const FIN: Self = Self(16);
    /// Both directions are over, and no error was seen. On AF_UNIX one may follow (K20), so a FIN beside this is no proof.
    pub const HANG_UP: Self = Self(32);
    /// An error waits in SO_ERROR. It is told once: the caller must remember it.
    pub const ERROR: Self = Self(8);

    /// Is any bit of `other` among these?
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Without the hints of `other`.
    pub const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl BitOr for Hints {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Hints {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READABLE, 'r'),
            (Self::WRITABLE, 'w'),
            (Self::READ_TO_EAGAIN, 'e'),
            (Self::FIN, 'f'),
            (Self::ERROR, '!'),
            (Self::HANG_UP, 'h'),
        ];
        names.into_iter().filter(|(bit, _)| self.has(*bit)).try_for_each(|(_, name)| write!(f, "{name}"))
    }
}

/// One event: all of it is a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// What the event is about.
    pub token: Token,
    /// What it hints at.
    pub hints: Hints,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_told_apart() {
        let all = [Hints::READABLE, Hints::WRITABLE, Hints::READ_TO_EAGAIN, Hints::FIN, Hints::ERROR];
        for (i, one) in all.into_iter().enumerate() {
            for (j, two) in all.into_iter().enumerate() {
                assert_eq!(one.has(two), i == j);
            }
        }
        let mut hints = Hints::READABLE | Hints::ERROR;
        assert_eq!(format!("{hints:?}"), "r!");
        hints |= Hints::READ_TO_EAGAIN;
        assert!(hints.has(Hints::READ_TO_EAGAIN) && !hints.has(Hints::WRITABLE));
        hints.remove(Hints::ERROR | Hints::WRITABLE);
        assert_eq!(hints, Hints::READABLE | Hints::READ_TO_EAGAIN);
    }
}
