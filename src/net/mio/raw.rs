//! What no crate wraps safely: three numbers of a TCP connection (bytes not acknowledged, bytes received, how long an
//! acknowledgement is waited for), a source address without a port, the process and the user at the other end of a Unix
//! socket, a descriptor that was inherited, and a descriptor with a mark.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes in the send queue, the unacknowledged ones included; a FIN counts as one byte (`tcp(7)`, SIOCOUTQ).
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
pub(super) fn unacked(socket: BorrowedFd<'_>) -> io::Result<usize> {
    use rustix::ioctl::{Getter, Opcode, ioctl};

    /// As in `asm-generic/ioctls.h` (TIOCOUTQ), which these architectures share; some others number it differently.
    const SIOCOUTQ: Opcode = 0x5411;

    // SAFETY: SIOCOUTQ stores one `int` through its argument and reads nothing from it (`ioctl_tty(2)`, TIOCOUTQ:
    // `int *argp`), which is what a `Getter` of c_int provides room for.
    #[expect(unsafe_code, reason = "no crate of ours wraps SIOCOUTQ")]
    let count = unsafe { ioctl(socket, Getter::<SIOCOUTQ, std::ffi::c_int>::new()) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Other kernels: unknown.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
pub(super) fn unacked(_: BorrowedFd<'_>) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Bytes that have arrived from the peer in order, those that were read included; a FIN counts as one
/// (`tcpi_bytes_received` of TCP_INFO, `tcp(7)` and `linux/tcp.h`). The count can still be asked for after the
/// connection has failed (K19).
#[cfg(target_os = "linux")]
pub(super) fn received(socket: BorrowedFd<'_>) -> io::Result<u64> {
    /// In units of 8 bytes: 8 bytes of flags and states, 24 fields of 4 bytes and three of 8 before it.
    const BYTES_RECEIVED: usize = 16;

    // Linux before 4.1 does not count them.
    tcp_info(socket, BYTES_RECEIVED)
}

/// How long an acknowledgement is waited for now (`tcpi_rto` of TCP_INFO, in microseconds).
#[cfg(target_os = "linux")]
pub(super) fn retransmission_timeout(socket: BorrowedFd<'_>) -> io::Result<Duration> {
    /// In units of 8 bytes: it is the first field of 4 bytes, behind 8 bytes of flags and states.
    const RTO: usize = 1;

    let [a, b, c, d, ..] = tcp_info(socket, RTO)?.to_ne_bytes();
    Ok(Duration::from_micros(u32::from_ne_bytes([a, b, c, d]).into()))
}

/// The 8 bytes at this place of TCP_INFO (`struct tcp_info` of `linux/tcp.h`), counted in units of 8. Unsupported if this
/// kernel does not have them.
#[cfg(target_os = "linux")]
fn tcp_info(socket: BorrowedFd<'_>, index: usize) -> io::Result<u64> {
    let mut info = [0_u64; 32];
    let mut size = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to the array, which is as long as that, and how many to `size`;
    // every pattern of bits is a number.
    #[expect(unsafe_code, reason = "no crate of ours knows these fields of TCP_INFO")]
    let result = unsafe {
        let (info, size) = (info.as_mut_ptr().cast(), &raw mut size);
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info, size)
    };
    match result {
        0 if size as usize >= (index + 1) * size_of::<u64>() => Ok(info[index]),
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Only Linux splices, and only splicing needs this count.
#[cfg(not(target_os = "linux"))]
pub(super) fn received(_: BorrowedFd<'_>) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Other kernels: unknown.
#[cfg(not(target_os = "linux"))]
pub(super) fn retransmission_timeout(_: BorrowedFd<'_>) -> io::Result<Duration> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A bind(2) to port 0 that follows chooses no port; connect(2) will, for that destination alone
/// (IP_BIND_ADDRESS_NO_PORT, `ip(7)`, Linux 4.2). Both families have it under this name.
#[cfg(target_os = "linux")]
pub(super) fn bind_address_no_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
    // SAFETY: the kernel reads `size` bytes of the number, which is as long as that and outlives the call.
    #[expect(unsafe_code, reason = "no crate of ours wraps IP_BIND_ADDRESS_NO_PORT")]
    let result = unsafe {
        let on = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, on, size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Other kernels choose a port in bind(2), for all destinations.
#[cfg(not(target_os = "linux"))]
pub(super) fn bind_address_no_port(_: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

/// The process and the user that connected (SO_PEERCRED, `unix(7)`). The process is 0 if it is not visible from here, as
/// from another container.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = libc::socklen_t::try_from(size_of_val(&who)).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to the structure, which is as long as that, and how many to `size`;
    // every pattern of bits is three numbers.
    #[expect(unsafe_code, reason = "rustix takes a process that is not visible, 0, for one that cannot be")]
    let result = unsafe {
        let (who, size) = ((&raw mut who).cast(), &raw mut size);
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, who, size)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((u32::try_from(who.pid).unwrap_or(0), who.uid))
}

/// Other kernels: unknown.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn credentials(_: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes a descriptor that another program left open for us, if `is_right` says that it is what was expected.
///
/// # Errors
/// EBADF if nothing is open under this number, or it was taken before; the error of `is_right`.
pub(super) fn inherited(number: RawFd, is_right: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if number < 0 || taken.contains(&number) {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: it is not -1. If nothing is open under this number, the calls of `is_right` say so.
    #[expect(unsafe_code, reason = "a number is all that the other program says")]
    is_right(unsafe { BorrowedFd::borrow_raw(number) })?;
    taken.push(number);
    // SAFETY: it is open, and nothing in this process owns it: it is a listening socket, those are taken before the first of
    // our own is opened, and each once.
    #[expect(unsafe_code, reason = "as above")]
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor and one mark, in four bytes: descriptors are never negative, so a negative number is a marked one.
#[derive(Debug)]
pub(super) struct MarkedFd(RawFd);

impl MarkedFd {
    /// This descriptor, with the mark or without.
    pub(super) fn new(descriptor: OwnedFd, marked: bool) -> Self {
        let raw = descriptor.into_raw_fd();
        Self(if marked { !raw } else { raw })
    }

    /// Does it have the mark?
    pub(super) const fn is_marked(&self) -> bool {
        self.0 < 0
    }

    const fn raw(&self) -> RawFd {
        if self.is_marked() { !self.0 } else { self.0 }
    }
}

impl AsFd for MarkedFd {
    #[expect(unsafe_code, reason = "OwnedFd has no room for the mark")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `new` took the descriptor out of its OwnedFd, and only `drop` closes it.
        unsafe { BorrowedFd::borrow_raw(self.raw()) }
    }
}

impl Drop for MarkedFd {
    #[expect(unsafe_code, reason = "as above")]
    fn drop(&mut self) {
        // SAFETY: as above; nothing else owns it, and nothing uses it after this.
        drop(unsafe { OwnedFd::from_raw_fd(self.raw()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_descriptor_is_the_same_descriptor_and_is_closed_once() {
        for marked in [false, true] {
            let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
            let raw = one.as_raw_fd();
            let one = MarkedFd::new(one.into(), marked);
            assert_eq!((one.is_marked(), one.as_fd().as_raw_fd()), (marked, raw));
            rustix::io::write(one.as_fd(), b"x").unwrap();
            drop(one);
            let mut said = Vec::new();
            io::Read::read_to_end(&mut &other, &mut said).unwrap();
            assert_eq!(said, b"x", "it was closed");
        }
        assert_eq!(size_of::<MarkedFd>(), 4);
    }

    #[test]
    fn the_other_end_of_a_pair_is_this_process() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(credentials(one.as_fd()).unwrap(), (std::process::id(), uid));
    }

    /// Its user, not its group. Only root may choose that.
    #[test]
    fn the_user_of_the_other_end_is_no_group() {
        let another = std::thread::spawn(|| {
            rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(54_321)).ok()?;
            let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
            Some(credentials(one.as_fd()).unwrap().1)
        });
        if let Some(user) = another.join().unwrap() {
            assert_eq!(user, rustix::process::geteuid().as_raw());
        }
    }
}
