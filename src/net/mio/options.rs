//! Sockets and their options.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

/// A dead peer is noticed within the idle time + 6 × 10 s, without ever disturbing a live one.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(super) const KEEPALIVE_PROBES: u32 = 6;

/// A non-blocking TCP socket of the address's family.
pub(super) fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    non_blocking(if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 })
}

/// A non-blocking Unix socket.
pub(super) fn unix_socket() -> io::Result<OwnedFd> {
    non_blocking(AddressFamily::UNIX)
}

fn non_blocking(family: AddressFamily) -> io::Result<OwnedFd> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        use rustix::net::SocketFlags;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(socket)
    }
}

/// The options that every stream has from the beginning.
pub(super) fn set_options(socket: &OwnedFd) -> io::Result<()> {
    // Dropping the socket resets it: see `Stream`.
    sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
    // Small messages go out at once instead of waiting for the acknowledgement of the one before.
    sockopt::set_tcp_nodelay(socket, true)?;
    // The urgent byte stays in the stream; otherwise it would be lost (K5).
    sockopt::set_socket_oobinline(socket, true)?;
    Ok(())
}

/// The one option of a Unix socket, also of an accepted one, which inherits nothing: the urgent byte stays in the stream
/// (K5, K27). A kernel that has no urgent bytes there takes it too.
pub(super) fn set_unix_options(socket: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::set_socket_oobinline(socket, true)?)
}

/// SO_KEEPALIVE and its times.
pub(super) fn set_keepalive(socket: impl AsFd, idle: Duration) -> io::Result<()> {
    let socket = socket.as_fd();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, idle)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    Ok(())
}

/// TCP_USER_TIMEOUT, in milliseconds, rounded up. None is the kernel's own limit, 15 minutes or so.
#[cfg(target_os = "linux")]
pub(super) fn set_user_timeout(socket: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    let millis = timeout.map_or(0, |timeout| timeout.as_nanos().div_ceil(1_000_000));
    Ok(sockopt::set_tcp_user_timeout(socket, u32::try_from(millis).unwrap_or(i32::MAX.unsigned_abs()))?)
}

/// Other kernels have no such option.
#[cfg(not(target_os = "linux"))]
pub(super) fn set_user_timeout(_: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    timeout.map_or(Ok(()), |_| Err(io::ErrorKind::Unsupported.into()))
}
