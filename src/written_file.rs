//! `--port-file` and `--pid-file`: tell other programs where the relay listens, and which process it is.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tproxy::net::Address;

/// A file that other programs read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenFile {
    /// The option that names it.
    option: &'static str,
    to: To,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum To {
    Stdout,
    /// Another program finds the whole content there or no file.
    File(PathBuf),
}

/// The addresses, one on each line.
pub(crate) fn lines(addresses: &[Address]) -> String {
    addresses.iter().map(|address| format!("{address}\n")).collect()
}

impl WrittenFile {
    /// The file that this option names. - is stdout.
    pub(crate) fn new(option: &'static str, path: &str) -> Self {
        let to = if path == "-" { To::Stdout } else { To::File(path.into()) };
        Self { option, to }
    }

    /// Is it no file?
    pub(crate) fn is_stdout(&self) -> bool {
        self.to == To::Stdout
    }

    /// Does its path depend on the working directory?
    pub(crate) fn is_relative(&self) -> bool {
        matches!(&self.to, To::File(path) if path.is_relative())
    }

    /// Removes the file of a relay before, so that a reader that finds one can connect.
    ///
    /// # Errors
    /// When the path names no file, or something other than a regular file, or one that cannot be removed.
    pub(crate) fn remove_old(&self) -> io::Result<()> {
        let To::File(path) = &self.to else { return Ok(()) };
        let removed = check(path).and_then(|is_there| if is_there { fs::remove_file(path) } else { Ok(()) });
        removed.map_err(|error| self.named(&error))
    }

    /// Writes another text: after a reload, or after a hand-over. What was printed cannot be taken back, so on stdout the
    /// first one stays alone.
    ///
    /// # Errors
    /// When one of the calls fails.
    pub(crate) fn update(&self, text: &str) -> io::Result<()> {
        match self.to {
            To::Stdout => Ok(()),
            To::File(_) => self.write(text),
        }
    }

    /// Writes the text: to a new file beside the path, which then takes its name.
    ///
    /// # Errors
    /// When one of the calls fails.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        match &self.to {
            To::Stdout => io::stdout().write_all(text.as_bytes()).map_err(|error| self.named(&error)),
            // A listener's own socket may be there by now.
            To::File(path) => check(path).and_then(|_| replace(path, text)).map_err(|error| self.named(&error)),
        }
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{self}: {error}"))
    }
}

/// The option with its path.
impl fmt::Display for WrittenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Stdout => write!(f, "{} -", self.option),
            To::File(path) => write!(f, "{} {}", self.option, path.display()),
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn text() -> String {
        lines(&["127.0.0.1:80", "[::1]:81", "unix:/run/app"].map(|text| text.parse().unwrap()))
    }

    fn at(path: impl AsRef<Path>) -> WrittenFile {
        WrittenFile::new("--port-file", path.as_ref().to_str().unwrap())
    }

    #[test]
    fn a_socket_that_came_there_in_the_meantime_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        let file = at(&path);
        file.remove_old().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = file.write(&text()).unwrap_err().to_string();
        assert!(error.contains("no regular file; choose another path"), "{error}");
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn each_listener_has_a_line_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        let file = at(&path);
        file.remove_old().unwrap();
        for _ in 0..2 {
            file.write(&text()).unwrap();
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
        at(&path).write(&text()).unwrap_err();
        assert_eq!((fs::read_dir(folder.path()).unwrap().count(), path.is_dir()), (1, true));
    }

    #[test]
    fn readers_of_this_users_files_may_read_the_port() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("port"), folder.path().join("other"));
        at(&path).write(&text()).unwrap();
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
            let error = at(path).remove_old().unwrap_err().to_string();
            assert!(error.contains("no regular file") && error.contains("--port-file"), "{error}");
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_names_no_file_is_an_error_before_anything_is_bound() {
        for path in ["", "..", "/"] {
            let error = at(path).remove_old().unwrap_err().to_string();
            assert_eq!(error, format!("--port-file {path}: the path names no file"));
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_new_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("port"), folder.path().join("target"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, folder.path().join(format!(".port.{}", std::process::id()))).unwrap();
        at(&path).write(&text()).unwrap_err();
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), path.exists()), ("precious", false));
    }
}
