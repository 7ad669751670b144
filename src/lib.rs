//! A TCP relay that never lies about how a stream ended.
//!
//! It listens, connects to an upstream for every client, and moves bytes both ways until both sides are done. One
//! thread, one [`mio`](https://docs.rs/mio) event loop, a slab of sessions, a fixed buffer for each direction while it
//! holds bytes.
//!
//! ```text
//!                        ┌──────────────── session ────────────────┐
//!   client ──► side ──► flow up   [lease] ──► side ──► upstream
//!   client ◄── side ◄── [lease] flow down ◄── side ◄── upstream
//! ```
//!
//! A FIN is passed on only after the last byte before it, and only if a FIN came in. The other side sees everything else
//! as a reset: a reset, a timeout, a crash of the relay.
//!
//! # Example
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{Shutdown, TcpListener, TcpStream};
//! use tproxy::{Config, Relay};
//!
//! // An upstream that echoes.
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
//! # A tour of the files
//!
//! Arrows point down and never up.
//!
//! ```text
//!  lib: Relay, Config, Route, Control, Totals     the public face
//!    │
//!  reactor/   the loop, the sessions, their alarms; the only caller of the seam
//!    │
//!    ├── net/     the seam: every kernel call the relay makes, as two traits; net/mio/ is the real kernel
//!    │
//!    └── relay/   pure: pair → flow → side → input. No mio, no clock, no log, no address
//! ```
//!
//! From the inside out:
//!
//! 1. [`relay::flow`]: one direction of a session, one enum with its diagram, one function that moves bytes. *When is a
//!    FIN passed on?*
//! 2. [`relay::side`]: a stream and what the relay remembers of it. *When does it stop reading, and why does it never
//!    miss an edge?* Its `input.rs` is the truth table of how a peer's input ended.
//! 3. [`relay::pair`]: two sides and two flows. *What does the end of one direction mean for the other?*
//! 4. [`net`]: the seam, and the kernel facts K1 to K29 that the relay leans on.
//! 5. [`reactor`]: a turn of the loop has five steps, wait, mark, work, expire, reap.
//! 6. The program around the library: `cli/`, `control/`, `echo.rs`, `logging/`, `main.rs`.
//!
//! | where | file |
//! |---|---|
//! | what happens on EMFILE | `reactor/gate.rs` in accept, `reactor/waiters.rs` in connect; error numbers in `net/errno.rs` |
//! | where an option is added | `cli/settings.rs`, for the command line and the file, and `cli/example.toml`; its field in `config/`, its range in `config/ranges.rs` |
//! | where a list or a range becomes routes | `cli/routes.rs` |
//! | where a second route comes in | `Config::routes`; `reactor/listeners.rs` and `reactor/routes.rs` serve any number |
//! | what a reload does | `reactor/reload.rs`; SIGHUP and the file in `control/reload.rs` |
//! | which address of an upstream is next | `reactor/upstreams/choose.rs`, `health.rs`; how long it may take in `reactor/session/attempts.rs` |
//! | which address a connection comes from | `reactor/sources.rs`, `net/mio/source.rs` |
//! | who waits for a name | `reactor/lookups.rs`, `reactor/upstreams/names.rs` |
//! | where a name is looked up | a listener's once, at start, in `cli/names.rs`; for `--check` in `cli/check.rs`; an upstream's in `net/mio/resolver.rs`, on threads of its own |
//! | a header of the PROXY protocol | its bytes in `relay/proxy/`; when it is read and sent in `reactor/session/header.rs` |
//! | does an upstream lead back to us | `reactor/own.rs`, `net/mio/loopback.rs`; for `--check` in `cli/loops.rs` |
//! | looking inside | `reactor/report.rs`, what it answers in `net/report.rs`; SIGUSR1 in `control/status.rs`, systemd in `control/notify.rs`, HTTP in `control/admin/` |
//! | a socket that was inherited, a hand-over | `net/mio/inherited.rs`, `control/inherit.rs`, `control/hand_over.rs` |
//! | what happens when, and the limits | [`behaviour`] |
//! | what a log line looks like | `logging/format.rs`; a session's fields in `reactor/record.rs` |
//! | how many sessions there may be | `config/limits.rs` |
//! | who may come, and how many of one address | `config/networks.rs`, `reactor/refusals.rs`, `reactor/per_ip.rs` |
//!
//! # Descriptors and memory
//!
//! A session takes two descriptors and 152 bytes. A pipe takes two descriptors; there are at most 32, one for every 32
//! descriptors, and they are closed when the last session ends. So the most sessions are (limit − open at start − 8) ÷ 2
//! − pipes. Where a route leads to a name, 24 more descriptors are left free for lookups. What a reload adds, a listener or
//! the first name, is taken from the sessions there are descriptors for. Each direction that holds bytes
//! has one buffer, or one pipe of up to 1 MiB of the kernel's memory. A reader that stalls while its bytes are in a pipe
//! keeps that pipe; when 32 readers are stalled this way, all other bulk is copied until one of them reads on or
//! disconnects.
//!
//! # Three details
//!
//! - An urgent byte (`MSG_OOB`) is relayed as a byte in its place in the stream, without the mark.
//! - The FIN of a session that ended before a stop request is left to the kernel. Only while draining does the relay
//!   wait until it is acknowledged.
//! - Bytes are spliced once two reads in a row have filled a buffer, or brought 64 KiB each, until reads become small
//!   again.
//!
//! [`net`], [`relay`] and [`reactor`] are public for readers, tests and benches, and exempt from semver.

#[cfg(not(unix))]
compile_error!("tproxy needs a Unix: it uses descriptors, signals and SO_LINGER");

#[doc = include_str!("behaviour.md")]
pub mod behaviour {}
mod config;
mod error;
pub mod net;
pub mod reactor;
pub mod relay;

use std::net::SocketAddr;

use fastrand::Rng;
use log::info;

use config::limits::{limits, mebibytes, worst_case};
pub use config::{AtLimit, Balance, Config, Host, Networks, Proxies, ResetGrace, Route, Splice};
pub use error::Error;
use net::Address;
pub use net::mio::Inherited;
use net::mio::Mio;
pub use net::{Control, Reloaded};
pub use net::{Report, Row, Stage, Totals};
use reactor::Reactor;
pub use relay::proxy::ProxyVersion;

/// A relay that listens. See the [crate's example](crate#example).
#[derive(Debug)]
pub struct Relay {
    reactor: Reactor<Mio>,
    control: Control,
    /// Inherited sockets that no route has. They go when it serves: until then another relay may have them.
    unnamed: Vec<Inherited>,
}

impl Relay {
    /// Listens where `config` says. Clients that connect from now on are served as soon as [`run`](Self::run) is
    /// called.
    ///
    /// The most sessions at a time follow from the limit of open descriptors (RLIMIT_NOFILE): two for each session.
    ///
    /// # Errors
    /// [`Error::Config`] when a field is out of its range, [`Error::Loop`] when an upstream is this relay itself,
    /// [`Error::Listen`] when an address cannot be listened on, [`Error::Descriptors`] and [`Error::Start`] when the
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
        Self::bind_inheriting(config, control, Vec::new())
    }

    /// As [`bind_with`](Self::bind_with). A route whose `from` is the address of one of these listening sockets takes it, with
    /// the clients that wait in its queue. Those that no route takes are closed when it [runs](Self::run), with a line in the log.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_inheriting(config: Config, control: Control, inherited: Vec<Inherited>) -> Result<Self, Error> {
        config.check()?;
        let is_named = |socket: &Inherited| config.routes.iter().any(|route| route.from == *socket.address());
        let (named, others): (Vec<_>, Vec<_>) = inherited.into_iter().partition(is_named);
        let (kept, unnamed): (Vec<_>, Vec<_>) = others.into_iter().partition(Inherited::is_kept);
        let mut net = Mio::new(control.clone()).map_err(Error::Start)?;
        let taken = named.len();
        net.inherit(named.into_iter().chain(kept));
        let limits = limits(&config, taken)?;
        let reactor = Reactor::bind(net, config.clone(), limits, Rng::new())?;
        reactor.say_all_listening();
        let worst = mebibytes(worst_case(&config, limits));
        info!("buffers of {} KiB, at most {worst} MiB in total", config.buffer_size >> 10);
        Ok(Self { reactor, control, unnamed })
    }

    /// The addresses it listens on, one for each route, with the ports that the kernel chose where the configuration
    /// said 0.
    pub fn local_addrs(&self) -> Vec<Address> {
        self.reactor.local_addrs()
    }

    /// The first IP address and port that it listens on: see [`local_addrs`](Self::local_addrs).
    ///
    /// # Panics
    /// When it listens only on Unix sockets.
    #[expect(clippy::expect_used, reason = "documented")]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs().iter().find_map(Address::inet).expect("it listens only on Unix sockets")
    }

    /// A handle to stop it with.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Serves until it was asked to stop and its sessions have finished, or were reset.
    ///
    /// # Errors
    /// [`Error::Wait`] and [`Error::Accept`] when the event queue or a listener fails for good; sessions are reset then.
    /// The trouble of a single session is never an error.
    pub fn run(self) -> Result<Totals, Error> {
        self.unnamed.into_iter().for_each(Inherited::discard);
        self.reactor.run()
    }
}
