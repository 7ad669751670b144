//! Unix sockets as a person meets them: their files, what the log says, and what is wrong with a path.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::patience::{LIMIT, until};
use crate::peers::Nobody;
use crate::process::tproxy;
use crate::served::Served;

struct Setup {
    folder: TempDir,
    upstream: UnixListener,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = UnixListener::bind(folder.path().join("upstream")).unwrap();
        // accept(2) has a limit too.
        sockopt::set_socket_timeout(&upstream, Timeout::Recv, Some(LIMIT)).unwrap();
        Self { folder, upstream }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// A relay from `front` to `upstream`.
    fn start(&self, more: &[&str]) -> Served {
        let (from, to) = (self.address("front"), self.address("upstream"));
        Served::with(&[&["-f", &from, "-t", &to], more].concat())
    }

    /// A client says a word and hears one.
    fn talk(&self) {
        let mut near = limited(UnixStream::connect(self.path("front")).unwrap());
        let mut far = limited(self.upstream.accept().unwrap().0);
        for is_up in [true, false] {
            let (from, to) = if is_up { (&mut near, &mut far) } else { (&mut far, &mut near) };
            from.write_all(b"word").unwrap();
            from.shutdown(std::net::Shutdown::Write).unwrap();
            let mut heard = Vec::new();
            to.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, b"word");
        }
    }
}

fn limited(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_log_says_which_process_and_which_user_came() {
    let setup = Setup::new();
    let mut relay = setup.start(&[]);
    assert!(relay.log.wait_for("listening on").contains(&setup.address("front")));
    setup.talk();
    let line = relay.log.wait_for("session ");
    let (pid, uid) = (std::process::id(), rustix::process::getuid().as_raw());
    let words = format!("client=unix:pid={pid},uid={uid} upstream={} up=4 down=4 ", setup.address("upstream"));
    assert!(line.contains(&words) && line.ends_with(" end=client-eof"), "{line}");
    assert_eq!(relay.stop(), 0);
    assert!(!setup.path("front").exists());
}

#[test]
fn the_file_has_the_permissions_that_were_asked_for() {
    for (arguments, expected) in [(&[][..], 0o660), (&["--unix-mode", "600"], 0o600), (&["--unix-mode", "0777"], 0o777)]
    {
        let setup = Setup::new();
        let mut relay = setup.start(arguments);
        assert_eq!(mode(&setup.path("front")), expected);
        setup.talk();
        relay.stop();
    }
}

#[test]
fn what_a_relay_that_was_killed_left_is_replaced() {
    let setup = Setup::new();
    let mut relay = setup.start(&[]);
    relay.signal(Signal::KILL);
    relay.killed();
    assert!(setup.path("front").exists());
    let mut relay = setup.start(&[]);
    setup.talk();
    assert_eq!(relay.stop(), 0);
    assert!(!setup.path("front").exists());
}

#[test]
fn a_relay_does_not_take_the_socket_of_another() {
    let setup = Setup::new();
    let mut relay = setup.start(&[]);
    let finished = tproxy(["-f", &setup.address("front"), "-t", &setup.address("upstream")]);
    assert_eq!(finished.code, 3, "{finished:?}");
    let line = finished.stderr.join("\n");
    assert!(line.contains("Address already in use") && line.contains("choose another path"), "{line}");
    // To find out whether somebody answers is to connect.
    drop(setup.upstream.accept().unwrap());
    setup.talk();
    relay.stop();
}

#[test]
fn a_relay_leaves_the_socket_that_has_replaced_its_own() {
    let setup = Setup::new();
    let mut relay = setup.start(&[]);
    fs::remove_file(setup.path("front")).unwrap();
    let other = UnixListener::bind(setup.path("front")).unwrap();
    let inode = fs::metadata(setup.path("front")).unwrap().ino();
    assert_eq!(relay.stop(), 0);
    assert_eq!(fs::metadata(setup.path("front")).unwrap().ino(), inode);
    drop(other);
}

#[test]
fn what_cannot_be_listened_on_is_said_in_one_line() {
    let setup = Setup::new();
    fs::write(setup.path("file"), "precious").unwrap();
    for (from, code, words) in [
        (setup.address("file"), 3, "there is a file that is no socket (choose another path, or remove it)"),
        (setup.address("none/front"), 3, "(its folder is not there)"),
        (setup.address(&"x".repeat(108)), 2, "has at most 107 bytes"),
        ("unix:".to_owned(), 2, "write unix:/run/app.sock or unix:@name"),
        (format!("{}:80", setup.address("front")), 2, "a Unix socket has no port; leave out :80"),
        ("unix:front".to_owned(), 2, "write unix:/front"),
        (setup.address("upstream"), 2, "this relay itself"),
    ] {
        let to = if words == "this relay itself" {
            drop(fs::remove_file(setup.path("upstream")));
            setup.address("upstream")
        } else {
            "127.0.0.1:9".to_owned()
        };
        let finished = tproxy(["-f", &from, "-t", &to]);
        let errors: Vec<_> = finished.stderr.iter().filter(|line| line.contains(words)).collect();
        assert_eq!((finished.code, errors.len()), (code, 1), "{from}: {finished:?}");
    }
    assert_eq!(fs::read_to_string(setup.path("file")).unwrap(), "precious");
    assert!(!setup.path("upstream").exists(), "what was bound is removed");
}

#[test]
fn a_mode_that_is_none_is_said() {
    let finished = tproxy(["-f", "unix:/x", "-t", "127.0.0.1:9", "--unix-mode", "rw"]);
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.join("\n").contains("such as 660"), "{finished:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    fs::write(&file, "unix-mode = 0o660\n[[route]]\nfrom = \"unix:/x\"\nto = \"unix:/y\"\n").unwrap();
    let finished = tproxy(["--check", "-c", file.to_str().unwrap()]);
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.join("\n").contains("in quotes"), "{finished:?}");
}

#[test]
fn a_check_takes_them_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let front = folder.path().join("front");
    let from = format!("unix:{},unix:@tproxy-check", front.display());
    let finished = tproxy(["--check", "-f", &from, "-t", "unix:/none,localhost:80"]);
    assert_eq!((finished.code, finished.stdout.trim_end()), (0, "the command line is correct: 2 listeners"));
    assert!(!front.exists());
}

/// K22: EAGAIN, no event, and the endpoint is not down.
#[test]
fn a_backlog_that_stays_full_is_a_connection_that_takes_too_long() {
    let setup = Setup::new();
    let path = setup.path("full");
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let relay = Served::with(&["-f", "127.0.0.1:0", "-t", &setup.address("full"), "--connect-timeout", "300ms", "-v"]);
    let client = std::net::TcpStream::connect(relay.addresses[0]).unwrap();
    let line = relay.log.wait_for("session ");
    assert!(line.ends_with(" end=connect-timeout"), "{line}");
    assert!(relay.log.with("is down").is_empty());
    // Again and again, and not all the time: 10 ms, doubling to 100 ms.
    let tries = relay.log.with("cannot connect to unix:").len();
    assert!((3..=8).contains(&tries), "{tries}");
    drop(client);
}

#[test]
fn a_reload_keeps_the_socket_of_a_route_that_stays_and_removes_that_of_another() {
    let setup = Setup::new();
    let file = setup.path("relay.toml");
    let route = |name: &str, more: &str| {
        format!("[[route]]\nfrom = \"{}\"\nto = \"{}\"\n{more}", setup.address(name), setup.address("upstream"))
    };
    fs::write(&file, [route("front", ""), route("other", "")].concat()).unwrap();
    let ports = setup.path("ports");
    let mut relay = Served::with(&["-c", file.to_str().unwrap(), "--port-file", ports.to_str().unwrap()]);
    let listed = || fs::read_to_string(&ports).unwrap_or_default();
    let both = format!("{}\n{}\n", setup.address("front"), setup.address("other"));
    until("the port file", || (listed() == both).then_some(()));
    let inode = fs::metadata(setup.path("front")).unwrap().ino();
    fs::write(&file, route("front", "connect-timeout = \"1s\"\n")).unwrap();
    relay.signal(Signal::HUP);
    let line = relay.log.wait_for("reloaded: ");
    assert!(line.contains("0 routes kept, 1 changed, 0 added, 1 removed"), "{line}");
    until("the other to close", || (!setup.path("other").exists()).then_some(()));
    until("the port file", || (listed() == format!("{}\n", setup.address("front"))).then_some(()));
    assert_eq!(fs::metadata(setup.path("front")).unwrap().ino(), inode);
    setup.talk();
    // And back again.
    fs::write(&file, [route("front", ""), route("other", "")].concat()).unwrap();
    relay.signal(Signal::HUP);
    until("the other to be there", || setup.path("other").exists().then_some(()));
    assert_eq!(fs::metadata(setup.path("front")).unwrap().ino(), inode);
    assert_eq!(relay.stop(), 0);
    assert!(!setup.path("front").exists() && !setup.path("other").exists());
}

/// What it had bound before it failed is closed again.
#[test]
fn a_reload_that_fails_leaves_no_socket_behind() {
    let setup = Setup::new();
    let file = setup.path("relay.toml");
    let route = |from: &str| format!("[[route]]\nfrom = \"{from}\"\nto = \"{}\"\n", setup.address("upstream"));
    let front = route(&setup.address("front"));
    fs::write(&file, &front).unwrap();
    let mut relay = Served::with(&["-c", file.to_str().unwrap()]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let impossible = route(&taken.local_addr().unwrap().to_string());
    fs::write(&file, [&front, &route(&setup.address("other")), &impossible].map(String::as_str).concat()).unwrap();
    relay.signal(Signal::HUP);
    relay.log.wait_for("not reloaded, nothing has changed");
    assert!(!setup.path("other").exists() && setup.path("front").exists());
    setup.talk();
    assert_eq!(relay.stop(), 0);
}

/// `--deny` and `--max-sessions-per-ip` are about IP addresses.
#[test]
fn limits_of_ip_addresses_are_not_for_clients_of_unix_sockets() {
    let setup = Setup::new();
    let mut relay = setup.start(&["--allow", "192.0.2.1", "--deny", "0.0.0.0/0,::/0", "--max-sessions-per-ip", "1"]);
    let _first = UnixStream::connect(setup.path("front")).unwrap();
    let _upstream = setup.upstream.accept().unwrap();
    setup.talk();
    drop((_first, _upstream));
    relay.stop();
}

#[test]
fn a_unix_socket_may_be_a_spare_of_a_tcp_one() {
    let setup = Setup::new();
    let dead = Nobody::new();
    let from = setup.address("front");
    let to = format!("{},{}", dead.address, setup.address("upstream"));
    let mut relay = Served::with(&["-f", &from, "-t", &to]);
    setup.talk();
    relay.stop();
}
