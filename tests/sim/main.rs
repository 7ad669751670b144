//! Proof by simulation: the whole reactor, accept storms, alarms and drain included, on a kernel that is made of queues
//! and one seed.
//!
//! **What is simulated.** Everything below the seam (`tproxy::net`): sockets with bounded queues and wires that take
//! time, a FIN as a position in the stream, resets, one-shot errors, urgent marks, linger, what is not acknowledged, a
//! listener with its backlog, descriptors, an edge-triggered event queue and the clock. At the other ends, clients and
//! upstreams that follow scripts. The kernel comes in two kinds: *Linux*, and *mio-minimum*, which owes an event only
//! after WouldBlock. Both are as unkind as is legal: events that mean nothing, come late, in any order or for a socket
//! that is gone; calls that are interrupted, come up short or fail; a machine that sleeps for weeks. Neither does what
//! no kernel does.
//!
//! ```text
//!   peers ──► kernel (conn: one connection) ◄── seam ◄── tproxy::reactor
//!     ▲          ▲                               │
//!   plan ◄── draw (a seed)                     shadow: what the relay was told
//!                 world: time, faults, noise   invariants: what must hold     records: what it logged
//! ```
//!
//! **What is promised.** At every call and sleep (`invariants`), after every turn (`turns.rs`) and in the end
//! (`ends.rs`): what arrives is what was sent, every byte checked; a clean end only where it was meant, and a reset
//! only with a cause; nothing is thrown away that could still be delivered; a relay that sleeps has nothing to do and
//! wakes in time; nobody starves, nothing spins; tables are as small as they should be, descriptors come back; timers
//! are never early, and I/O goes first; the drain lets nobody in and ends; the log says what happened. And the same
//! seed does the same.
//!
//! **How it is driven.** `seeds.rs` random schedules, `sweep.rs` one fault at a time in every call of some fifty
//! scenarios, `exhaustive.rs` every order of a few events, `budgets.rs` thousands of
//! sessions on a kernel that counts (`counting.rs`). `conformance` holds the simulated kernel against the real one
//! (`rig`): a simulator that disagrees with the kernel proves nothing.
//!
//! | folder | what is in it |
//! |---|---|
//! | `kernel` | connections and the wire; `agenda.rs` the clock, `sockets.rs` the calls on a socket |
//! | `world` | what happens around the relay; `wait.rs` how long it waits, and for which events |
//! | `shadow` | the model; `session.rs` one session of it, `opening.rs` how one begins, `words.rs` what a record says |
//! | `invariants` | `calls.rs` at each call, `sleep.rs` at each sleep |
//! | `conformance` | a file of scripts for each topic |
//! | `rig` | `real.rs` and `simulated.rs`, the two kernels under a script |
//!
//! ```console
//! $ cargo test --test sim                                       # 20,000 seeds and all the rest
//! $ TPROXY_SIM_SEEDS=1000000 cargo test --test sim random       # more
//! $ TPROXY_SIM_SEED=0x2a cargo test --test sim random -- --nocapture  # this one, with its trace
//! ```
//! A failure prints that command, the schedule in the smallest form that still fails, and its trace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may end with a panic, and says on stderr how far it is"
)]

mod budgets;
mod conformance;
mod conn;
mod counting;
mod crowd;
mod draw;
mod drive;
mod edges;
mod ends;
mod exhaustive;
mod faults;
mod hello;
mod invariants;
mod kernel;
mod keyed;
mod lines;
mod listening;
mod peers;
mod pipe;
mod plan;
mod records;
mod rig;
mod scenarios;
mod seam;
mod seeds;
mod shadow;
mod shrink;
mod sources;
mod sweep;
mod trace;
mod turns;
mod world;
