//! The calls that no crate wraps safely: three numbers of a TCP connection (bytes not acknowledged, bytes received, how long
//! an acknowledgement is waited for), and binding without a port.

use std::io;
use std::os::fd::BorrowedFd;
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
    use std::os::fd::AsRawFd as _;

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
    use std::os::fd::AsRawFd as _;

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
