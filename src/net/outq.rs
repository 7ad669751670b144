//! SIOCOUTQ: how much of what we wrote the peer's kernel has not acknowledged. The one call that no crate wraps safely.

use std::io;
use std::os::fd::BorrowedFd;

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

/// Other kernels have no such call for a TCP socket that we know of.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
pub(super) fn unacked(_: BorrowedFd<'_>) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
