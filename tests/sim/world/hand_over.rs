//! Another process is to take the relay's place: it is given the listeners, begins to serve or fails, and says so.

use std::net::SocketAddr;

use tproxy::net::{Handed, Message, Pending, Reply};

use super::World;
use crate::kernel::Due;
use crate::plan::{inet, place};

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct HandOvers {
    /// Those that are to be asked for.
    pending: Vec<usize>,
    /// The other process serves, and the relay is to be told.
    serves: bool,
    told: Option<Told>,
    /// The relay was told in this turn that it serves, and whether that is to be refused.
    serving: Option<(Pending<()>, bool)>,
}

/// The one that was asked for in this turn.
#[derive(Debug)]
struct Told {
    number: usize,
    pending: Pending<Vec<Handed>>,
    /// Where the listeners are that the answer is to have. None: it is to be refused.
    expected: Option<Vec<SocketAddr>>,
}

impl HandOvers {
    /// Is there something that the relay was not told?
    pub(super) fn is_asked(&self) -> bool {
        self.serves || !self.pending.is_empty()
    }
}

impl World {
    /// One is due.
    pub(super) fn note_hand_over(&mut self, due: Due) {
        self.trace.note(self.kernel.now, || format!("{due:?} is asked for"));
        match due {
            Due::HandOver(number) => self.hand_overs.pending.push(number),
            _ => self.hand_overs.serves = true,
        }
    }

    /// Tells the relay: first that another process serves.
    pub(super) fn tell_hand_overs(&mut self, messages: &mut Vec<Message>) {
        if std::mem::take(&mut self.hand_overs.serves) {
            let (reply, pending) = Reply::new();
            messages.push(Message::HandedOver(reply));
            let stops = self.shadow.asked_at.is_some() || self.shadow.stop_turn.is_some();
            self.hand_overs.serving = Some((pending, stops));
            if !stops {
                self.shadow.handed_over(self.kernel.now);
            }
        }
        // One at a time: who asks waits for the answer.
        if self.hand_overs.pending.is_empty() {
            return;
        }
        let number = self.hand_overs.pending.remove(0);
        let (reply, pending) = Reply::new();
        messages.push(Message::HandOver(reply));
        let refused = self.shadow.asked_at.is_some() || self.shadow.stop_turn.is_some();
        let open = self.shadow.doors.iter().filter(|door| door.open).map(|door| place(door.place));
        let expected = (!refused).then(|| open.collect());
        self.hand_overs.told = Some(Told { number, pending, expected });
    }

    /// The turn is over: it was answered.
    pub(super) fn check_hand_over(&mut self) {
        if let Some((pending, refused)) = self.hand_overs.serving.take() {
            match pending.answer() {
                Some(answer) if answer.is_err() == refused => {}
                _ if self.doomed => {}
                other => {
                    self.violation(format!("another process serves, and the answer is {other:?} (refused: {refused})"))
                }
            }
        }
        let Some(Told { number, pending, expected }) = self.hand_overs.told.take() else { return };
        match (pending.answer(), expected) {
            (Some(Ok(handed)), Some(mut expected)) => {
                let mut given: Vec<_> = handed.iter().map(|it| inet(&it.at)).collect();
                given.sort_unstable();
                expected.sort_unstable();
                if given != expected {
                    self.violation(format!("handed over are {given:?}, and the relay listens at {expected:?}"));
                }
                if let Some(after) = self.plan.hand_overs[number].serves_after {
                    self.kernel.at(self.kernel.now + after, Due::HandedOver);
                }
            }
            (Some(Err(_)), None) => {}
            (_, _) if self.doomed => {}
            (other, expected) => self.violation(format!("a hand-over was answered {other:?}, not {expected:?}")),
        }
    }
}
