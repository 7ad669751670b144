//! A connected TCP socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

use super::pipe::Pipe;
use super::{options, raw};
use crate::net::{Address, Stream};

/// A connected TCP socket; four bytes.
#[derive(Debug)]
pub struct Socket(pub(super) TcpStream);

impl Stream for Socket {
    type Pipe = Pipe;

    fn short_is_dry(&self) -> bool {
        cfg!(target_os = "linux")
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // std passes MSG_NOSIGNAL.
        self.0.write(data)
    }

    fn splice_in(&mut self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        pipe.splice_in(self.0.as_fd(), most)
    }

    fn splice_out(&mut self, pipe: &mut Pipe, count: usize) -> io::Result<usize> {
        pipe.splice_out(self.0.as_fd(), count)
    }

    fn read_pipe(&mut self, pipe: &mut Pipe, room: &mut [u8]) -> io::Result<usize> {
        pipe.read(room)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self.0.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => self.take_error(),
            result => result,
        }
    }

    fn take_error(&mut self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }

    fn unacked(&self) -> io::Result<usize> {
        raw::unacked(self.0.as_fd())
    }

    fn received(&self) -> io::Result<u64> {
        raw::received(self.0.as_fd())
    }

    fn retransmission_timeout(&self) -> io::Result<Duration> {
        raw::retransmission_timeout(self.0.as_fd())
    }

    fn local(&self) -> io::Result<Address> {
        self.0.local_addr().map(Address::from)
    }

    fn keep_alive(&mut self, idle: Duration) {
        // If it fails, a dead peer is noticed only when it is owed something.
        let _ = options::set_keepalive(&self.0, idle);
    }

    fn set_user_timeout(&mut self, timeout: Duration) {
        // If it fails, a dead peer is noticed only when the kernel gives up by itself.
        let _ = options::set_user_timeout(&self.0, Some(timeout));
    }

    fn close(self) {
        // If disarming fails, closing resets, which the peer sees and is then the truth.
        let _ = sockopt::set_socket_linger(&self.0, None);
    }
}
