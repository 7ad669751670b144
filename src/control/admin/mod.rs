//! Looking inside over HTTP: `--admin` and `--metrics`, on one thread of their own.
//!
//! The loop answers queries, one at a time, from plain counters; everything else happens here. A client of this thread that is
//! slow or silent costs a place among sixteen for two seconds, and the relay nothing.

mod connection;
mod door;
mod http;
mod json;
mod metrics;
mod server;
mod view;

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use mio::{Poll, Waker};
use tproxy::net::mio::Listener;
use tproxy::net::{Address, Closing, Handed, LISTEN_BACKLOG, ListenOptions};
use tproxy::{Control, Error, Inherited};

pub(crate) use door::Door;
use server::{Server, WAKER};
use view::View;

use crate::logging::LogQueue;

/// Connections at a time, of both kinds together. More wait in the kernel's queue.
pub(crate) const CONNECTIONS_MAX: usize = 16;

/// The file of a Unix socket is for this user.
const MODE: u16 = 0o600;

/// The server, from outside its thread.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    /// For another process, as long as we have them.
    sockets: Arc<Mutex<Vec<(Door, Handed)>>>,
    /// What its thread is to do.
    order: Arc<AtomicU8>,
    waker: Arc<Waker>,
    server: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    Bound(Box<Server>),
    Runs(JoinHandle<()>),
    Over,
}

/// It serves.
const SERVE: u8 = 0;
/// Another process has its listeners.
const HAND_OVER: u8 = 1;
/// It is over.
const STOP: u8 = 2;

impl Admin {
    /// Listens at these doors, with the sockets of the relay before where they are the same. None if there is no door.
    ///
    /// # Errors
    /// In words, when one cannot be listened on.
    pub(crate) fn bind(
        doors: &[(Door, Address)],
        inherited: Vec<(Door, Inherited)>,
        control: Control,
        log: LogQueue,
    ) -> Result<Option<Self>, String> {
        if doors.is_empty() {
            return Ok(None);
        }
        let mut inherited = inherited;
        let how = ListenOptions { unix_mode: MODE, backlog: LISTEN_BACKLOG.min(128), ..ListenOptions::default() };
        let mut listeners = Vec::new();
        for (door, address) in doors {
            let known = inherited.iter().position(|(of, socket)| of == door && socket.address() == address);
            let listener = match known {
                Some(index) => inherited.swap_remove(index).1.listen(&how),
                None => Listener::bind(address, &how),
            };
            let (listener, bound) = match listener {
                Ok(listener) => listener,
                Err(error) => {
                    // The relay before goes on, with its files.
                    listeners.into_iter().for_each(|(_, _, listener): (_, _, Listener)| abandon(listener));
                    return Err(format!("--{}: {}", door.word(), Error::Listen { address: address.clone(), error }));
                }
            };
            log::info!("--{} on {bound}", door.word());
            listeners.push((*door, address.clone(), listener));
        }
        let sockets: Vec<_> = listeners.iter().map(|(door, at, listener)| (*door, listener.hand_over(at))).collect();
        let sockets = Arc::new(Mutex::new(sockets));
        let made = || -> io::Result<Self> {
            let poll = Poll::new()?;
            let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
            let order = Arc::new(AtomicU8::new(SERVE));
            let view = View::new(control, log);
            let listeners = listeners.into_iter().map(|(door, _, listener)| (door, listener)).collect();
            let server = Server::new(poll, listeners, Arc::clone(&order), view)?;
            Ok(Self { sockets, order, waker, server: Arc::new(Mutex::new(State::Bound(Box::new(server)))) })
        };
        made().map(Some).map_err(|error| format!("cannot serve --admin or --metrics: {error}"))
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
    pub(super) fn sockets(&self) -> Vec<(Door, Handed)> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// They are to be closed.
    fn forget_sockets(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Another process has them: it accepts nobody any more, and leaves the files of Unix sockets.
    pub(super) fn hand_over(&self) {
        self.forget_sockets();
        let _ = self.order.compare_exchange(SERVE, HAND_OVER, Ordering::AcqRel, Ordering::Acquire);
        let _ = self.waker.wake();
    }

    /// It ends now, and this waits for that. If it has not begun, what it has taken over stays the other's.
    pub(crate) fn stop(&self) {
        self.forget_sockets();
        // A hand-over stays one: the files are the other process's.
        let _ = self.order.fetch_or(STOP, Ordering::AcqRel);
        let _ = self.waker.wake();
        let state = std::mem::replace(&mut *self.server.lock().unwrap_or_else(PoisonError::into_inner), State::Over);
        match state {
            State::Runs(thread) => drop(thread.join()),
            State::Bound(server) => server.abandon(),
            State::Over => {}
        }
    }
}

/// It does not serve after all. The file of a relay before stays.
fn abandon(listener: Listener) {
    drop(listener.close(Closing::Abandoned));
}

/// Ends it when this goes, whatever the reason.
#[derive(Debug)]
pub(crate) struct Ends(pub(crate) Option<Admin>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.iter().for_each(Admin::stop);
    }
}
