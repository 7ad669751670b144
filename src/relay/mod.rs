//! What happens to the bytes of a session, and nothing else: no event queue, no clock, no log, no address.
//!
//! A [`Pair`](pair::Pair) is two [`Side`](side::Side)s and two [`Flow`](flow::Flow)s between them. A flow borrows a
//! [`Lease`](lease::Lease) from the [`Pool`](pool::Pool) while it holds bytes. A side knows what its socket said last,
//! a flow knows what it may do next, the pair knows what the end of one direction means for the other.
//!
//! Before a pair there may be an [`Incoming`](incoming::Incoming) header, and a [`Preface`](flow::Preface) for its upstream;
//! [`proxy`] reads and writes what is in them.
//!
//! ```text
//!   pair ──► flow ──► side ──► input     how the peer's input ended
//!              ├────► pool ──► lease     a buffer or a pipe
//!              └────► bulk               large reads in a row
//! ```

pub mod bulk;
pub mod flow;
pub mod incoming;
pub mod input;
pub mod lease;
pub mod pair;
pub mod pool;
pub mod proxy;
pub mod side;

#[cfg(test)]
mod tests;
