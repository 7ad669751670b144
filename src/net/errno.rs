//! What an error number means, for each kind of call: the one table of them.
//!
//! | error | `accept` | `connect` | on a stream | `splice` from or to it |
//! |---|---|---|---|---|
//! | EAGAIN | the queue is empty | no port is left (`connect(2)`); AF_UNIX: the backlog is full (K22) | would block | from it: says nothing (K15); to it: would block |
//! | EINTR | again | under way | again | again |
//! | ECONNREFUSED | | refused | reset | copy |
//! | ECONNRESET | that client is gone | reset after it was established | reset | reset |
//! | EPIPE | | reset after it was established | closed (K16) | closed |
//! | ETIMEDOUT | that client is gone | timeout | timeout | timeout |
//! | EHOSTUNREACH, ENETUNREACH | that client is gone | unreachable | timeout | timeout |
//! | EADDRNOTAVAIL | | no port is left | | copy |
//! | EMFILE, ENFILE | shortage | shortage | shortage | copy |
//! | ENOBUFS, ENOMEM, ENOSPC | shortage | shortage | shortage | copy |
//! | ECONNABORTED, EPROTO, EPERM, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, EOPNOTSUPP | that client is gone | unreachable | reset | copy |
//! | EBADF, EINVAL, ENOTSOCK | the listener is dead | unreachable | reset | copy |
//! | any other | shortage of an unknown kind | unreachable | reset | copy |
//!
//! An empty cell is as *any other*. Sources: the "ERRORS" and "Error handling" sections of `accept(2)`, `connect(2)`,
//! `splice(2)`, and `tcp(7)`.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

use super::address::Address;

/// What an error of `accept` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptError {
    /// No client waits.
    Empty,
    /// Nothing was accepted; try again at once.
    Interrupted,
    /// This client is lost; the next may be there.
    ClientGone,
    /// The descriptor is not a listener.
    Dead,
    /// A resource is short, or the error is unknown: pause accepting.
    Shortage,
}

/// What an error of `accept` means. EPERM is a firewall's (`accept(2)`).
pub fn on_accept(error: &io::Error) -> AcceptError {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => AcceptError::Empty,
        Some(Errno::INTR) => AcceptError::Interrupted,
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK) => AcceptError::Dead,
        Some(
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
            | Errno::CONNRESET,
        ) => AcceptError::ClientGone,
        Some(_) => AcceptError::Shortage,
        None => match error.kind() {
            ErrorKind::WouldBlock => AcceptError::Empty,
            ErrorKind::Interrupted => AcceptError::Interrupted,
            _ => AcceptError::Shortage,
        },
    }
}

/// What an error of `connect` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// The connection was established and is gone again. Only a peer that answered can reset: a refusal is
    /// ECONNREFUSED (`tcp(7)`). What it said before can still be read.
    WasEstablished,
    /// Nothing listens there.
    Refused,
    /// No answer came.
    Timeout,
    /// No local port is left; some kernels say EAGAIN (`connect(2)`).
    NoPorts,
    /// The source address is none of this machine's, or bind(2) failed for another reason that has nothing to do with where
    /// the connection leads. The error has this kind and no number.
    NoSource,
    /// The backlog of the Unix socket is full (K22).
    Full,
    /// Descriptors, memory or watches are short.
    Shortage,
    /// The network has no route, or the error is another one.
    Unreachable,
}

/// What an error of `connect` to this address means. The relay's own findings (a socket connected to itself, an attempt that took too
/// long) have a kind and no number.
pub fn on_connect(error: &io::Error, to: &Address) -> ConnectError {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) if to.is_unix() => ConnectError::Full,
        Some(Errno::ADDRNOTAVAIL | Errno::AGAIN) => ConnectError::NoPorts,
        Some(_) | None if is_shortage(error) => ConnectError::Shortage,
        Some(_) | None => match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ConnectError::WasEstablished,
            ErrorKind::ConnectionRefused => ConnectError::Refused,
            ErrorKind::TimedOut => ConnectError::Timeout,
            ErrorKind::AddrNotAvailable => ConnectError::NoSource,
            _ => ConnectError::Unreachable,
        },
    }
}

/// What an error of a call on a connected stream means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamError {
    /// Try again at once.
    Interrupted,
    /// Not now; an event will come.
    WouldBlock,
    /// EPIPE: the peer hung up.
    Closed,
    /// The peer stopped answering.
    Timeout,
    /// The kernel has no memory or no buffers.
    Shortage,
    /// The connection was reset, or is of no use for an undocumented reason.
    Reset,
}

/// What an error of a call on a connected stream means.
pub fn on_stream(error: &io::Error) -> StreamError {
    match error.kind() {
        ErrorKind::Interrupted => StreamError::Interrupted,
        ErrorKind::WouldBlock => StreamError::WouldBlock,
        ErrorKind::BrokenPipe => StreamError::Closed,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => StreamError::Timeout,
        _ if is_shortage(error) => StreamError::Shortage,
        _ => StreamError::Reset,
    }
}

/// What an error of `splice(2)` from or to a stream means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpliceError {
    /// Try again at once.
    Interrupted,
    /// Nothing can be moved now. Of a splice from the stream, it proves nothing (K15).
    WouldBlock,
    /// The stream's own error.
    Stream,
    /// Splice does not work here: for this socket, in this sandbox, or without memory. Bytes have to be copied.
    Unusable,
}

/// What an error of `splice(2)` from or to a stream means. Only the errors that a connection dies of are the stream's own:
/// a sandbox may answer with anything else.
pub fn on_splice(error: &io::Error) -> SpliceError {
    match error.kind() {
        ErrorKind::Interrupted => SpliceError::Interrupted,
        ErrorKind::WouldBlock => SpliceError::WouldBlock,
        ErrorKind::ConnectionReset
        | ErrorKind::BrokenPipe
        | ErrorKind::TimedOut
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable => SpliceError::Stream,
        _ => SpliceError::Unusable,
    }
}

/// Is the process or the machine out of something: descriptors, buffers, memory, watches? Then the same call may
/// succeed later.
pub fn is_shortage(error: &io::Error) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC) => true,
        Some(_) | None => error.kind() == ErrorKind::OutOfMemory,
    }
}

/// A shortage in words: what is short, what the relay does about it, and what an operator can do.
pub(crate) fn shortage_message(error: &io::Error, action: &str) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => format!("too many open files; {action} (raise `ulimit -n`)"),
        Some(Errno::NFILE) => format!("too many open files on this machine; {action} (raise `sysctl fs.file-max`)"),
        Some(_) | None if is_shortage(error) => format!("{error}; {action} (free memory, or lower `--max-sessions`)"),
        Some(_) | None => format!("{error}; {action}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_accept() {
        use AcceptError::{ClientGone, Dead, Empty, Interrupted, Shortage};
        for (errnos, meaning) in [
            (&[Errno::AGAIN][..], Empty),
            (&[Errno::INTR], Interrupted),
            (&[Errno::BADF, Errno::INVAL, Errno::NOTSOCK], Dead),
            (&[Errno::CONNABORTED, Errno::PROTO, Errno::PERM, Errno::NETDOWN, Errno::NOPROTOOPT], ClientGone),
            (&[Errno::HOSTDOWN, Errno::HOSTUNREACH, Errno::OPNOTSUPP, Errno::NETUNREACH], ClientGone),
            (&[Errno::TIMEDOUT, Errno::CONNRESET], ClientGone),
            (&[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::IO], Shortage),
        ] {
            for errno in errnos {
                assert_eq!(on_accept(&(*errno).into()), meaning, "{errno:?}");
            }
        }
        assert_eq!(on_accept(&ErrorKind::WouldBlock.into()), Empty);
        assert_eq!(on_accept(&ErrorKind::Other.into()), Shortage);
    }

    #[test]
    fn errors_of_connect() {
        use ConnectError::{Full, NoPorts, Refused, Shortage, Timeout, Unreachable, WasEstablished};
        let [inet, unix]: [Address; 2] = ["127.0.0.1:80", "unix:/run/app"].map(|text| text.parse().unwrap());
        for (errnos, meaning) in [
            (&[Errno::CONNREFUSED][..], Refused),
            (&[Errno::TIMEDOUT], Timeout),
            (&[Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::PERM, Errno::INVAL], Unreachable),
            (&[Errno::ADDRNOTAVAIL, Errno::AGAIN], NoPorts),
            (&[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NOSPC], Shortage),
            (&[Errno::CONNRESET, Errno::PIPE], WasEstablished),
        ] {
            for errno in errnos {
                assert_eq!(on_connect(&(*errno).into(), &inet), meaning, "{errno:?}");
                let meaning = if *errno == Errno::AGAIN { Full } else { meaning };
                assert_eq!(on_connect(&(*errno).into(), &unix), meaning, "{errno:?}");
            }
        }
        for (kind, meaning) in
            [(ErrorKind::ConnectionRefused, Refused), (ErrorKind::TimedOut, Timeout), (ErrorKind::Other, Unreachable)]
        {
            assert_eq!(on_connect(&kind.into(), &inet), meaning, "{kind:?}");
        }
        let gone = io::Error::new(ErrorKind::AddrNotAvailable, io::Error::from(Errno::ADDRNOTAVAIL));
        assert_eq!(on_connect(&gone, &inet), ConnectError::NoSource);
    }

    #[test]
    fn only_what_a_connection_dies_of_is_the_streams_own_error_of_splice() {
        for (errnos, meaning) in [
            (&[Errno::CONNRESET, Errno::PIPE, Errno::TIMEDOUT, Errno::HOSTUNREACH][..], SpliceError::Stream),
            (&[Errno::NETUNREACH], SpliceError::Stream),
            (&[Errno::PERM, Errno::ACCESS, Errno::NOBUFS, Errno::NOMEM, Errno::NOSYS], SpliceError::Unusable),
            (&[Errno::INVAL, Errno::OPNOTSUPP, Errno::IO], SpliceError::Unusable),
            (&[Errno::AGAIN], SpliceError::WouldBlock),
            (&[Errno::INTR], SpliceError::Interrupted),
        ] {
            for errno in errnos {
                assert_eq!(on_splice(&(*errno).into()), meaning, "{errno:?}");
            }
        }
    }

    #[test]
    fn a_shortage_names_what_to_raise() {
        for (errno, words) in [
            (Errno::MFILE, "too many open files; pausing 9ms (raise `ulimit -n`)"),
            (Errno::NFILE, "too many open files on this machine; pausing 9ms (raise `sysctl fs.file-max`)"),
            (Errno::NOMEM, "; pausing 9ms (free memory, or lower `--max-sessions`)"),
            (Errno::IO, "; pausing 9ms"),
        ] {
            assert!(shortage_message(&errno.into(), "pausing 9ms").ends_with(words));
        }
    }
}
