//! What the control thread and the resolver say.

use super::{Net, Reactor};
use crate::error::Error;
use crate::net::Message;

impl<N: Net> Reactor<N> {
    /// Does what the messages of this turn say. There are few in the life of a relay, and much code behind them.
    #[inline(never)]
    pub(super) fn obey(&mut self) -> Result<(), Error> {
        for message in std::mem::take(&mut self.messages) {
            match message {
                Message::Stop => self.stop(),
                Message::Signal => self.signal(),
                Message::StopNow => self.stop_now(),
                Message::Reload(config, reply) => self.obey_reload(*config, reply),
                Message::HandOver(reply) => self.hand_over(reply),
                Message::HandedOver(reply) => self.handed_over(reply),
                Message::Query(query) => self.answer(query),
                Message::Resolved { name, answer } => self.resolved(name, answer)?,
            }
        }
        Ok(())
    }
}
