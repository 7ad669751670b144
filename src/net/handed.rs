//! A listening socket on its way to another process.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::address::Address;

/// A listening socket that is handed over to the program that takes the relay's place. While it exists, the socket stays
/// open.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Handed {
    /// Its address as it was written: a port may be 0.
    pub at: Address,
    /// The socket.
    pub socket: Arc<OwnedFd>,
    /// It has a file that goes when the relay stops.
    pub has_file: bool,
}

impl Handed {
    /// One of these.
    pub fn new(at: Address, socket: Arc<OwnedFd>, has_file: bool) -> Self {
        Self { at, socket, has_file }
    }
}
