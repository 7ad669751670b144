//! How many sessions and pipes the limit of open descriptors has room for.

use log::warn;
use rustix::process::{Resource, getrlimit};

use super::{Config, Host, Route, Splice, memory};
use crate::error::Error;

/// Descriptors left free beside those that are open at start and two for each session: for the rest of the process.
const SPARE_DESCRIPTORS: usize = 8;

/// The same for name lookups, if a route leads to a name: three for each of eight threads, for sockets to name servers and
/// the list of this machine's addresses.
const LOOKUP_DESCRIPTORS: usize = 24;

/// Pipes to splice through, at most: half of what an unprivileged user may have of 1 MiB each (`pipe(7)`).
const PIPES_MAX: usize = 32;

/// At most one pipe for this many descriptors, so that pipes never take more than a sixteenth of them.
const PIPES_SHARE: usize = 32;

/// Sessions at a time, at most, however many descriptors there may be. Some containers allow a billion.
const SESSIONS_MAX: usize = 1 << 20;

/// What a relay may use of what the process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time, two descriptors each; no more than [`Token::KEY_MAX`](crate::net::Token::KEY_MAX).
    pub sessions: usize,
    /// Sessions at a time that there are descriptors for, also if fewer were asked for.
    pub room: usize,
    /// Pipes at a time, two descriptors each.
    pub pipes: usize,
}

impl Limits {
    /// Sessions at a time when this many descriptors are not there for sessions any more: a reload has added listeners, or the
    /// first name. At least one.
    pub(crate) fn sessions_without(&self, descriptors: usize) -> usize {
        self.sessions.min(self.room.saturating_sub(descriptors.div_ceil(2))).max(1)
    }
}

/// The sessions and pipes the limit of open descriptors has room for, and no more sessions than asked for. So many listeners
/// are open already.
pub(crate) fn limits(config: &Config, inherited: usize) -> Result<Limits, Error> {
    let limit = getrlimit(Resource::Nofile).current;
    let limits = within(limit, open_descriptors().saturating_sub(inherited), config)?;
    // A number that was asked for was chosen on purpose.
    let memory = memory::available().filter(|_| config.max_sessions.is_none());
    let worst = worst_case(config, limits);
    if let Some(memory) = memory.filter(|memory| worst > *memory) {
        let (worst, memory) = (mebibytes(worst), memory >> 20);
        warn!("buffers may need {worst} MiB and there are {memory} MiB of memory (set `--max-sessions`)");
    }
    Ok(limits)
}

/// Bytes of buffers if every direction of every session holds one.
pub(crate) fn worst_case(config: &Config, limits: Limits) -> u64 {
    config.buffer_size.saturating_mul(2 * limits.sessions) as u64
}

/// Bytes in MiB, rounded up: what is at most this much is said to be at most this many.
pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// The limits if the process may have this many descriptors and this many are open.
fn within(limit: Option<u64>, open: usize, config: &Config) -> Result<Limits, Error> {
    // The listeners are not open yet.
    let taken = open + reserved(&config.routes) + config.descriptors_reserved;
    let room = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).saturating_sub(taken);
    let pipes = match config.splice {
        Splice::Auto | Splice::On => PIPES_MAX.min(room / PIPES_SHARE),
        Splice::Off => 0,
    };
    let room = (room / 2 - pipes).min(SESSIONS_MAX);
    let sessions = match config.max_sessions {
        _ if room == 0 => return Err(Error::Descriptors { limit: limit.unwrap_or_default() }),
        Some(asked) if asked > room => {
            warn!("the limit of open files has room for {room} sessions, not for {asked} (raise `ulimit -n`)");
            room
        }
        Some(asked) => asked,
        None => room,
    };
    Ok(Limits { sessions, room, pipes })
}

/// Descriptors that no session gets: a listener for each of these routes, lookups if a route leads to a name, and the rest of
/// the process.
pub(crate) fn reserved(routes: &[Route]) -> usize {
    let mut hosts = routes.iter().flat_map(|route| &route.to);
    let has_names = hosts.any(|host| matches!(host, Host::Name { .. }));
    routes.len() + SPARE_DESCRIPTORS + if has_names { LOOKUP_DESCRIPTORS } else { 0 }
}

/// Descriptors that are open now, or a guess where the kernel does not list them.
fn open_descriptors() -> usize {
    // The one that reads the directory is counted too, and closed again.
    std::fs::read_dir("/dev/fd").map_or(32, |entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(([127, 0, 0, 1], 0).into(), [([127, 0, 0, 1], 80).into()])
    }

    #[test]
    fn a_session_and_a_pipe_take_two_descriptors_each() {
        for (limit, sessions, pipes) in [(20_000, 9_963, 32), (1_040, 483, 32), (100, 43, 2), (20, 5, 0), (12, 1, 0)] {
            let limits = within(Some(limit), 1, &config()).unwrap();
            assert_eq!((limits.sessions, limits.pipes), (sessions, pipes), "{limit}");
            assert!(2 * (limits.sessions + limits.pipes) <= usize::try_from(limit).unwrap() - 10, "{limit}");
        }
        assert!(matches!(within(Some(11), 1, &config()), Err(Error::Descriptors { limit: 11 })));
    }

    #[test]
    fn no_more_sessions_are_let_in_than_there_is_room_for_whatever_was_asked() {
        for (asked, sessions) in [(None, 43), (Some(7), 7), (Some(43), 43), (Some(1_000), 43)] {
            let config = Config { max_sessions: asked, ..config() };
            let limits = within(Some(100), 1, &config).unwrap();
            assert_eq!((limits.sessions, limits.room), (sessions, 43), "{asked:?}");
        }
    }

    #[test]
    fn a_listener_takes_a_descriptor() {
        let mut config = config();
        config.routes = vec![config.routes[0].clone(); 101];
        let sessions = |config: &Config| within(Some(1_110), 1, config).unwrap().sessions;
        assert_eq!(sessions(&config), 1_000 / 2 - 31);
        config.routes.truncate(1);
        assert_eq!(sessions(&config), 1_100 / 2 - 32);
    }

    #[test]
    fn descriptors_that_others_need_are_not_for_sessions() {
        let config = Config { descriptors_reserved: 16, ..config() };
        let sessions = |config: &Config| within(Some(2_000), 1, config).unwrap().sessions;
        assert_eq!(sessions(&config), sessions(&self::config()) - 8);
    }

    #[test]
    fn the_worst_case_is_a_buffer_for_each_direction_of_each_session() {
        assert_eq!(worst_case(&config(), Limits { sessions: 16, room: 16, pipes: 3 }), 2 << 20);
    }

    #[test]
    fn a_billion_descriptors_are_a_million_sessions() {
        for limit in [Some(1_073_741_816), None] {
            assert_eq!(within(limit, 20, &config()).unwrap().sessions, 1_048_576);
        }
    }

    #[test]
    fn descriptors_are_left_for_lookups_only_where_there_is_a_name() {
        let mut config = config();
        assert_eq!(reserved(&config.routes), 1 + 8);
        config.routes.push(config.routes[0].clone());
        config.routes[1].to.push(Host::name("db.internal", 5432));
        assert_eq!(reserved(&config.routes), 2 + 32);
    }

    #[test]
    fn what_a_reload_takes_is_taken_from_the_sessions_there_is_room_for() {
        let limits = Limits { sessions: 90, room: 100, pipes: 0 };
        for (taken, sessions) in [(0, 90), (20, 90), (21, 89), (22, 89), (198, 1), (1_000, 1)] {
            assert_eq!(limits.sessions_without(taken), sessions, "{taken}");
        }
    }

    #[test]
    fn the_worst_case_of_one_session_is_not_said_to_be_nothing() {
        let worst = worst_case(&config(), Limits { sessions: 1, room: 1, pipes: 0 });
        assert_eq!((worst, mebibytes(worst)), (128 << 10, 1));
        assert_eq!([0, 1 << 20, (1 << 20) + 1].map(mebibytes), [0, 1, 2]);
    }

    #[test]
    fn pipes_take_nothing_where_bytes_are_copied() {
        let config = Config { splice: Splice::Off, ..config() };
        assert_eq!(within(Some(1_010), 1, &config).unwrap(), Limits { sessions: 500, room: 500, pipes: 0 });
    }
}
