//! `fd:3` and `systemd:NAME`: listening sockets that another program has left open for us, as they are written.

use std::fmt;
use std::os::fd::RawFd;

/// Which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one with this number.
    Number(RawFd),
    /// All with this name: of several in one socket unit, each may have it.
    Name(String),
}

/// How the number of a descriptor is written.
const FD: &str = "fd:";

/// How a name is written that systemd gives to sockets (FileDescriptorName= of `systemd.socket(5)`).
const SYSTEMD: &str = "systemd:";

/// The lowest number: below are stdin, stdout and stderr (`sd_listen_fds(3)`).
const FIRST: RawFd = 3;

/// Is it written like one of these?
pub(super) fn is_inherited(text: &str) -> bool {
    text.starts_with(FD) || text.starts_with(SYSTEMD)
}

/// None if it is something else.
pub(super) fn inherited(text: &str) -> Result<Option<Which>, String> {
    if let Some(number) = text.strip_prefix(FD) {
        let number = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()));
        return match number.filter(|number| *number >= FIRST) {
            Some(number) => Ok(Some(Which::Number(number))),
            None => {
                Err(format!("{text:?} is no inherited socket; write fd: and the number of its descriptor, 3 or more"))
            }
        };
    }
    match text.strip_prefix(SYSTEMD) {
        None => Ok(None),
        Some("") => {
            Err(format!("{text:?} names no socket; write systemd: and its FileDescriptorName=, as systemd:web"))
        }
        Some(name) => Ok(Some(Which::Name(name.to_owned()))),
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{FD}{number}"),
            Self::Name(name) => write!(f, "{SYSTEMD}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_number_or_a_name() {
        for (text, which) in [("fd:3", Which::Number(3)), ("systemd:web", Which::Name("web".to_owned()))] {
            assert_eq!(inherited(text), Ok(Some(which.clone())));
            assert_eq!((which.to_string().as_str(), is_inherited(text)), (text, true));
        }
        for text in ["fd:", "fd:2", "fd:-3", "fd:+3", "fd:x", "fd:99999999999"] {
            assert!(inherited(text).unwrap_err().contains("write fd: and the number"), "{text}");
        }
        assert!(inherited("systemd:").unwrap_err().contains("write systemd: and"));
        assert_eq!(inherited("127.0.0.1:80"), Ok(None));
    }
}
