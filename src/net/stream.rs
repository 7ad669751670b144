//! One connected socket.

use std::fmt;
use std::io;
use std::time::Duration;

use super::address::Address;

/// One connected socket, all that the relay knows of the world.
///
/// SO_LINGER {1, 0} is armed for life: **dropping a stream resets it**, so a crash, a panic or a forgotten path is
/// truthful. Only [`close`](Stream::close) ends it in order. (AF_UNIX has no such option: see
/// [`epipe_is_fin`](Stream::epipe_is_fin).)
pub trait Stream: Sized {
    /// What holds bytes in the kernel on their way from one stream to another: a pipe, on Linux. Dropping it throws away
    /// what is in it.
    type Pipe: fmt::Debug;

    /// Does a short count prove that the socket has nothing more to give (or to take), so that an edge will follow?
    /// True for TCP under epoll (`epoll(7)`, question 9). Elsewhere only WouldBlock proves it, on AF_UNIX too (K27). Asked
    /// for each read and write: the answer is known without a call.
    fn short_is_dry(&self) -> bool;

    /// Does EPIPE prove that the peer's FIN came before? On TCP (K16). On AF_UNIX it may be followed by ECONNRESET, and a
    /// write that took less than it was given may have consumed that (K20). There a peer learns of a reset only if something
    /// that it wrote is unread when the stream is dropped (K21). As for [`short_is_dry`](Self::short_is_dry), no call is
    /// needed.
    fn epipe_is_fin(&self) -> bool;

    /// Reads into `room`, which is not empty. 0 is the end of what will come, true or not (K1).
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize>;

    /// Writes the front of `data`, which is not empty, and returns the count. Raises no SIGPIPE.
    fn write(&mut self, data: &[u8]) -> io::Result<usize>;

    /// Moves what has arrived into `pipe`, which is empty, and returns the count: at most `most`, and what the pipe has
    /// room for. 0 and WouldBlock prove only that nothing was moved (K15). An error of the stream is told once here too.
    fn splice_in(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize>;

    /// Writes the front of the `count` bytes that are in `pipe`, and returns how many. If that is fewer, an error that is
    /// told once may be lost: the kernel calls the socket for every few pages and reports what was sent rather than what
    /// went wrong then (`splice_to_socket` in `fs/splice.c`). So only the next call says why. SIGPIPE is raised where it
    /// is not ignored; Rust's `main` ignores it.
    fn splice_out(&mut self, pipe: &mut Self::Pipe, count: usize) -> io::Result<usize>;

    /// Reads the front of what is in `pipe` into `room`, which is not empty, and returns the count: the way out when
    /// nothing can be spliced into this stream.
    fn read_pipe(&mut self, pipe: &mut Self::Pipe, room: &mut [u8]) -> io::Result<usize>;

    /// Sends a FIN behind what was written (`shutdown(2)`). After ENOTCONN, SO_ERROR decides: it may hold the reset that
    /// answered the last write.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// SO_ERROR as a result. The kernel tells it once.
    fn take_error(&mut self) -> io::Result<()>;

    /// Bytes written and not yet acknowledged, the FIN counting as one (K17). 0 on AF_UNIX, where queued data survives the
    /// end of the stream (K21). Unsupported where the kernel cannot say.
    fn unacked(&self) -> io::Result<usize>;

    /// Bytes that have arrived from the peer, read or not, the FIN counting as one (K19). Also after the connection has
    /// failed. Unsupported where the kernel cannot say.
    fn received(&self) -> io::Result<u64>;

    /// How long the kernel waits for an acknowledgement now, before it sends again what was lost. It follows the round
    /// trip and doubles with each loss in a row; a window that is closed leaves it as it is (K28). Unsupported where the
    /// kernel cannot say.
    fn retransmission_timeout(&self) -> io::Result<Duration>;

    /// The address of our end: where the peer connected to, if this stream was accepted. Also after the connection has
    /// failed.
    fn local(&self) -> io::Result<Address>;

    /// Sets SO_KEEPALIVE and its times: the peer is asked after this idle time, in whole seconds. Accepted streams inherit
    /// them (K13); a connected one needs four calls.
    fn keep_alive(&mut self, idle: Duration);

    /// Sets TCP_USER_TIMEOUT: the connection fails with ETIMEDOUT when what was written is not acknowledged, or a closed
    /// window does not open, for so long. Accepted streams inherit it (K13).
    fn set_user_timeout(&mut self, timeout: Duration);

    /// Disarms the reset and closes: the kernel still delivers what was written, then a FIN.
    fn close(self);
}
