//! What must hold of listeners and routes: who had connected is served, no listener is passed over, a reload does what
//! the model says or nothing, and the tables are as small as they should be.

use tproxy::net::Closing;
use tproxy::reactor::Gauges;

use crate::plan::{inet, place};
use crate::world::World;

impl World {
    /// A listener goes: it was to close, and the clients in its queue when that began have been let in, unless everything
    /// is given up or a whole backlog was let in.
    pub(crate) fn check_door(&mut self, index: usize, why: Option<Closing>) {
        if self.shadow.fatal || self.doomed {
            return;
        }
        // The drain may begin in this turn.
        let drains = why == Some(Closing::Stopped) && self.shadow.may_drain();
        let expected = self.shadow.closing_reason(index);
        if why != Some(expected) && !(drains && expected == Closing::Removed) {
            self.violation(format!("listener {index} is closed because of {why:?}, and that should be {expected:?}"));
        }
        if self.shadow.handed || self.shadow.is_given_up(self.shadow.now) {
            return;
        }
        let door = &self.shadow.doors[index];
        let Some(_) = door.route else {
            // It was bound for a reload. If that succeeds after all, the model will miss it.
            return;
        };
        if !door.closing {
            return self.violation(format!("listener {index} is closed, and nobody asked for that"));
        }
        let queue = &self.kernel.listeners[index].queue;
        let waiting = queue.iter().filter(|conn| door.came_before.contains(conn)).count();
        if waiting > 0 && !door.is_used_up() {
            self.violation(format!(
                "{waiting} clients had connected before listener {index} was to close, and are not let in"
            ));
        }
    }

    /// A storm on one listener holds up no other: each is asked in its turn.
    pub(crate) fn check_doors(&mut self) {
        let shadow = &self.shadow;
        let full = shadow.live.len() >= shadow.limit || shadow.ended_this_turn > 0;
        let hindered = shadow.hindered || full || shadow.shortage.is_some() || shadow.waits_for_descriptor();
        let due: Vec<_> = (0..shadow.doors.len()).map(|door| shadow.is_due(door)).collect();
        let shadow = &mut self.shadow;
        for (index, (door, due)) in shadow.doors.iter_mut().zip(due).enumerate() {
            let waits = due && !self.kernel.listeners[index].queue.is_empty();
            door.passed_over = if waits && !door.asked && !hindered { door.passed_over + 1 } else { 0 };
        }
        // A turn may let in one client only, and the listeners take turns.
        let most = shadow.doors.iter().filter(|door| door.open).count() + 1;
        if let Some(index) = shadow.doors.iter().position(|door| door.passed_over >= most) {
            self.violation(format!("clients wait at listener {index} turn after turn, and others are let in"));
        }
    }

    /// A listener that is to close does so when its queue was found empty, after a whole backlog, or when everything is
    /// given up.
    pub(crate) fn check_closing(&mut self) {
        let given_up = self.shadow.handed || self.shadow.is_given_up(self.shadow.now);
        let stays = |door: &usize| {
            let it = &self.shadow.doors[*door];
            it.open && (given_up || (it.closing && (!it.announced || it.is_used_up())))
        };
        if let Some(door) = (0..self.shadow.doors.len()).find(stays) {
            self.violation(format!("listener {door} is to close, and still listens"));
        }
        if let Some(door) = self.shadow.doors.iter().position(|door| door.full_news)
            && !self.shadow.fatal
        {
            self.shadow.doors[door].full_news = false;
            self.violation(format!("the route of listener {door} is at its limit, and no line says so"));
        }
    }

    /// Is it news that a limit is met, of the route with this name or of the process?
    pub(crate) fn is_limit_news(&mut self, about: Option<&str>) -> bool {
        let shadow = &mut self.shadow;
        if about.is_none() && std::mem::take(&mut shadow.full_news) {
            return true;
        }
        if about.is_some() != self.plan.names_routes() {
            return false;
        }
        let routes = &shadow.routes;
        let is_meant = |route: Option<usize>| about.is_none_or(|name| route.is_some_and(|it| routes[it].name == name));
        let door = shadow.doors.iter_mut().find(|door| door.full_news && is_meant(door.route));
        door.is_some_and(|door| std::mem::take(&mut door.full_news))
    }

    /// A reload is answered in its turn, as the model says, and told in one line.
    pub(crate) fn check_reload(&mut self, lines: &[String]) {
        let told = lines.iter().filter(|line| line.starts_with("reloaded: ") || line.starts_with("not reloaded"));
        let told: Vec<_> = told.cloned().collect();
        let listening: Vec<_> = lines.iter().filter(|line| line.contains("listening on ")).collect();
        let Some(reload) = self.shadow.reloading.take() else {
            if !told.is_empty() || !listening.is_empty() {
                self.violation(format!("nobody asked for a reload: {told:?} {listening:?}"));
            }
            return;
        };
        let answer = self.answer.take().and_then(|answer| answer.answer());
        let mut wrong = Vec::new();
        match (&answer, reload.refused) {
            (Some(Ok(reloaded)), None) => {
                let counts = [reloaded.kept, reloaded.changed, reloaded.added, reloaded.removed, reloaded.sessions];
                if counts != reload.counts {
                    wrong.push(format!("kept, changed, added, removed, sessions should be {:?}", reload.counts));
                }
                if reloaded.local_addrs.iter().map(inet).ne(reload.addresses()) {
                    wrong.push("these are not the addresses of its routes".to_owned());
                }
                if reloaded.needs_restart != reload.restart {
                    wrong.push(format!("{:?} should need a restart", reload.restart));
                }
                wrong.extend(self.shadow.unasked().map(|host| format!("{host} should be looked up")));
                if told != [reloaded.to_string()] {
                    wrong.push(format!("the line should be {reloaded}"));
                }
                let says = |at: &usize| listening.iter().any(|line| line.contains(&format!("{},", place(*at))));
                if listening.len() != reload.told.len() || !reload.told.iter().all(says) {
                    wrong.push(format!("{:?} should be listened at, said is {listening:?}", reload.told));
                }
            }
            (Some(Err(error)), Some(_)) => {
                if told.len() != 1 || !told[0].ends_with(&error.to_string()) || !listening.is_empty() {
                    wrong.push(format!("the line should say {error}"));
                }
            }
            (_, expected) => wrong.push(format!("the answer should be {expected:?}")),
        }
        for what in wrong {
            self.violation(format!("reload: {what}: {answer:?} {told:?}"));
        }
    }

    /// Routes are kept as long as they are needed, and no longer. (`turns.rs` looks at their upstreams.)
    pub(crate) fn check_routes(&mut self, gauges: Gauges) {
        let shadow = &self.shadow;
        let listeners = shadow.doors.iter().filter(|door| door.open).count();
        let (expected, given) = ([listeners, shadow.routes_alive().len()], [gauges.listeners, gauges.routes]);
        if given != expected {
            self.violation(format!("listeners and routes should be {expected:?}, and are {given:?}"));
        }
    }
}
