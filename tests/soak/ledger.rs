//! What became of both ends of every session, and whether the two stories fit the plan and each other.
//!
//! Each end tells what it saw; who was killed is told by whoever killed it. Only when both are known is a session
//! judged, so that a reset always has somebody who caused it, and a FIN somebody who sent it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::plan::{End, Plan, Script};

/// An end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Client,
    Upstream,
}

impl Who {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// How a stream was heard to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Fin,
    Reset,
}

/// What became of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It compared so many bytes and heard how they ended. `refused`: before that, it could not write all it had to
    /// say.
    Stayed { count: usize, heard: Heard, refused: bool },
    /// It reset or closed the connection, as planned, after it had compared so many bytes.
    Left { count: usize },
    /// Its process was killed in the middle. `finishing`: its FIN may have been out by then.
    Killed { finishing: bool },
}

/// What an end tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// It is about to connect; or, as the upstream, it has read who is there.
    Begun,
    /// From now on, its stream may end with a FIN.
    Finishing,
    /// It has written all it had to say.
    Said,
    /// It has compared all that the other end had to say.
    Through,
    /// It read no more while there was something to read; was the other end stuck in a write at the end of that?
    Stalled {
        stuck: bool,
    },
    Over(Fate),
    /// A byte or an error that no plan explains.
    Wrong(String),
}

/// To whom the ends tell it.
pub(crate) trait Witness: Sync {
    fn tell(&self, seed: u64, who: Who, news: News);

    /// Waits at most so long for that end to have compared everything it is sent, or to be gone. If that came about: is
    /// it stuck in a write?
    fn await_through(&self, seed: u64, who: Who, wait: Duration) -> Option<bool>;
}

/// The sessions that are not over, and the count of those that are.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    open: Mutex<HashMap<u64, Entry>>,
    changed: Condvar,
    begun: AtomicU64,
    judged: AtomicU64,
    one_sided: AtomicU64,
    bytes: AtomicU64,
    fins: AtomicU64,
    resets: AtomicU64,
    stalls: AtomicU64,
    stuck: AtomicU64,
    killed: [AtomicU64; 2],
    wrong: Mutex<Option<String>>,
}

/// By [`Who`]: the client first.
#[derive(Debug, Default)]
struct Entry {
    fates: [Option<Fate>; 2],
    through: [bool; 2],
    said: [bool; 2],
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Ledger {
    /// Connections whose two ends compared every byte and heard the end.
    pub(crate) fn judged(&self) -> u64 {
        self.judged.load(Ordering::Relaxed)
    }

    /// Bytes compared, at either end.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Has it seen each kind of trouble, in the middle of a session?
    pub(crate) fn is_varied(&self) -> bool {
        let [client, upstream] = &self.killed;
        let kinds = [&self.fins, &self.resets, &self.one_sided, &self.stuck, client, upstream];
        kinds.iter().all(|kind| kind.load(Ordering::Relaxed) > 0)
    }

    /// The first thing that is wrong, if any is.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.wrong.lock().unwrap().clone()
    }

    /// The first thing that is wrong ends the soak.
    pub(crate) fn panic_if_wrong(&self) {
        assert_eq!(self.wrong().as_deref().unwrap_or("nothing"), "nothing", "is wrong");
    }

    /// That is wrong, whosever session it is.
    pub(crate) fn accuse(&self, what: String) {
        self.wrong.lock().unwrap().get_or_insert(what);
    }

    /// When nobody plays any more: sessions of which one end has never been heard of. That has to be the upstream, and
    /// the client left or was killed before it could say who it is; or the upstream was killed before it could ask,
    /// which the client knows as a reset (`unnamed` at most).
    pub(crate) fn close(&self, unnamed: usize) -> Result<(), String> {
        let (open, mut resets) = (self.open.lock().unwrap(), 0);
        for (seed, entry) in open.iter() {
            match entry.fates {
                [Some(Fate::Left { count: 0 } | Fate::Killed { .. }), None] => {}
                [Some(Fate::Stayed { count: 0, heard: Heard::Reset, .. }), None] if resets < unnamed => resets += 1,
                [client, upstream] => {
                    let plan = Plan::new(*seed);
                    return Err(format!("client: {client:?}, upstream: {upstream:?}, and that is all\n{plan:#?}"));
                }
            }
        }
        Ok(())
    }

    fn over(&self, seed: u64, who: Who, fate: Fate) {
        match fate {
            Fate::Stayed { count, .. } | Fate::Left { count } => add(&self.bytes, count),
            Fate::Killed { .. } => add(&self.killed[who as usize], 1),
        }
        let fates = {
            let mut open = self.open.lock().unwrap();
            let entry = open.entry(seed).or_default();
            if entry.fates[who as usize].replace(fate).is_some() {
                self.accuse(format!("seed {seed:#x}: two {who:?}s"));
            }
            let [Some(client), Some(upstream)] = entry.fates else { return };
            open.remove(&seed);
            [client, upstream]
        };
        let plan = Plan::new(seed);
        if let Err(what) = judge(&plan, fates) {
            return self.accuse(format!("seed {seed:#x}: {what}; {fates:?}\n{plan:#?}"));
        }
        let ends = fates.iter().filter_map(|fate| match fate {
            Fate::Stayed { heard, .. } => Some(heard),
            Fate::Left { .. } | Fate::Killed { .. } => None,
        });
        let stayed = ends.clone().count();
        let fins = ends.filter(|heard| **heard == Heard::Fin).count();
        add(&self.fins, fins);
        add(&self.resets, stayed - fins);
        match stayed {
            0 => {}
            1 => add(&self.one_sided, 1),
            _ => add(&self.judged, 1),
        }
    }

    fn note(&self, seed: u64, note: impl FnOnce(&mut Entry)) {
        note(self.open.lock().unwrap().entry(seed).or_default());
        self.changed.notify_all();
    }
}

impl Witness for Ledger {
    fn tell(&self, seed: u64, who: Who, news: News) {
        match news {
            News::Begun => add(&self.begun, usize::from(who == Who::Client)),
            News::Finishing => {}
            News::Said => self.note(seed, |entry| entry.said[who as usize] = true),
            News::Through => self.note(seed, |entry| entry.through[who as usize] = true),
            News::Stalled { stuck } => {
                add(&self.stalls, 1);
                add(&self.stuck, usize::from(stuck));
            }
            News::Over(fate) => self.over(seed, who, fate),
            News::Wrong(what) => self.accuse(format!("seed {seed:#x}, {who:?}: {what}\n{:#?}", Plan::new(seed))),
        }
    }

    fn await_through(&self, seed: u64, who: Who, wait: Duration) -> Option<bool> {
        let is_through = |entry: &Entry| entry.through[who as usize] || entry.fates[who as usize].is_some();
        let open = self.open.lock().unwrap();
        let (open, _) =
            self.changed.wait_timeout_while(open, wait, |open| !open.get(&seed).is_some_and(is_through)).unwrap();
        let entry = open.get(&seed).filter(|entry| is_through(entry))?;
        Some(!entry.said[who as usize] && entry.fates[who as usize].is_none())
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [clients, upstreams] = self.killed.each_ref().map(count);
        let (gb, begun) = (count(&self.bytes) as f64 / 1e9, count(&self.begun));
        write!(f, "judged {} of {begun} connections at both ends, ", count(&self.judged))?;
        write!(f, "{} more at the end that neither left nor died; {gb:.1} GB; ", count(&self.one_sided))?;
        write!(f, "{} FINs and {} resets heard; ", count(&self.fins), count(&self.resets))?;
        write!(f, "{clients} clients and {upstreams} upstreams killed in the middle; ")?;
        write!(f, "{} stalls, {} until the writer was stuck", count(&self.stalls), count(&self.stuck))
    }
}

/// Do the fates of the two ends fit the plan and each other? Says what does not.
pub(crate) fn judge(plan: &Plan, [client, upstream]: [Fate; 2]) -> Result<(), String> {
    let hears = |who, fate, script, speaker| hears(plan, who, fate, script, speaker);
    hears(Who::Client, client, &plan.upstream, upstream)?;
    hears(Who::Upstream, upstream, &plan.client, client)
}

/// What that end heard: can it be, when the other end was to say `script`, and this became of it?
fn hears(plan: &Plan, who: Who, fate: Fate, script: &Script, speaker: Fate) -> Result<(), String> {
    let (count, heard, refused) = match fate {
        Fate::Stayed { count, heard, refused } => (count, Some(heard), refused),
        Fate::Left { count } => (count, None, false),
        Fate::Killed { .. } => return Ok(()),
    };
    let (length, stayed) = (script.length, matches!(speaker, Fate::Stayed { .. }));
    if count > length {
        return Err(format!("the {who:?} heard {count} of {length} bytes"));
    }
    if refused && stayed {
        return Err(format!("the {who:?} could not write, and the other end never left"));
    }
    match (heard, speaker) {
        (None, _) => Ok(()),
        (Some(Heard::Reset), Fate::Stayed { .. }) => {
            Err(format!("the {who:?} heard a reset, and nobody reset anything"))
        }
        (Some(Heard::Reset), Fate::Left { .. } | Fate::Killed { .. }) => Ok(()),
        // A process that dies with its sockets unarmed says goodbye with each: the relay cannot know better (K4).
        (Some(Heard::Fin), Fate::Killed { .. }) if !plan.is_armed(who.other()) => Ok(()),
        (Some(Heard::Fin), Fate::Killed { finishing: false }) => {
            Err(format!("the {who:?} heard a FIN after {count} bytes from a process that was killed"))
        }
        (Some(Heard::Fin), _) if script.end == End::Reset => Err(format!("the {who:?} heard a FIN that nobody sent")),
        (Some(Heard::Fin), _) if count < length => {
            Err(format!("the {who:?} heard a FIN after {count} of {length} bytes"))
        }
        (Some(Heard::Fin), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan whose two ends end so.
    fn plan(client: End, upstream: End) -> Plan {
        let fits = |plan: &Plan| plan.client.end == client && plan.upstream.end == upstream && plan.upstream.length > 9;
        (0..).map(Plan::new).find(fits).unwrap()
    }

    fn heard(count: usize, heard: Heard) -> Fate {
        Fate::Stayed { count, heard, refused: false }
    }

    #[test]
    fn a_clean_session_ends_with_every_byte_and_a_fin_at_both_ends() {
        let plan = plan(End::Fin, End::Fin);
        let (up, down) = (plan.client.length, plan.upstream.length);
        let good = [heard(down, Heard::Fin), heard(up, Heard::Fin)];
        assert_eq!(judge(&plan, good), Ok(()));
        for client in [
            heard(down - 1, Heard::Fin),
            heard(down + 1, Heard::Fin),
            heard(down, Heard::Reset),
            Fate::Stayed { count: down, heard: Heard::Fin, refused: true },
        ] {
            assert!(judge(&plan, [client, good[1]]).is_err(), "{client:?}");
        }
    }

    #[test]
    fn a_reset_is_never_heard_as_a_fin() {
        let plan = plan(End::Fin, End::Reset);
        let all = plan.upstream.length;
        let gone = Fate::Left { count: 0 };
        assert_eq!(judge(&plan, [heard(all / 2, Heard::Reset), gone]), Ok(()));
        assert!(judge(&plan, [heard(all, Heard::Fin), gone]).is_err());
    }

    #[test]
    fn a_killed_upstream_is_heard_as_a_reset() {
        let plan = plan(End::Fin, End::Fin);
        let all = plan.upstream.length;
        let killed = |finishing| Fate::Killed { finishing };
        assert_eq!(judge(&plan, [heard(all / 2, Heard::Reset), killed(false)]), Ok(()));
        assert!(judge(&plan, [heard(all, Heard::Fin), killed(false)]).is_err());
        assert!(judge(&plan, [heard(all / 2, Heard::Fin), killed(true)]).is_err());
        assert_eq!(judge(&plan, [heard(all, Heard::Fin), killed(true)]), Ok(()));
    }

    #[test]
    fn who_closes_over_unread_input_may_be_heard_either_way_but_a_fin_is_true() {
        let plan = plan(End::Fin, End::CloseUnread);
        let (all, gone) = (plan.upstream.length, Fate::Left { count: 0 });
        assert_eq!(judge(&plan, [heard(all, Heard::Fin), gone]), Ok(()));
        assert_eq!(judge(&plan, [heard(0, Heard::Reset), gone]), Ok(()));
        assert!(judge(&plan, [heard(all - 1, Heard::Fin), gone]).is_err());
    }

    #[test]
    fn a_session_is_judged_when_both_ends_have_told_and_no_end_may_be_missing() {
        let plan = plan(End::Fin, End::Fin);
        let (ledger, seed) = (Ledger::default(), plan.seed);
        ledger.tell(seed, Who::Client, News::Over(heard(plan.upstream.length, Heard::Fin)));
        assert_eq!(ledger.judged(), 0);
        assert!(ledger.close(1).is_err());
        ledger.tell(seed, Who::Upstream, News::Over(heard(plan.client.length, Heard::Fin)));
        assert_eq!((ledger.judged(), ledger.close(0), ledger.wrong()), (1, Ok(()), None));
        // A reset at once and no upstream: only if one was killed.
        ledger.tell(seed, Who::Client, News::Over(heard(0, Heard::Reset)));
        assert!(ledger.close(0).is_err());
        assert_eq!(ledger.close(1), Ok(()));
    }
}
