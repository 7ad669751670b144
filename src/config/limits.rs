//! How many sessions and pipes the limit of open descriptors has room for.

use log::warn;
use rustix::process::{Resource, getrlimit};

use super::{Config, Splice};
use crate::error::Error;

/// Descriptors left free beside those that are open at start and two for each session: for name lookups and for the rest
/// of the process.
const SPARE_DESCRIPTORS: usize = 8;

/// Pipes to splice through, at most: half of what an unprivileged user may have of 1 MiB each (`pipe(7)`).
const PIPES_MAX: usize = 32;

/// At most one pipe for this many descriptors, so that pipes never take more than a sixteenth of them.
const PIPES_SHARE: usize = 32;

/// What a relay may use of what the process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time, two descriptors each; no more than [`Token::KEY_MAX`](crate::net::Token::KEY_MAX).
    pub sessions: usize,
    /// Pipes at a time, two descriptors each.
    pub pipes: usize,
}

/// The sessions and pipes the limit of open descriptors has room for, and no more sessions than asked for.
pub(crate) fn limits(config: &Config) -> Result<Limits, Error> {
    let limit = getrlimit(Resource::Nofile).current;
    // The listeners are not open yet.
    let open = open_descriptors() + config.routes.len() + SPARE_DESCRIPTORS;
    let room = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).saturating_sub(open);
    let pipes = match config.splice {
        Splice::Auto | Splice::On => PIPES_MAX.min(room / PIPES_SHARE),
        Splice::Off => 0,
    };
    let room = room / 2 - pipes;
    let sessions = match config.max_sessions {
        _ if room == 0 => return Err(Error::Descriptors { limit: limit.unwrap_or_default() }),
        Some(asked) if asked > room => {
            warn!("the limit of open files has room for {room} sessions, not for {asked} (raise `ulimit -n`)");
            room
        }
        Some(asked) => asked,
        None => room,
    };
    Ok(Limits { sessions, pipes })
}

/// Descriptors that are open now, or a guess where the kernel does not list them.
fn open_descriptors() -> usize {
    // The one that reads the directory is counted too, and closed again.
    std::fs::read_dir("/dev/fd").map_or(32, |entries| entries.count().saturating_sub(1))
}
