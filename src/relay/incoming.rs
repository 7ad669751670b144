//! The header of the PROXY protocol that a proxy sends before its client's bytes.

use super::flow::Preface;
use super::lease::Lease;
use super::pool::Pool;
use super::proxy::{ACCEPTED_MAX, Decoded, Ends, ProxyVersion, decode, encode};
use super::side::{ReadResult, Side};
use crate::net::Stream;

/// A header that has not come, or not whole. It holds a lease only while a part is there.
#[derive(Debug)]
pub struct Incoming<P>(Option<Lease<P>>);

/// A header, and what was read behind it. They stay in the lease that they were read into.
///
/// ```text
///   0          start         end        size
///   ├─ header ───┼── held ────┼─ room ────┤
/// ```
#[derive(Debug)]
pub struct Accepted<P>(Lease<P>);

/// How far the header is.
#[derive(Debug)]
pub enum Progress<P> {
    /// More is to come.
    Incomplete,
    /// It is there.
    Whole(Accepted<P>),
    /// What came is no header, or ended before it was whole.
    Bad,
}

impl<P> Default for Incoming<P> {
    /// Nothing was read yet.
    fn default() -> Self {
        Self(None)
    }
}

impl<P> Incoming<P> {
    /// Reads what is there, until the header is whole. What is read behind it is kept too.
    pub fn read<S: Stream<Pipe = P>>(&mut self, client: &mut Side<S>, pool: &mut Pool<P>) -> Progress<P> {
        let mut lease = match self.0.take() {
            Some(lease) => lease,
            None if !client.is_readable() => return Progress::Incomplete,
            None => pool.lend_sized(ACCEPTED_MAX),
        };
        let bad = loop {
            if !client.is_readable() {
                break false;
            }
            match client.read(lease.room()) {
                ReadResult::Bytes(count) => lease.filled(count),
                ReadResult::Nothing => break false,
                ReadResult::End(_) => break true,
            }
            // A header that would fill the lease without an end is a bad one, so there is room for the next read.
            match decode(lease.bytes()) {
                Decoded::Incomplete => {}
                Decoded::Header { length, .. } => {
                    lease.taken(length);
                    return Progress::Whole(Accepted(lease));
                }
                Decoded::Bad => break true,
            }
        };
        if bad || lease.held() == 0 {
            pool.take_back(lease);
        } else {
            self.0 = Some(lease);
        }
        if bad { Progress::Bad } else { Progress::Incomplete }
    }

    /// Returns the lease, if it has one.
    pub fn give_back(self, pool: &mut Pool<P>) {
        if let Some(lease) = self.0 {
            pool.take_back(lease);
        }
    }
}

impl<P> Accepted<P> {
    /// Between whom the connection is, as the header says it.
    pub fn ends(&self) -> Ends<'_> {
        match decode(self.0.gone()) {
            Decoded::Header { ends, .. } => ends,
            Decoded::Incomplete | Decoded::Bad => {
                debug_assert!(false, "it was decoded before");
                Ends::Unknown
            }
        }
    }

    /// Were bytes read behind the header?
    pub fn has_rest(&self) -> bool {
        self.0.held() > 0
    }

    /// What the upstream is sent first: this header again, in that version, if one is to be sent; then what was read behind
    /// it.
    pub fn into_preface(self, send: Option<ProxyVersion>, pool: &mut Pool<P>) -> Option<Preface<P>> {
        let preface = match send {
            Some(version) => Preface::new(encode(version, self.ends()).bytes(), self.0.bytes(), pool),
            None if self.has_rest() => return Some(Preface::rest(self.0)),
            None => {
                self.give_back(pool);
                return None;
            }
        };
        self.give_back(pool);
        Some(preface)
    }

    /// Returns the lease.
    pub fn give_back(self, pool: &mut Pool<P>) {
        pool.take_back(self.0);
    }
}
