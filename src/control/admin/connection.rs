//! One connection: one request, one answer.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tproxy::net::Stream as _;
use tproxy::net::mio::Socket;

use super::http::{Answer, HEAD_MAX, Read, read};
use super::role::Role;
use super::view::View;

/// How long it may take in all.
pub(super) const TIME_MAX: Duration = Duration::from_secs(2);

/// Reads and writes in a row, at most: a client that never stops sending does not keep the thread to itself.
const STEPS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    role: Role,
    is_unix: bool,
    pub(super) until: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The request so far.
    Reading(Vec<u8>),
    /// The answer, and how much of it is written.
    Writing(Vec<u8>, usize),
    /// The answer is written, and the end of what the client says is read: closing before that would be a reset, which takes
    /// the answer with it.
    Closing,
}

/// Goes on?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Close,
    Reset,
}

impl Connection {
    pub(super) fn new(socket: Socket, role: Role, is_unix: bool, now: Instant) -> Self {
        Self { socket, role, is_unix, until: now + TIME_MAX, stage: Stage::Reading(Vec::new()) }
    }

    /// Does what can be done now.
    pub(super) fn run(&mut self, view: &mut View) -> Next {
        for _ in 0..STEPS_MAX {
            let step = match &mut self.stage {
                Stage::Reading(_) => self.read(view),
                Stage::Writing(bytes, done) => match self.socket.write(&bytes[*done..]) {
                    Ok(count) => {
                        *done += count;
                        if *done == bytes.len() {
                            let _ = self.socket.shutdown_write();
                            self.stage = Stage::Closing;
                        }
                        None
                    }
                    Err(error) => Some(waits(error.kind())),
                },
                Stage::Closing => match self.socket.read(&mut [0; 4096]) {
                    Ok(0) => Some(Next::Close),
                    Ok(_) => None,
                    Err(error) => Some(waits(error.kind())),
                },
            };
            if let Some(next) = step {
                return next;
            }
        }
        Next::Reset
    }

    fn read(&mut self, view: &mut View) -> Option<Next> {
        let Stage::Reading(bytes) = &mut self.stage else { return None };
        let mut room = [0; 1024];
        let most = room.len().min(HEAD_MAX - bytes.len());
        match self.socket.read(&mut room[..most]) {
            Ok(0) => return Some(Next::Close),
            Ok(count) => bytes.extend_from_slice(&room[..count]),
            Err(error) => return Some(waits(error.kind())),
        }
        let (answer, is_head) = match read(bytes) {
            Read::Partial => return None,
            Read::Wrong(answer) => (answer, false),
            Read::Whole(request) if !self.role.takes(request.host.as_deref(), self.is_unix) => {
                (Answer::text("403 Forbidden", "Host is not localhost\n"), request.is_head)
            }
            Read::Whole(request) => (view.answer(self.role, &request), request.is_head),
        };
        self.stage = Stage::Writing(answer.bytes(is_head), 0);
        None
    }
}

fn waits(kind: ErrorKind) -> Next {
    match kind {
        ErrorKind::WouldBlock => Next::Wait,
        _ => Next::Reset,
    }
}
