//! A TCP relay that never lies about how a stream ended.
//!
//! It listens, connects to an upstream for every client, and moves bytes both ways until both sides are done: one
//! thread, one [`mio`](https://docs.rs/mio) event loop, a slab of sessions, a fixed buffer for each direction that
//! holds bytes and none for those that do not.
//!
//! ```text
//!                        ┌──────────────── session ────────────────┐
//!   client ──► side ──► flow up   [lease] ──► side ──► upstream
//!   client ◄── side ◄── [lease] flow down ◄── side ◄── upstream
//! ```
//!
//! A FIN is passed on only after the last byte before it, and only for a FIN that came in. Everything else, a reset, a
//! timeout, a crash of the relay, is seen as a reset by the other side.
//!
//! # Example
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{Shutdown, TcpListener, TcpStream};
//! use tproxy::{Config, Relay};
//!
//! // An upstream that says everything back.
//! let upstream = TcpListener::bind("127.0.0.1:0")?;
//! let address = upstream.local_addr()?;
//! std::thread::spawn(move || {
//!     let (mut stream, _) = upstream.accept().unwrap();
//!     let mut said = Vec::new();
//!     stream.read_to_end(&mut said).unwrap();
//!     stream.write_all(&said).unwrap();
//! });
//!
//! let relay = Relay::bind(Config::new("127.0.0.1:0".parse()?, [address]))?;
//! let (front, control) = (relay.local_addr(), relay.control());
//! let running = std::thread::spawn(|| relay.run());
//!
//! let mut client = TcpStream::connect(front)?;
//! client.write_all(b"hello")?;
//! client.shutdown(Shutdown::Write)?; // a half-close: the answer is still to come
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "hello");
//!
//! control.stop();
//! let totals = running.join().unwrap()?;
//! assert_eq!((totals.sessions, totals.up, totals.down), (1, 5, 5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! Arrows point down and never up.
//!
//! ```text
//!  lib: Relay, Config, Control, Totals           the public face
//!    │
//!  reactor/   the loop, the sessions, their alarms, the gate; the only caller of the seam
//!    │
//!    ├── net/     the seam: every kernel call the relay makes, as two traits; net/mio is the real kernel
//!    │
//!    └── relay/   pure: pair → flow → pool, side. No mio, no clock, no log
//! ```
//!
//! [`net`], [`relay`] and [`reactor`] are public for readers, tests and benches, and exempt from semver.

#[cfg(not(unix))]
compile_error!("tproxy needs a Unix: it speaks of descriptors, signals and SO_LINGER");

mod config;
mod error;
pub mod net;
pub mod reactor;
pub mod relay;

use std::net::SocketAddr;

use fastrand::Rng;
use log::{info, warn};
use rustix::process::{Resource, getrlimit};

pub use config::{Config, Splice};
pub use error::Error;
pub use net::Control;
use net::mio::Mio;
pub use reactor::Totals;
use reactor::{Limits, Reactor};

/// Descriptors left alone beside those that are open at start and two for each session: for name lookups, for whatever
/// the process around us does.
const SPARE_DESCRIPTORS: usize = 8;

/// Pipes to splice through, at most: half of what an unprivileged user may have of 1 MiB each (`pipe(7)`).
const PIPES_MAX: usize = 32;

/// At most one pipe for so many descriptors, so that pipes never take more than a sixteenth of them.
const PIPES_SHARE: usize = 32;

/// A relay that listens. See the [crate's example](crate#example).
#[derive(Debug)]
pub struct Relay {
    reactor: Reactor<Mio>,
    local_addr: SocketAddr,
    control: Control,
}

impl Relay {
    /// Listens where `config` says. Clients that connect from now on are served as soon as [`run`](Self::run) is
    /// called.
    ///
    /// The most sessions at a time follow from the limit of open descriptors (RLIMIT_NOFILE): two for each session.
    ///
    /// # Errors
    /// [`Error::Config`] when a field is out of its range, [`Error::Loop`] when the upstream is this relay itself,
    /// [`Error::Listen`] when the address cannot be listened on, [`Error::Descriptors`] and [`Error::Start`] when the
    /// process lacks what it takes.
    pub fn bind(config: Config) -> Result<Self, Error> {
        Self::bind_with(config, Control::new().map_err(Error::Start)?)
    }

    /// As [`bind`](Self::bind), but obeys a control that was made before: install it in signal handlers first, and no
    /// request is lost.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with(config: Config, control: Control) -> Result<Self, Error> {
        config.check()?;
        let net = Mio::new(control.clone()).map_err(Error::Start)?;
        let cannot_listen = |error| Error::Listen { address: config.from, error };
        let listener = net.listen(config.from).map_err(cannot_listen)?;
        let listening = listener.local_addr().map_err(cannot_listen)?;
        if let Some(&upstream) = config.to.iter().find(|upstream| net::mio::leads_to_itself(listening, **upstream)) {
            return Err(Error::Loop { listening, upstream });
        }
        let limits = limits(&config)?;
        let limit = limits.sessions;
        let upstreams: Vec<_> = config.to.iter().map(ToString::to_string).collect();
        info!("listening on {listening}, relaying to {}, up to {limit} sessions", upstreams.join(", "));
        let worst = config.buffer_size.saturating_mul(2 * limit) >> 20;
        info!("buffers of {} KiB, at worst {worst} MiB of them", config.buffer_size >> 10);
        let reactor = Reactor::new(net, listener, config, limits, Rng::new());
        Ok(Self { reactor, local_addr: listening, control })
    }

    /// The address it listens on, with the port that the kernel chose if the configuration said 0.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle to stop it with.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Serves until it was asked to stop and its sessions have finished, or were reset.
    ///
    /// # Errors
    /// [`Error::Wait`] and [`Error::Accept`] when the event queue or the listener fails for good; sessions are reset
    /// then. The trouble of a single session is never an error.
    pub fn run(self) -> Result<Totals, Error> {
        self.reactor.run()
    }
}

/// How many sessions and pipes the limit of open descriptors has room for, and no more sessions than asked for.
fn limits(config: &Config) -> Result<Limits, Error> {
    let limit = getrlimit(Resource::Nofile).current;
    let open = open_descriptors() + SPARE_DESCRIPTORS;
    let room = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).saturating_sub(open);
    let pipes = match config.splice {
        Splice::Auto | Splice::On => PIPES_MAX.min(room / PIPES_SHARE),
        Splice::Off => 0,
    };
    let room = room / 2 - pipes;
    let sessions = match config.max_sessions {
        _ if room == 0 => return Err(Error::Descriptors { limit: limit.unwrap_or_default() }),
        Some(asked) if asked > room => {
            warn!("the limit of open files has room for {room} sessions, not for {asked} (raise `ulimit -n`)");
            room
        }
        Some(asked) => asked,
        None => room,
    };
    Ok(Limits { sessions, pipes })
}

/// Descriptors that are open now, or a guess where the kernel does not list them.
fn open_descriptors() -> usize {
    // The one that reads the directory is counted too, and closed again.
    std::fs::read_dir("/dev/fd").map_or(32, |entries| entries.count().saturating_sub(1))
}
