//! What the log says beside the sessions' records: each thing once, and only what is true.

use std::net::SocketAddr;

use crate::world::World;

impl World {
    /// A shortage is told when it begins and when it is over, and not each time it is met. So is the limit, when it
    /// begins.
    pub(crate) fn check_line(&mut self, line: &str) {
        self.trace.note(self.kernel.now, || format!("log: {line}"));
        let (about, line) = match line.strip_prefix("route=").and_then(|line| line.split_once(": ")) {
            Some((name, line)) => (Some(name), line),
            None => (None, line),
        };
        if line.starts_with("at the limit") && !self.is_limit_news(about) {
            self.violation(format!("that is no news: {line}"));
        }
        if self.check_left_line(line) || self.check_open_line(line) || self.shadow.check_source_line(line) {
            return;
        }
        if self.shadow.check_refusal_line(about, line)
            || self.shadow.check_health_line(line)
            || self.shadow.check_name_line(line)
        {
            return;
        }
        if line.starts_with("splice does not work here") {
            // Once in the life of a relay.
            if !self.shadow.splice_failed || std::mem::replace(&mut self.shadow.splice_told, true) {
                self.violation(format!("said twice, or not true: {line}"));
            }
            return;
        }
        if line.starts_with("connect: ") && line.contains("source port") {
            let begins = line.contains("is left");
            let wrong = begins == self.shadow.ports_short || (!begins && self.shadow.portless().next().is_some());
            self.shadow.ports_short = begins;
            let named = |address: &SocketAddr| line.contains(&format!(" left to {address}; "));
            if begins && about.is_some() != self.plan.names_routes() {
                self.violation(format!("its route should be named, or should not be: {line}"));
            }
            if begins && !self.shadow.portless_addresses.iter().any(named) {
                self.violation(format!("there was a port to that address: {line}"));
            }
            if wrong || (begins && !self.shadow.sessions.iter().any(|it| it.lacked_port)) {
                self.violation(format!("said twice, or not true: {line}"));
            }
            return;
        }
        let begins = line.contains("ulimit") || line.contains("pausing") || line.starts_with("connect: ");
        let over = line.contains("resumed");
        if line.contains("pausing") && !self.shadow.short_now {
            self.violation(format!("nothing is short: {line}"));
        }
        if (begins || over) && self.shadow.short == begins {
            self.violation(format!("said twice: {line}"));
        }
        self.shadow.short = self.shadow.short && !over || begins;
    }

    /// A drain that has lasted for a second says who is left, once, and ten of them at most.
    fn check_left_line(&mut self, line: &str) -> bool {
        if let Some(rest) = line.strip_prefix("still draining: ") {
            let numbers: Vec<usize> = rest.split(' ').filter_map(|word| word.parse().ok()).collect();
            let (live, ended) = (self.shadow.live.len(), self.shadow.ended_this_turn);
            let [said, rows] = numbers[..] else { panic!("{line}") };
            let early = self.shadow.left_due().is_none_or(|due| self.shadow.now < due);
            let is_wrong = early || !(live..=live + ended).contains(&said) || rows != said.min(10);
            if is_wrong || self.left_said.replace(rows).is_some() {
                self.violation(format!("said twice, or not true: {line}"));
            }
            return true;
        }
        if line.starts_with("live ") {
            let is_announced = self.left_said.as_mut().is_some_and(|left| {
                let is_left = *left > 0;
                *left = left.saturating_sub(1);
                is_left
            });
            if !is_announced || !self.shadow.is_true_of_a_session(line) {
                self.violation(format!("not asked for, or not true: {line}"));
            }
            return true;
        }
        false
    }

    /// All lines of this turn are read. Is one missing?
    pub(crate) fn check_silence(&mut self) {
        if std::mem::take(&mut self.shadow.full_news) && !self.shadow.fatal {
            self.violation("the limit was met, and no line says so");
        }
        if self.left_said.is_some_and(|left| left > 0) {
            self.violation("fewer are named than are said to be left");
        }
        let is_due = self.shadow.left_due().is_some_and(|due| self.shadow.now >= due);
        if is_due && !std::mem::replace(&mut self.left_passed, true) {
            let is_left = !self.shadow.live.is_empty();
            if is_left && self.left_said.is_none() {
                self.violation("the drain lasts, and nobody is said to be left");
            }
        }
        if let Some((_, line)) = self.shadow.refusals_to_tell.pop() {
            self.violation(format!("no line says: {line}"));
        }
        if let Some(refused) = self.shadow.refused.pop() {
            self.violation(format!("no record, or it is not reset: {refused:?}"));
        }
        if self.shadow.splice_news && !self.shadow.splice_told {
            self.violation("splice does not work here, and no line says so");
        }
    }
}
