//! What the resolver said of each name, and when to ask it again. Knows no socket and no log.
//!
//! ```text
//!   asked ──► answered: used for the time to live ──► asked again when a session wants it
//!     │                                                  │  sessions wait for 250 ms, then use the last good answer
//!     └────► failed: not asked for 1 s, doubling to the time to live; the last good answer stays
//! ```
//! A name is asked for once at a time, however many routes list it and with whatever ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ranges::ADDRESSES_MAX;
use crate::net::{Answer, NameId, Time};

/// So long after a question, sessions wait for its answer although an older one is known.
const PATIENCE: Duration = Duration::from_millis(250);

/// A name whose addresses all failed to connect is asked for again, but not more often than this. It is also the first
/// pause after a failed lookup.
const PAUSE: Duration = Duration::from_secs(1);

/// The names that routes list.
#[derive(Debug, Default)]
pub(in crate::reactor) struct Names {
    table: BTreeMap<NameId, Name>,
    next: u32,
}

#[derive(Debug)]
struct Name {
    host: Arc<str>,
    /// Upstreams that list it.
    listed: u32,
    /// The last good answer; empty if there was none.
    addresses: Vec<SocketAddr>,
    /// When the question was asked that is not answered yet.
    asked: Option<Time>,
    /// When it was last asked.
    last_asked: Time,
    /// It is not asked for before that.
    expires: Time,
    /// Lookups that failed in a row.
    failures: u32,
}

/// What an answer changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::reactor) struct News {
    /// There are other addresses than before.
    pub(in crate::reactor) changed: bool,
    /// The lookup failed, and the one before did not.
    pub(in crate::reactor) fails: bool,
    /// The lookup succeeded, and the one before had failed.
    pub(in crate::reactor) succeeds: bool,
}

impl Names {
    /// An upstream lists this name. Is it new here?
    pub(super) fn list(&mut self, host: &Arc<str>) -> (NameId, bool) {
        if let Some((id, name)) = self.table.iter_mut().find(|(_, name)| name.host == *host) {
            name.listed += 1;
            return (*id, false);
        }
        let id = NameId(self.next);
        self.next = self.next.wrapping_add(1);
        let name = Name {
            host: Arc::clone(host),
            listed: 1,
            addresses: Vec::new(),
            asked: None,
            last_asked: Time::START,
            expires: Time::START,
            failures: 0,
        };
        self.table.insert(id, name);
        (id, true)
    }

    /// An upstream does not list it any more.
    pub(super) fn unlist(&mut self, id: NameId) {
        if let Some(name) = self.table.get_mut(&id) {
            name.listed -= 1;
            if name.listed == 0 {
                self.table.remove(&id);
            }
        }
    }

    /// Is this name listed?
    pub(in crate::reactor) fn host(&self, id: NameId) -> Option<&Arc<str>> {
        self.table.get(&id).map(|name| &name.host)
    }

    /// The addresses of the last good answer.
    pub(super) fn addresses(&self, id: NameId) -> &[SocketAddr] {
        self.table.get(&id).map_or(&[], |name| &name.addresses)
    }

    /// Is there a good answer, however old?
    pub(in crate::reactor) fn is_known(&self, id: NameId) -> bool {
        !self.addresses(id).is_empty()
    }

    /// Names in the table.
    pub(in crate::reactor) fn len(&self) -> usize {
        self.table.len()
    }

    /// A session wants this name. Is it to be asked for? Then it counts as asked.
    pub(in crate::reactor) fn want(&mut self, id: NameId, now: Time) -> bool {
        let Some(name) = self.table.get_mut(&id) else { return false };
        let ask = name.asked.is_none() && now >= name.expires;
        if ask {
            (name.asked, name.last_asked) = (Some(now), now);
        }
        ask
    }

    /// Until when is the answer to an open question worth waiting for? If an older answer or another host is `known`, only
    /// for a short time.
    pub(in crate::reactor) fn awaited(&self, id: NameId, known: bool) -> Option<Time> {
        let asked = self.table.get(&id)?.asked?;
        Some(if known { asked + PATIENCE } else { Time::NEVER })
    }

    /// The resolver has answered. None if nobody lists the name any more.
    pub(in crate::reactor) fn answered(
        &mut self,
        id: NameId,
        answer: Answer,
        ttl: Duration,
        now: Time,
    ) -> Option<News> {
        let name = self.table.get_mut(&id)?;
        name.asked = None;
        match answer {
            Ok(mut addresses) => {
                // One too many, so that the upstream can say so.
                addresses.truncate(ADDRESSES_MAX + 1);
                name.expires = now + ttl;
                let succeeds = std::mem::take(&mut name.failures) > 0;
                let changed = name.addresses != addresses;
                name.addresses = addresses;
                Some(News { changed, fails: false, succeeds })
            }
            Err(_) => {
                let pause = PAUSE.saturating_mul(1_u32.checked_shl(name.failures).unwrap_or(u32::MAX));
                name.expires = now + pause.min(ttl.max(PAUSE));
                name.failures = name.failures.saturating_add(1);
                Some(News { changed: false, fails: name.failures == 1, succeeds: false })
            }
        }
    }

    /// All addresses of its answer failed to connect: it counts as old, but is asked for at most once a second.
    pub(super) fn doubt(&mut self, id: NameId, now: Time) {
        if let Some(name) = self.table.get_mut(&id)
            && name.failures == 0
        {
            name.expires = name.expires.min(now.max(name.last_asked + PAUSE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn at(millis: u64) -> Time {
        Time::START + Duration::from_millis(millis)
    }

    fn answer(last: u8) -> Answer {
        Ok(vec![SocketAddr::from(([10, 0, 0, last], 0))])
    }

    fn error() -> Answer {
        Err("no such host".to_owned())
    }

    fn names() -> (Names, NameId) {
        let mut names = Names::default();
        let (id, new) = names.list(&"db.internal".into());
        assert!(new);
        (names, id)
    }

    #[test]
    fn a_young_answer_is_used_and_an_old_one_only_after_a_while() {
        let (mut names, id) = names();
        assert!(names.want(id, at(0)) && !names.want(id, at(1)), "one question at a time");
        assert_eq!([false, true].map(|known| names.awaited(id, known)), [Some(Time::NEVER), Some(at(250))]);
        let news = names.answered(id, answer(1), TTL, at(5_000)).unwrap();
        assert_eq!(news, News { changed: true, fails: false, succeeds: false });
        assert_eq!((names.want(id, at(9_999)), names.awaited(id, true)), (false, None));
        assert_eq!((names.want(id, at(10_000)), names.awaited(id, true)), (true, Some(at(10_250))));
        assert_eq!(names.addresses(id), answer(1).unwrap());
    }

    #[test]
    fn a_failed_lookup_keeps_the_last_good_answer_and_backs_off() {
        let (mut names, id) = names();
        names.want(id, at(0));
        names.answered(id, answer(1), TTL, at(0));
        let (mut now, mut pauses) = (5_000, Vec::new());
        for failure in 0..5 {
            assert!(names.want(id, at(now)));
            let news = names.answered(id, error(), TTL, at(now)).unwrap();
            assert_eq!(news, News { changed: false, fails: failure == 0, succeeds: false });
            assert_eq!((names.awaited(id, true), names.addresses(id).len()), (None, 1));
            let pause = (1..=60).find(|seconds| names.table[&id].expires == at(now + seconds * 1000)).unwrap();
            pauses.push(pause);
            now += pause * 1000;
        }
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        names.want(id, at(now));
        let news = names.answered(id, answer(1), TTL, at(now)).unwrap();
        assert_eq!(news, News { changed: false, fails: false, succeeds: true });
    }

    #[test]
    fn an_answer_whose_addresses_all_failed_is_asked_for_again_at_most_once_a_second() {
        let (mut names, id) = names();
        names.want(id, at(0));
        names.answered(id, answer(1), TTL, at(10));
        names.doubt(id, at(20));
        assert!(!names.want(id, at(999)) && names.want(id, at(1_000)));
        names.answered(id, answer(1), TTL, at(1_001));
        names.doubt(id, at(3_000));
        assert!(names.want(id, at(3_000)));
        names.answered(id, error(), TTL, at(3_001));
        names.doubt(id, at(3_002));
        assert!(!names.want(id, at(4_000)) && names.want(id, at(4_001)), "the pause after a failure stays");
    }

    #[test]
    fn a_name_is_one_entry_and_its_number_is_not_used_again() {
        let (mut names, id) = names();
        assert_eq!(names.list(&"db.internal".into()), (id, false));
        names.unlist(id);
        assert_eq!((names.host(id).map(|host| &**host), names.len()), (Some("db.internal"), 1));
        names.unlist(id);
        assert_eq!((names.host(id), names.len()), (None, 0));
        let (other, new) = names.list(&"db.internal".into());
        assert!(new && other != id);
        assert_eq!(names.answered(id, answer(1), TTL, at(0)), None);
        assert!(names.addresses(other).is_empty());
    }
}
