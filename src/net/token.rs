//! What an event is about: a listener, or one end of a session.

use std::fmt;

/// One of the two ends of a session. A flow is named by the peer it reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// The end that connected to us.
    Client,
    /// The end that we connected to.
    Upstream,
}

impl Peer {
    /// Both, the client first.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Upstream];

    /// The one at the other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// What an event is about: `serial << 32 | key << 1 | peer`.
///
/// A key is a slot of a table and is used again. A serial is given once (the counter wraps after 4 billion sockets). The
/// slot remembers its serials, so a late event never reaches a stranger. Serial 0 belongs to listeners.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The largest key a token can carry. One less than fits: the token with all bits set is not a session's.
    pub const KEY_MAX: u32 = (1 << 31) - 2;

    /// The token of the socket with this serial, in slot `key`, at `peer`'s end. `key` is at most [`Token::KEY_MAX`].
    pub const fn new(serial: u32, key: u32, peer: Peer) -> Self {
        debug_assert!(key <= Self::KEY_MAX);
        Self((serial as u64) << 32 | (key as u64) << 1 | peer as u64)
    }

    /// The token of the listener with this index.
    pub const fn listener(index: u16) -> Self {
        Self::new(0, index as u32, Peer::Client)
    }

    /// What this token names.
    #[expect(clippy::cast_possible_truncation, reason = "a listener's index has 16 bits, a session's key 31")]
    pub const fn owner(self) -> Owner {
        match self.serial() {
            0 => Owner::Listener(self.key() as u16),
            _ => Owner::Session(self.key() as u32, self.peer()),
        }
    }

    /// The token as the kernel carries it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The token that the kernel carried.
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The socket's serial.
    pub const fn serial(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The slot.
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is the serial")]
    pub const fn key(self) -> usize {
        (self.0 as u32 >> 1) as usize
    }

    /// Which end of the session.
    pub const fn peer(self) -> Peer {
        if self.0 & 1 == 0 { Peer::Client } else { Peer::Upstream }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner() {
            Owner::Listener(index) => write!(f, "listener {index}"),
            Owner::Session(key, peer) => write!(f, "{peer:?}#{}@{key}", self.serial()),
        }
    }
}

/// What a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The listener with this index.
    Listener(u16),
    /// One end of the session in this slot, if it still has the token's serial.
    Session(u32, Peer),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_what_was_put_in() {
        for serial in [1, 2, 0x8000_0000, u32::MAX] {
            for key in [0, 1, 4096, Token::KEY_MAX] {
                for peer in Peer::BOTH {
                    let token = Token::from_u64(Token::new(serial, key, peer).as_u64());
                    assert_eq!((token.serial(), token.key(), token.peer()), (serial, key as usize, peer));
                    assert_eq!(token.owner(), Owner::Session(key, peer));
                }
            }
        }
    }

    /// The event queue uses it to be woken.
    #[test]
    fn no_token_has_all_bits_set() {
        assert_ne!(Token::new(u32::MAX, Token::KEY_MAX, Peer::Upstream).as_u64(), u64::MAX);
    }

    #[test]
    fn serial_0_belongs_to_listeners() {
        for index in [0, 1, u16::MAX] {
            assert_eq!(Token::from_u64(Token::listener(index).as_u64()).owner(), Owner::Listener(index));
        }
    }
}
