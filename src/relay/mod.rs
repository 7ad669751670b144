//! What happens to the bytes of a session, and nothing else: no event queue, no clock, no log.
//!
//! A [`Pair`](pair::Pair) is two [`Side`](side::Side)s and two [`Flow`](flow::Flow)s between them. A flow borrows a
//! [`Lease`](pool::Lease) from the [`Pool`](pool::Pool) while it holds bytes. Sides know what a socket said last, flows
//! know what may be done next, the pair knows whether there is a next.

pub mod flow;
pub mod pair;
pub mod pool;
pub mod side;

#[cfg(test)]
mod copied;
#[cfg(test)]
mod script;
#[cfg(test)]
mod spliced;
