//! The words that a record says of an error.

use rustix::io::Errno;
use tproxy::net::Peer;

use crate::sources::NO_SOURCE;

/// What the record says of an error of connect.
pub(crate) fn connect_word(error: Errno) -> &'static str {
    match error {
        Errno::CONNREFUSED => "refused",
        Errno::TIMEDOUT => "connect-timeout",
        Errno::ADDRNOTAVAIL | Errno::AGAIN | NO_SOURCE => "no-ports",
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC => "no-resources",
        _ => "unreachable",
    }
}

/// What the record says of an error of a connection that stood.
pub(crate) fn fault_word(peer: Peer, error: Errno) -> String {
    let word = match error {
        Errno::PIPE => "closed",
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => "timeout",
        Errno::NOMEM | Errno::NOBUFS => return "no-resources".to_owned(),
        _ => "reset",
    };
    format!("{}-{word}", if peer == Peer::Client { "client" } else { "upstream" })
}
