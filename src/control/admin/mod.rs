//! Looking inside over HTTP: `--admin` and `--metrics`, on one thread of their own.
//!
//! The loop answers queries, one at a time, from plain counters; everything else happens here. A client of this thread that is
//! slow or silent costs a place among sixteen for two seconds, and the relay nothing.

mod connection;
mod http;
mod json;
mod metrics;
mod role;
mod server;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use mio::{Poll, Waker};
use tproxy::net::mio::Listener;
use tproxy::net::{Address, Closing, Handed, ListenOptions};
use tproxy::{Control, Error, Inherited};

pub(crate) use role::Role;
use server::{Server, WAKER};
use view::View;

use crate::logging::LogQueue;

/// Connections at a time, of both listeners together. More wait in the kernel's queue.
pub(crate) const CONNECTIONS_MAX: usize = 16;

/// How it listens: the file of a Unix socket is for this user.
fn how() -> ListenOptions {
    ListenOptions { unix_mode: 0o600, backlog: 128, ..ListenOptions::default() }
}

/// The server, from outside its thread.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    /// For another process, as long as this one has them.
    sockets: Arc<Mutex<Vec<(Role, Handed)>>>,
    orders: Arc<Orders>,
    waker: Arc<Waker>,
    server: Arc<Mutex<State>>,
}

/// What its thread is to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Another process has the listeners: accept nobody, leave the files, and end after the last connection.
    handed_over: AtomicBool,
    /// End now.
    stop: AtomicBool,
}

#[derive(Debug)]
enum State {
    Bound(Box<Server>),
    Runs(JoinHandle<()>),
    Over,
}

impl Admin {
    /// Listens there, with the sockets of the relay before where they are the same; the others are left in `inherited`. None
    /// if there is nowhere to listen.
    ///
    /// # Errors
    /// In words, when one address cannot be listened on.
    pub(crate) fn bind(
        wanted: &[(Role, Address)],
        inherited: &mut Vec<(Role, Inherited)>,
        control: Control,
        log: LogQueue,
    ) -> Result<Option<Self>, String> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let failed = |error: io::Error| format!("cannot serve --admin or --metrics: {error}");
        let poll = Poll::new().map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        let orders = Arc::<Orders>::default();
        let mut server = Server::new(poll, Arc::clone(&orders), View::new(control, log));
        let mut sockets = Vec::new();
        for (role, address) in wanted {
            let known = inherited.iter().position(|(of, socket)| of == role && socket.address() == address);
            let listener = match known {
                Some(index) => inherited.swap_remove(index).1.listen(&how()),
                None => Listener::bind(address, &how()),
            };
            let bound = listener.and_then(|(listener, bound)| {
                sockets.push((*role, listener.hand_over()));
                server.listen(*role, listener).map(|()| bound)
            });
            match bound {
                Ok(bound) => log::info!("--{} on {bound}", role.word()),
                Err(error) => {
                    server.close_listeners(Closing::Abandoned);
                    return Err(format!("--{}: {}", role.word(), Error::Listen { address: address.clone(), error }));
                }
            }
        }
        let (sockets, server) = (Arc::new(Mutex::new(sockets)), Arc::new(Mutex::new(State::Bound(Box::new(server)))));
        Ok(Some(Self { sockets, orders, waker, server }))
    }

    /// Serves from now on.
    pub(crate) fn start(&self) -> io::Result<()> {
        let mut state = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Bound(mut server) = std::mem::replace(&mut *state, State::Over) {
            *state = State::Runs(thread::Builder::new().name("admin".into()).spawn(move || server.run())?);
        }
        Ok(())
    }

    /// Its listening sockets, to be handed over.
    pub(super) fn sockets(&self) -> Vec<(Role, Handed)> {
        self.held().clone()
    }

    fn held(&self) -> MutexGuard<'_, Vec<(Role, Handed)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another process has them.
    pub(super) fn hand_over(&self) {
        self.order(&self.orders.handed_over);
    }

    /// Ends it, and waits for that. If it has not begun, what it has taken over stays the other's.
    fn stop(&self) {
        self.order(&self.orders.stop);
        let state = std::mem::replace(&mut *self.server.lock().unwrap_or_else(PoisonError::into_inner), State::Over);
        match state {
            State::Runs(thread) => drop(thread.join()),
            State::Bound(mut server) => server.close_listeners(Closing::Abandoned),
            State::Over => {}
        }
    }

    /// The sockets are to be closed, so nothing else may keep them open.
    fn order(&self, order: &AtomicBool) {
        self.held().clear();
        order.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

/// Stops it when this goes, whatever the reason.
#[derive(Debug)]
pub(crate) struct StopAdmin(pub(crate) Option<Admin>);

impl Drop for StopAdmin {
    fn drop(&mut self) {
        self.0.iter().for_each(Admin::stop);
    }
}
