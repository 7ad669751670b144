//! Listening on the simulated kernel: addresses are places, of which each has one listener at a time.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use tproxy::net::{Address, Closing, Handed, ListenOptions, Token};

use crate::conn::Who;
use crate::faults::Call;
use crate::kernel::ConnId;
use crate::plan::{inet, place, place_of};
use crate::world::World;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct SimListener {
    world: Rc<RefCell<World>>,
    /// Its number in the kernel, which no other listener ever has.
    pub(crate) index: usize,
    /// It was inherited: its owner has it too.
    is_lent: bool,
    /// Why it is closed. None: it is not, or without the end of its events.
    why: Option<Closing>,
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
        let is_lent = it.plan.lent.contains(&place);
        Ok(Self { world: Rc::clone(world), index, is_lent, why: None })
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

    /// Its events end, and it goes.
    pub(crate) fn close(mut self, why: Closing) {
        self.why = Some(why);
    }
}

/// The next client of this listener, if it has not gone before.
pub(crate) fn accept(world: &mut World, from: usize) -> Result<ConnId, Errno> {
    match world.enter(Call::Accept) {
        Some(error @ (Errno::CONNABORTED | Errno::PROTO)) => {
            // The client went before it was accepted: it is off the queue.
            if let Some(conn) = world.kernel.listeners[from].queue.pop_front() {
                world.kernel.close(conn, Who::Relay, true);
            }
            Err(error)
        }
        Some(error) => Err(error),
        None if world.client_aborts(from) => Err(Errno::CONNABORTED),
        None => world.kernel.accept(from),
    }
}

/// What is handed over: no real socket, but something that stands for one.
pub(crate) fn hand_over(world: &RefCell<World>, listeners: &mut dyn Iterator<Item = &SimListener>) -> Vec<Handed> {
    let world = world.borrow();
    let socket = Arc::new(OwnedFd::from(File::open("/dev/null").unwrap()));
    let at = |listener: &SimListener| place(world.kernel.listeners[listener.index].place).into();
    listeners.map(|listener| Handed::new(at(listener), Arc::clone(&socket), false)).collect()
}

impl Drop for SimListener {
    fn drop(&mut self) {
        // A panic is on its way: it has enough to say.
        if std::thread::panicking() {
            return;
        }
        let mut world = self.world.borrow_mut();
        world.note(Call::Wait, usize::MAX, || format!("listener {} goes", self.index));
        world.check_door(self.index, self.why);
        world.shadow.doors[self.index].open = false;
        world.kernel.stop_listening(self.index, self.is_lent || self.why == Some(Closing::HandedOver));
        world.settle();
    }
}
