//! The seam: every kernel call the relay makes, as two traits.
//!
//! [`Net`] is the event queue and what creates sockets, [`Stream`] is one connected socket. [`mio`] implements them on
//! the real kernel; a simulated kernel can implement them from one seed and drive the whole reactor, clock included.
//!
//! Nothing below promises more than a kernel does: readiness is edge-triggered and a hint, errors are one-shot, and
//! only the result of a call changes what the relay believes.
//!
//! ```text
//!   kernel   Net: wait, listen, accept, connect, register     stream    Stream: read, write, splice, shutdown, close
//!   message  what is said to the loop from outside            errno     what an error number means to each call
//!   reply    what it answers
//!   token, hints, time, address                               mio/      all of it on the real kernel
//! ```
//!
//! # Kernel facts
//!
//! What the relay leans on, probed on Linux 6.18. The rest of the documentation cites these numbers. K1 to
//! K22, K26 and K27 have a script each in `tests/sim/conformance`, which runs on the simulated and on the real kernel. K23 has
//! a test in `mio/option_tests.rs`; the others get one with the feature that needs them.
//!
//! | fact | what the kernel does |
//! |---|---|
//! | K1 | bytes that came before a reset can be read; then the error, once; then it looks like the end |
//! | K2 | a write may return that error instead; the bytes stay readable |
//! | K3 | to close over unread input is to reset |
//! | K4 | a killed process says FIN; with SO_LINGER {1, 0} armed it resets |
//! | K5 | an urgent byte is lost from the stream unless SO_OOBINLINE is set |
//! | K6 | bytes and the FIN behind them may be one edge, and no other comes |
//! | K7 | `listen(0)` lets one client in; the next is not answered until there is room |
//! | K8 | a reset is an edge also for a program that does not read, and bytes before it stay readable |
//! | K9 | to write to a closed peer succeeds once, then is EPIPE; what it said stays readable |
//! | K10 | shutdown, disarm, close: all bytes arrive, then the FIN |
//! | K11 | to reset throws away what had not been delivered |
//! | K12 | after a FIN, reads return 0 whatever happens; only the ERROR edge and SO_ERROR show a reset |
//! | K13 | accepted sockets inherit their listener's options |
//! | K14 | a socket may connect to itself |
//! | K15 | a read stops short at the urgent mark, and no edge follows; splice says EAGAIN there, and 0 once the FIN came |
//! | K16 | a reset after the FIN is EPIPE and the end was true; without, ECONNRESET, and the end is a lie |
//! | K17 | SIOCOUTQ counts unacknowledged bytes, a FIN as one; no edge tells when it reaches 0 |
//! | K18 | a UDP socket can be bound to an address if and only if it is ours |
//! | K19 | TCP_INFO counts what was received, the FIN as one, and still does after a reset |
//! | K20 | AF_UNIX: a peer closes over unread input: our write gives EPIPE; read gives its data, then ECONNRESET, then EOF. SO_ERROR, if asked in between, consumes the ECONNRESET, and so does a write that finds it between two pieces and tells of the first |
//! | K21 | AF_UNIX: SO_LINGER {1, 0} does nothing. SIOCOUTQ counts memory until the peer reads, a FIN as 0. Queued data survives our close |
//! | K22 | AF_UNIX: a non-blocking connect to a full backlog gives EAGAIN at once, and no edge ever |
//! | K23 | options set on a listener are not inherited by clients already in its queue |
//! | K24 | one of two SO_REUSEPORT listeners is closed with clients queued: some are reset (`net.ipv4.tcp_migrate_req=0`) |
//! | K25 | a registered listener that is closed while its description lives elsewhere still raises events: deregister first |
//! | K26 | registering a new client raises an edge at once, with ERROR if it was reset meanwhile |
//! | K27 | AF_UNIX: recv and splice stop behind a message with a descriptor: a short count with more behind it, and no edge. An urgent byte is lost without SO_OOBINLINE there too |
//! | K28 | TCP_INFO tells the retransmission time-out, 200 ms or more unless a route says otherwise: it doubles with each loss in a row, and a closed window leaves it as it is |
//! | K29 | SIOCOUTQ still counts what was not acknowledged after the connection has failed, the FIN as one |

pub mod address;
pub mod errno;
pub mod handed;
pub mod hints;
pub mod histogram;
pub mod kernel;
pub mod message;
pub mod mio;
pub mod reply;
pub mod report;
pub mod stream;
pub mod time;
pub mod token;

pub use address::{Address, AddressError, Client};
pub use handed::Handed;
pub use hints::{Hints, Ready};
pub use histogram::Histogram;
pub use kernel::{AddressKey, Closing, KEEPALIVE, LISTEN_BACKLOG, ListenOptions, Net, UNIX_MODE};
pub use message::{Answer, Control, Message, NameId};
pub use reply::{Pending, Reloaded, Reply};
pub use report::{EndpointRow, Page, Query, ROWS_MAX, Report, RouteRow, Row, Stage, Totals};
pub use stream::Stream;
pub use time::{Sleep, Time};
pub use token::{Owner, Peer, Token};
