//! Listening Unix sockets and their files.
//!
//! ```text
//!   is somebody there?      bind beside it      chmod      listen      rename
//!   ECONNREFUSED: nobody ──────► .x4f2k ──────────────────────────────► app.sock      unlinked at the end, if it is ours
//! ```
//! Another program finds the old file or a listening socket with the right permissions, never anything between.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::options::unix_socket;
use crate::net::ListenOptions;
use crate::net::address::UNIX_NAME_MAX;

/// How often another name beside the path is tried, if the one before is taken.
const TRIES: u32 = 16;

/// The file of a listening socket. Dropping this removes it, if it is still the socket's.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Its device and its number there.
    identity: (u64, u64),
}

/// Where a Unix socket is: the path of its file, or a NUL and an abstract name.
pub(super) fn socket_address(name: &[u8]) -> io::Result<SocketAddrUnix> {
    Ok(match name.strip_prefix(b"\0") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(name)?,
    })
}

/// Listens there.
pub(super) fn bind(name: &[u8], how: &ListenOptions) -> io::Result<(OwnedFd, Option<SocketFile>)> {
    let socket = unix_socket()?;
    if name.first() == Some(&0) {
        rustix::net::bind(&socket, &socket_address(name)?)?;
        rustix::net::listen(&socket, how.backlog.into())?;
        return Ok((socket, None));
    }
    let path = Path::new(OsStr::from_bytes(name));
    let is_stale = is_stale(path)?;
    let beside = bind_beside(&socket, path)?;
    let made = finish(&socket, &beside, path, how, is_stale);
    // It has another name now, or none.
    let _ = fs::remove_file(&beside);
    Ok((socket, Some(made?)))
}

impl SocketFile {
    /// The file at this path, which is that of a socket that we inherited.
    pub(super) fn found(path: &[u8]) -> io::Result<Self> {
        let path = Path::new(OsStr::from_bytes(path));
        Ok(Self { path: path.to_owned(), identity: Self::identity(path)? })
    }

    /// Gives it these permissions, if it is still the socket's.
    pub(super) fn set_mode(&self, mode: u16) -> io::Result<()> {
        if self.is_ours() { fs::set_permissions(&self.path, Permissions::from_mode(mode.into())) } else { Ok(()) }
    }

    /// It stays, for another process.
    pub(super) fn leave(self) {
        std::mem::forget(self);
    }

    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
    }

    /// Is it still there, and not another's?
    pub(super) fn is_ours(&self) -> bool {
        Self::identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Is there a socket behind which nobody answers? False if there is nothing.
///
/// # Errors
/// AddrInUse if somebody answers, or may: a full backlog (EAGAIN) and a lack of permission (EACCES) are no answer, and still
/// somebody is there. Another if it is no socket.
fn is_stale(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    match rustix::net::connect(&unix_socket()?, &socket_address(path.as_os_str().as_bytes())?) {
        Err(Errno::CONNREFUSED) => Ok(true),
        // It went in this moment.
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::ACCESS) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "a socket is there to which this user may not connect, so somebody may listen",
        )),
        Ok(()) | Err(_) => Err(Errno::ADDRINUSE.into()),
    }
}

/// Binds the socket to a name in the same folder that is short and not taken. Returns that path.
fn bind_beside(socket: &OwnedFd, path: &Path) -> io::Result<PathBuf> {
    let mut tries = TRIES;
    loop {
        let name: String = std::iter::once('.').chain((0..5).map(|_| fastrand::alphanumeric())).collect();
        let beside = path.with_file_name(name);
        let length = beside.as_os_str().len();
        if length > UNIX_NAME_MAX {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "its folder has too long a path: a name of 6 bytes beside the socket has {length} bytes, and {UNIX_NAME_MAX} is the most"
                ),
            ));
        }
        tries -= 1;
        match rustix::net::bind(socket, &socket_address(beside.as_os_str().as_bytes())?) {
            Ok(()) => return Ok(beside),
            Err(Errno::ADDRINUSE) if tries > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The socket gets its permissions, listens, and gets its name. If the name is free, nothing that comes there in the
/// meantime is replaced; what is stale is, if it still is: two relays may start at one moment.
fn finish(socket: &OwnedFd, beside: &Path, path: &Path, how: &ListenOptions, stale: bool) -> io::Result<SocketFile> {
    fs::set_permissions(beside, Permissions::from_mode(how.unix_mode.into()))?;
    rustix::net::listen(socket, how.backlog.into())?;
    let identity = SocketFile::identity(beside)?;
    if stale && is_stale(path)? {
        fs::rename(beside, path)?;
    } else {
        fs::hard_link(beside, path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Errno::ADDRINUSE.into(),
            _ => error,
        })?;
    }
    Ok(SocketFile { path: path.to_owned(), identity })
}

#[cfg(test)]
mod tests;
