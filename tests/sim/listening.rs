//! Listening on the simulated kernel: addresses are places, of which each has one listener at a time.

use std::cell::RefCell;
use std::rc::Rc;

use rustix::io::Errno;
use tproxy::net::{Address, ListenOptions, Token};

use crate::faults::Call;
use crate::plan::{inet, place_of};
use crate::world::World;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct SimListener {
    world: Rc<RefCell<World>>,
    /// Its number in the kernel, which no other listener ever has.
    pub(crate) index: usize,
}

impl SimListener {
    /// Listens at this address.
    pub(crate) fn bind(
        world: &Rc<RefCell<World>>,
        at: &Address,
        how: &ListenOptions,
        token: Token,
    ) -> Result<Self, Errno> {
        let it = &mut *world.borrow_mut();
        let place = place_of(inet(at)).expect("it listens where it is told to");
        // At start nothing is in the way.
        let fault = if it.shadow.turn == 0 { None } else { it.enter(Call::Listen) };
        let is_taken = it.kernel.listener_at(place).is_some() || it.plan.taken == Some(place);
        let result = match fault {
            Some(error) => Err(error),
            None if is_taken => Err(Errno::ADDRINUSE),
            None => Ok(()),
        };
        it.note(Call::Listen, place, || format!("listen at {at} as {token:?} -> {result:?}"));
        if it.kernel.listeners.iter().any(|one| one.open && one.token == token) {
            it.violation(format!("{token:?} is the token of two listeners"));
        }
        it.shadow.listened(place, token, *how, result);
        result?;
        let index = it.kernel.listen(place, token, how.backlog.into());
        it.kernel.listeners[index].unix = at.is_unix();
        Ok(Self { world: Rc::clone(world), index })
    }

    /// It listens another way from now on.
    pub(crate) fn change(&self, how: &ListenOptions) -> Result<(), Errno> {
        let it = &mut *self.world.borrow_mut();
        let result = it.enter(Call::Listen).map_or(Ok(()), Err);
        it.note(Call::Listen, self.index, || format!("listener {} becomes {how:?} -> {result:?}", self.index));
        it.shadow.changed_listener(self.index, *how, result);
        if result.is_ok() {
            it.kernel.listeners[self.index].backlog = how.backlog.into();
        }
        result
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        // A panic is on its way: it has enough to say.
        if std::thread::panicking() {
            return;
        }
        let mut world = self.world.borrow_mut();
        world.note(Call::Wait, usize::MAX, || format!("listener {} goes", self.index));
        world.check_door(self.index);
        world.shadow.doors[self.index].open = false;
        world.kernel.stop_listening(self.index);
        world.settle();
    }
}
