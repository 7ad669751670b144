//! Opening pipes to splice through, one at a time, when a flow has asked for one.

use std::io;
use std::num::NonZeroI32;

use log::{debug, info};

use super::{Net, Reactor};

impl<N: Net> Reactor<N> {
    /// If a flow asked for a pipe, opens one for the next that asks. Failure only means copying, so it is logged at
    /// debug. It is not tried again until a session has ended.
    pub(super) fn open_pipe(&mut self) {
        if self.table.len() > 0 && self.pool.take_pipe_request() && !self.pipe_failed {
            match self.net.pipe() {
                Ok(pipe) => self.pool.add_pipe(pipe),
                Err(error) => {
                    debug!("no pipe to splice through: {error}");
                    self.pipe_failed = true;
                }
            }
        }
    }

    /// splice(2) gave an error that is not the stream's: a sandbox forbids it, or memory is short. Logged once.
    pub(super) fn note_splice_error(&mut self, errno: NonZeroI32) {
        if !std::mem::replace(&mut self.told_of_splice, true) {
            let error = io::Error::from_raw_os_error(errno.get());
            info!("splice does not work here ({error}): bytes are copied");
        }
    }

    /// Sessions have ended: pipes may be had again, and without sessions none is needed.
    pub(super) fn reconsider_pipes(&mut self) {
        self.pipe_failed = false;
        if self.table.len() == 0 {
            self.pool.close_spare_pipes();
        }
    }
}
