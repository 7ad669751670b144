//! `--port-file`: tells other programs where the relay listens.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tproxy::net::Address;

/// Where the addresses of the listeners are written, one on each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortFile {
    Stdout,
    /// Another program finds the whole content there or no file.
    File(PathBuf),
}

impl From<&str> for PortFile {
    fn from(path: &str) -> Self {
        match path {
            "-" => Self::Stdout,
            path => Self::File(path.into()),
        }
    }
}

impl PortFile {
    /// Removes the file of a relay before, so that a reader that finds one can connect.
    ///
    /// # Errors
    /// When the path names no file, or something other than a regular file, or one that cannot be removed.
    pub(crate) fn remove_old(&self) -> io::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        let removed = check(path).and_then(|is_there| if is_there { fs::remove_file(path) } else { Ok(()) });
        removed.map_err(|error| named(path, &error))
    }

    /// Writes the addresses after a reload. What was printed cannot be taken back, so on stdout the first ones stay alone.
    ///
    /// # Errors
    /// When one of the calls fails.
    pub(crate) fn update(&self, listeners: &[Address]) -> io::Result<()> {
        match self {
            Self::Stdout => Ok(()),
            Self::File(_) => self.write(listeners),
        }
    }

    /// Writes the addresses: to a new file beside the path, which then takes its name.
    ///
    /// # Errors
    /// When one of the calls fails.
    pub(crate) fn write(&self, listeners: &[Address]) -> io::Result<()> {
        let text: String = listeners.iter().map(|address| format!("{address}\n")).collect();
        match self {
            Self::Stdout => io::stdout().write_all(text.as_bytes()).map_err(|error| named(Path::new("-"), &error)),
            // A listener's own socket may be there by now.
            Self::File(path) => check(path).and_then(|_| replace(path, &text)).map_err(|error| named(path, &error)),
        }
    }
}

/// Is there a regular file? False if there is nothing.
fn check(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        _ if path.file_name().is_none() => Err(names_no_file()),
        Ok(old) if old.is_file() => Ok(true),
        Ok(_) => Err(io::Error::other("there is something that is no regular file; choose another path")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or_else(names_no_file)?;
    let beside = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    #[expect(clippy::cast_possible_wrap, reason = "a flag")]
    let no_follow = OFlags::NOFOLLOW.bits() as i32;
    // create_new is O_EXCL: neither a file nor a link that is already there is written to.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).custom_flags(no_follow).open(&beside)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn names_no_file() -> io::Error {
    io::Error::other("the path names no file")
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("--port-file {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn addresses() -> [Address; 3] {
        ["127.0.0.1:80", "[::1]:81", "unix:/run/app"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn a_socket_that_came_there_in_the_meantime_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        let file = PortFile::from(path.to_str().unwrap());
        file.remove_old().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = file.write(&addresses()).unwrap_err().to_string();
        assert!(error.contains("no regular file; choose another path"), "{error}");
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn each_listener_has_a_line_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        let file = PortFile::from(path.to_str().unwrap());
        file.remove_old().unwrap();
        for _ in 0..2 {
            file.write(&addresses()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1:80\n[::1]:81\nunix:/run/app\n");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        file.remove_old().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_put_in_its_place_is_not_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        fs::create_dir(&path).unwrap();
        PortFile::File(path.clone()).write(&addresses()).unwrap_err();
        assert_eq!((fs::read_dir(folder.path()).unwrap().count(), path.is_dir()), (1, true));
    }

    #[test]
    fn readers_of_this_users_files_may_read_the_port() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("port"), folder.path().join("other"));
        PortFile::File(path.clone()).write(&addresses()).unwrap();
        // What the umask of the tests leaves.
        fs::write(&other, "").unwrap();
        let [mode, usual] = [path, other].map(|path| fs::metadata(path).unwrap().permissions().mode());
        assert_eq!(mode & 0o777, usual & 0o644);
    }

    #[test]
    fn what_is_no_regular_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        for path in [folder.path(), &link, Path::new("/dev/null")] {
            let error = PortFile::File(path.to_owned()).remove_old().unwrap_err().to_string();
            assert!(error.contains("no regular file") && error.contains("--port-file"), "{error}");
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_names_no_file_is_an_error_before_anything_is_bound() {
        for path in ["", "..", "/"] {
            let error = PortFile::from(path).remove_old().unwrap_err().to_string();
            assert_eq!(error, format!("--port-file {path}: the path names no file"));
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_new_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("port"), folder.path().join("target"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, folder.path().join(format!(".port.{}", std::process::id()))).unwrap();
        PortFile::File(path.clone()).write(&addresses()).unwrap_err();
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), path.exists()), ("precious", false));
    }
}
