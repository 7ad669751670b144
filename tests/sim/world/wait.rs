//! The relay waits: how long that takes, and which events it brings.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{Hints, Message, Ready, Reply, Sleep, Time};

use super::World;
use crate::faults::Call;
use crate::plan::addresses;

/// Waits that ended with nothing but an alarm and nothing else to come: after so many the run is taken to be at rest.
const ALARMS_AT_REST: u32 = 400;

impl World {
    /// The relay waits.
    pub(crate) fn wait(
        &mut self,
        sleep: Sleep,
        ready: &mut Vec<Ready>,
        messages: &mut Vec<Message>,
    ) -> io::Result<Time> {
        let until = match sleep {
            Sleep::Not => Some(Time::START),
            Sleep::Until(moment) => Some(moment),
            Sleep::Forever => None,
        };
        (self.calls_this_turn, self.unix_keys) = (0, 0);
        self.check_answers();
        self.check_hand_over();
        self.kernel.turn = None;
        let fault = self.enter(Call::Wait);
        let asleep = sleep != Sleep::Not;
        if asleep && !self.kernel.has_events() && !self.is_asked() {
            self.check_sleep(until);
        }
        if let Some(error) = fault {
            self.note(Call::Wait, usize::MAX, || format!("wait: {error:?}"));
            let soon = self.kernel.now + Duration::from_nanos(self.rng.u64(0..1000));
            self.run_until(soon);
            self.begin_turn(asleep, 0);
            (self.shadow.called, self.shadow.alarm) = (None, true);
            self.shadow.sessions.iter_mut().for_each(|it| it.blocked = [false; 2]);
            return if error == Errno::INTR { Ok(self.kernel.now) } else { Err(error.into()) };
        }
        let noise = self.plan.noise;
        let early = asleep && self.chance(noise.spurious) && self.add_spurious(ready);
        if asleep && !early {
            self.sleep(until);
        } else {
            let soon = self.kernel.now + Duration::from_nanos(self.rng.u64(0..2000));
            self.run_until(soon);
        }
        if !noise.grain.is_zero() {
            let grain = u64::try_from(noise.grain.as_nanos()).unwrap();
            let next = Time::from_nanos(self.kernel.now.as_nanos().next_multiple_of(grain));
            self.run_until(next);
        }
        let delay = self.lateness();
        // What happens meanwhile is in this batch, or comes too late for it.
        let (before, after) = if self.rng.bool() { (delay, Duration::ZERO) } else { (Duration::ZERO, delay) };
        self.run_until(self.kernel.now + before);
        let most = if noise.batch >= 1024 { 1024 } else { self.rng.usize(1..=noise.batch) };
        self.kernel.collect(most, ready);
        self.run_until(self.kernel.now + after);
        let real = ready.len();
        if self.chance(noise.spurious) {
            self.add_spurious(ready);
        }
        if self.chance(noise.stale) && !self.stale.is_empty() {
            let token = self.stale[self.rng.usize(..self.stale.len())];
            // Were it believed of whoever has the slot now, it would be a lie.
            let hints = Hints::READABLE | Hints::WRITABLE | Hints::READ_TO_EAGAIN | Hints::FIN;
            ready.push(Ready { token, hints });
        }
        if self.chance(noise.shuffle) {
            self.rng.shuffle(ready);
        }
        let stop = std::mem::take(&mut self.stop_pending);
        let stop_call = std::mem::take(&mut self.stop_call_pending);
        let stop_now = std::mem::take(&mut self.stop_now_pending);
        let reload = self.reloads_pending.pop_front();
        self.begin_turn(asleep, real);
        let alarm = until.is_some_and(|until| self.kernel.now >= until);
        self.shadow.alarm = alarm;
        let is_told = stop
            || stop_call
            || stop_now
            || reload.is_some()
            || !self.answers.is_empty()
            || !self.queries_pending.is_empty()
            || self.hand_overs.is_asked();
        self.shadow.called = (asleep && !alarm && !is_told).then(Vec::new);
        if alarm {
            self.shadow.sessions.iter_mut().for_each(|it| it.blocked = [false; 2]);
        }
        ready.iter().for_each(|one| self.shadow.saw(*one));
        let now = self.kernel.now;
        self.trace.mix(&[
            now.as_nanos(),
            ready.len() as u64,
            u64::from(stop) | u64::from(stop_now) << 1 | u64::from(stop_call) << 2 | u64::from(reload.is_some()) << 3,
        ]);
        self.trace.note(now, || {
            let events: Vec<_> = ready.iter().map(|one| format!("{:?} {:?}", one.token, one.hints)).collect();
            format!("-- wait({}) -> {}{}", until_text(until), events.join(", "), if stop { " STOP" } else { "" })
                + if stop_call { " DRAIN" } else { "" }
                + if stop_now { " NOW" } else { "" }
                + if reload.is_some() { " RELOAD" } else { "" }
        });
        self.tell_queries(messages);
        self.tell_hand_overs(messages);
        for (name, answer) in self.take_answers() {
            self.doomed |= self.shadow.answered(name, &answer);
            messages.push(Message::Resolved { name, answer });
        }
        if stop || stop_call {
            self.shadow.stopped(now, stop, &self.kernel.queues());
        }
        if stop_call {
            messages.push(Message::Stop);
        }
        if stop {
            messages.push(Message::Signal);
        }
        if stop_now {
            self.shadow.stopped_now();
            messages.push(Message::StopNow);
        }
        if let Some(number) = reload {
            let reload = self.plan.reloads[number].clone();
            let (reply, answer) = Reply::new();
            // The buffers of a simulation are smaller than a configuration may say.
            let mut config = reload.config.clone();
            (config.buffer_size, config.splice) = (64 << 10, self.plan.config.splice);
            self.unix_keys = addresses(&config);
            messages.push(Message::Reload(Box::new(config), reply));
            self.answer = Some(answer);
            self.shadow.reload(reload, self.kernel.queues());
        }
        Ok(now)
    }

    /// Is there a message that was not delivered?
    fn is_asked(&self) -> bool {
        let stop = self.stop_pending || self.stop_call_pending || self.stop_now_pending;
        let asks = !self.queries_pending.is_empty() || !self.reloads_pending.is_empty();
        stop || asks || !self.answers.is_empty() || self.hand_overs.is_asked()
    }

    /// How much too late a wait ends.
    fn lateness(&mut self) -> Duration {
        let noise = self.plan.noise;
        let mut delay = Duration::ZERO;
        if self.chance(noise.late) {
            delay += Duration::from_nanos(self.rng.u64(0..5_000_000));
        }
        if noise.stall > 0 && self.rng.u16(..) < u16::from(noise.stall) {
            delay += if self.rng.bool() { Duration::from_secs(30) } else { Duration::from_millis(u64::from(u32::MAX)) };
        }
        delay
    }

    /// Nothing is to be done until something happens, or until the alarm.
    fn sleep(&mut self, until: Option<Time>) {
        loop {
            if self.kernel.has_events() || self.is_asked() {
                self.quiet_alarms = 0;
                return;
            }
            match (self.kernel.next(), until) {
                (Some(next), until) if until.is_none_or(|until| next <= until) => {
                    if let Some(due) = self.kernel.pop(next) {
                        self.carry_out(due);
                    }
                }
                (next, Some(until)) => {
                    // A wait ends a little late, never early.
                    let late = Duration::from_nanos(self.rng.u64(0..1_000_000));
                    self.run_until(until + late);
                    self.quiet_alarms = if next.is_none() { self.quiet_alarms + 1 } else { 0 };
                    self.at_rest |= self.quiet_alarms > ALARMS_AT_REST;
                    return;
                }
                (_, None) => {
                    self.at_rest = true;
                    return;
                }
            }
        }
    }

    fn add_spurious(&mut self, ready: &mut Vec<Ready>) -> bool {
        if self.rng.u8(..8) == 0 {
            // Also one that is closed: an event may come too late.
            let listeners = self.kernel.listeners.len();
            let index = if listeners > 1 { self.rng.usize(..listeners) } else { 0 };
            ready.push(Ready { token: self.kernel.listeners[index].token, hints: Hints::READABLE });
            return true;
        }
        let watched = self.kernel.conns.iter().filter_map(|conn| conn.watch.token);
        let Some(token) = self.rng.choice(watched.collect::<Vec<_>>()) else {
            return false;
        };
        let hints = match self.rng.u8(..8) {
            0 => Hints::READABLE | Hints::WRITABLE | Hints::READ_TO_EAGAIN | Hints::ERROR,
            1 => Hints::ERROR,
            2 => Hints::READ_TO_EAGAIN,
            3 | 4 => Hints::READABLE,
            5 | 6 => Hints::WRITABLE,
            _ => Hints::READABLE | Hints::WRITABLE,
        };
        ready.push(Ready { token, hints });
        true
    }
}

fn until_text(until: Option<Time>) -> String {
    match until {
        None => "for ever".to_owned(),
        Some(Time::START) => "not at all".to_owned(),
        Some(until) => format!("until {:.6}", until.as_nanos() as f64 / 1e9),
    }
}
