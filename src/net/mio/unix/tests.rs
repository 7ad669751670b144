//! What becomes of the file, on the real file system.

use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener as StdListener, UnixStream};

use tempfile::TempDir;

use super::*;
use crate::net::Address;
use crate::net::mio::listen::Listener;

fn how(unix_mode: u16) -> ListenOptions {
    ListenOptions { unix_mode, ..ListenOptions::default() }
}

fn at(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn bind(path: &Path) -> io::Result<Listener> {
    bind_as(path, &how(0o660))
}

fn bind_as(path: &Path, how: &ListenOptions) -> io::Result<Listener> {
    bind_to(path.as_os_str().as_bytes(), how)
}

fn bind_to(name: &[u8], how: &ListenOptions) -> io::Result<Listener> {
    Listener::bind(&Address::Unix(name.into()), how).map(|(listener, _)| listener)
}

/// Nothing but these is in the folder.
fn holds(folder: &TempDir, names: &[&str]) {
    let found = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    assert_eq!(found, names);
}

#[test]
fn a_socket_has_the_permissions_that_were_asked_for_and_goes_with_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    for mode in [0o660, 0o600, 0o777, 0] {
        let listener = bind_as(&path, &how(mode)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode.into());
        holds(&folder, &["app.sock"]);
        drop(listener);
        holds(&folder, &[]);
    }
}

#[test]
fn a_listener_that_changes_gives_its_file_other_permissions_and_no_others_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    let mut listener = bind(&path).unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    listener.change(&how(0o600)).unwrap();
    assert_eq!(mode(), 0o600);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    let before = mode();
    listener.change(&how(0o777)).unwrap();
    assert_eq!(mode(), before);
}

#[test]
fn clients_connect_and_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut listener = bind(&at(&folder, "app.sock")).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let _client = UnixStream::connect(at(&folder, "app.sock")).unwrap();
    listener.accept().unwrap();
}

#[test]
fn a_file_behind_which_nobody_answers_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    drop(StdListener::bind(&path).unwrap());
    let old = SocketFile::identity(&path).unwrap();
    let listener = bind(&path).unwrap();
    assert_ne!(SocketFile::identity(&path).unwrap(), old);
    holds(&folder, &["app.sock"]);
    UnixStream::connect(&path).unwrap();
    drop(listener);
    holds(&folder, &[]);
}

#[test]
fn where_somebody_answers_nothing_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    let other = StdListener::bind(&path).unwrap();
    for _ in 0..2 {
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        holds(&folder, &["app.sock"]);
    }
    drop(other);
    bind(&path).unwrap();
}

/// Two relays start over one stale file, and the other was faster.
#[test]
fn a_file_that_was_stale_and_has_an_owner_by_now_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    let _other = StdListener::bind(&path).unwrap();
    let socket = unix_socket().unwrap();
    let beside = bind_beside(&socket, &path).unwrap();
    let late = finish(&socket, &beside, &path, &ListenOptions::default(), true);
    assert_eq!(late.unwrap_err().kind(), ErrorKind::AddrInUse);
    UnixStream::connect(&path).unwrap();
}

/// Not to be allowed to connect is no answer either, and is said as it is. Root always is allowed.
#[test]
fn a_socket_that_may_not_be_connected_to_is_somebody() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    drop(StdListener::bind(&path).unwrap());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let (moved, nobody) = (path.clone(), rustix::process::Uid::from_raw(65_534));
    let another = std::thread::spawn(move || {
        let is_root = rustix::thread::set_thread_res_uid(nobody, nobody, nobody).is_ok();
        is_root.then(|| bind(&moved).unwrap_err())
    });
    if let Some(error) = another.join().unwrap() {
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::AddrInUse, None), "{error}");
    }
    assert!(path.exists());
}

/// K22: EAGAIN is no answer, and somebody is there.
#[test]
fn a_full_backlog_is_somebody() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    let other = unix_socket().unwrap();
    rustix::net::bind(&other, &socket_address(path.as_os_str().as_bytes()).unwrap()).unwrap();
    rustix::net::listen(&other, 0).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let probe = rustix::net::connect(unix_socket().unwrap(), &socket_address(path.as_os_str().as_bytes()).unwrap());
    assert_eq!(probe, Err(Errno::AGAIN));
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    holds(&folder, &["app.sock"]);
}

/// Also one of another type: connect(2) says EPROTOTYPE.
#[test]
fn a_datagram_socket_is_somebody() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    let _other = UnixDatagram::bind(&path).unwrap();
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    holds(&folder, &["app.sock"]);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(at(&folder, "file"), "precious").unwrap();
    fs::create_dir(at(&folder, "folder")).unwrap();
    symlink("nowhere", at(&folder, "link")).unwrap();
    for name in ["file", "folder", "link"] {
        let error = bind(&at(&folder, name)).unwrap_err().to_string();
        assert_eq!(error, "there is a file that is no socket", "{name}");
    }
    assert_eq!(fs::read_to_string(at(&folder, "file")).unwrap(), "precious");
    holds(&folder, &["file", "folder", "link"]);
}

#[test]
fn a_file_that_is_not_ours_any_more_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "app.sock");
    let listener = bind(&path).unwrap();
    // Another process has replaced it.
    fs::remove_file(&path).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    drop(listener);
    holds(&folder, &["app.sock"]);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_file_that_was_moved_or_removed_is_nobodys_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (at(&folder, "app.sock"), at(&folder, "moved"));
    let listener = bind(&path).unwrap();
    fs::rename(&path, &elsewhere).unwrap();
    drop(listener);
    holds(&folder, &["moved"]);
}

#[test]
fn a_folder_that_is_missing_or_has_too_long_a_path_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "none/app.sock");
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::NotFound);
    // A path of 107 bytes with a name of one: there is no room for another name beside it.
    let length = UNIX_NAME_MAX - folder.path().as_os_str().len() - 3;
    let long = at(&folder, &"x".repeat(length));
    fs::create_dir(&long).unwrap();
    let error = bind(&long.join("s")).unwrap_err().to_string();
    assert!(error.contains("its folder has too long a path"), "{error}");
    assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
}

#[test]
fn an_abstract_name_has_no_file_and_is_taken_once() {
    let name = format!("\0tproxy-test-{}", std::process::id());
    let listener = bind_to(name.as_bytes(), &how(0o600)).unwrap();
    let again = bind_to(name.as_bytes(), &how(0o600));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(listener);
    bind_to(name.as_bytes(), &how(0o600)).unwrap();
}
