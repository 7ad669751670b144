//! What must hold while the relay works; `turns.rs` and `ends.rs` say what must hold after each turn and in the end.
//!
//! The shadow model knows what the relay was told; the kernel knows what is true. Nothing here looks into the relay,
//! but for its gauges and its log.

mod asks;
mod calls;
mod doors;
mod going;
mod headers;
mod sleep;
mod sockets;

pub(crate) use asks::longest_pause;

use crate::world::World;

impl World {
    /// Something happened that must not.
    pub(crate) fn violation(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.trace.note(self.kernel.now, || format!("!! {what}"));
        self.shadow.violation(what);
    }
}
