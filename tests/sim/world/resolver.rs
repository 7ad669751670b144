//! The resolver: it answers as the plan says, each question once, or never.

use std::net::SocketAddr;

use tproxy::net::{Answer, NameId};

use super::World;
use crate::kernel::Due;
use crate::plan::{Lookup, Says, upstream};

impl World {
    /// The relay asks.
    pub(crate) fn resolve(&mut self, name: NameId, host: &str) {
        self.trace.note(self.kernel.now, || format!("resolve {host} as {name:?}"));
        self.shadow.asks(name, host);
        let Some(place) = self.plan.names.iter().position(|one| one.host == host) else {
            return self.shadow.violation(format!("{host} is no name of a route"));
        };
        let number = self.questions.entry(host.to_owned()).or_default();
        let answers = &self.plan.names[place].answers;
        let index = (*number).min(answers.len() - 1);
        *number += 1;
        let Lookup { after, says } = &answers[index];
        if *says != Says::Nothing {
            self.kernel.after(*after, Due::Resolved { name, place, index });
        }
    }

    /// Its answer is there.
    pub(super) fn answer(&mut self, name: NameId, place: usize, index: usize) {
        let port_0 = |mut address: SocketAddr| {
            address.set_port(0);
            address
        };
        let answer = match &self.plan.names[place].answers[index].says {
            Says::Upstreams(numbers) => Ok(numbers.iter().map(|number| port_0(upstream(*number))).collect()),
            Says::TooMany => Ok((1..=300_u16).map(|number| port_0(far(number))).collect()),
            Says::Ourselves(number) => Ok(vec![SocketAddr::from(([10, 0, 0, 1], 0)), port_0(upstream(*number))]),
            Says::Error => Err("the name does not exist".to_owned()),
            Says::Nothing => return,
        };
        self.trace.note(self.kernel.now, || format!("  {name:?} is {answer:?}"));
        self.answers.push((name, answer));
    }

    /// Answers that are to be delivered now, in any order.
    pub(super) fn take_answers(&mut self) -> Vec<(NameId, Answer)> {
        let mut answers = std::mem::take(&mut self.answers);
        if self.chance(self.plan.noise.shuffle) {
            self.rng.shuffle(&mut answers);
        }
        answers
    }
}

/// One of many addresses.
fn far(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 8, high, low], 80))
}
