//! Shortages of source ports, each told when it begins and when it is over.
//!
//! A session that finds no port waits (`waiters.rs`). Ports come and go one by one, so a shortage is over only when no
//! session has lacked one for a while.

use std::time::Duration;

use super::alarms::{Alarm, Alarms};
use crate::net::Time;

/// A shortage is over when no session has lacked a port for so long.
const CALM: Duration = Duration::from_secs(10);

/// The shortage of source ports, if there is one.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// When a session last lacked one, while the shortage lasts. Then there is an [`Alarm::Ports`].
    lacked: Option<Time>,
}

impl Ports {
    /// A session lacks one. Does a shortage begin?
    pub(super) fn note_shortage(&mut self, now: Time, alarms: &mut Alarms) -> bool {
        let begins = self.lacked.replace(now).is_none();
        if begins {
            alarms.set(now + CALM, Alarm::Ports);
        }
        begins
    }

    /// The alarm went off. Is the shortage over? Not while a session waits.
    pub(super) fn is_over(&mut self, now: Time, waits: bool, alarms: &mut Alarms) -> bool {
        let lacked = if waits { Some(now) } else { self.lacked };
        self.lacked = lacked.filter(|lacked| now < *lacked + CALM);
        if let Some(lacked) = self.lacked {
            alarms.set(lacked + CALM, Alarm::Ports);
        }
        self.lacked.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_over_when_nobody_has_lacked_a_port_for_a_while() {
        let (mut ports, mut alarms) = (Ports::default(), Alarms::default());
        let at = |seconds| Time::START + Duration::from_secs(seconds);
        assert!(ports.note_shortage(at(0), &mut alarms));
        assert!(!ports.note_shortage(at(4), &mut alarms));
        for (now, waits, next) in [(10, false, Some(14)), (14, true, Some(24)), (24, false, None)] {
            assert!(alarms.due(at(now)).is_some());
            assert_eq!(ports.is_over(at(now), waits, &mut alarms), next.is_none());
            assert_eq!((alarms.next(), alarms.len()), (next.map(at), usize::from(next.is_some())));
        }
        assert!(ports.note_shortage(at(25), &mut alarms));
    }
}
