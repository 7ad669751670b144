//! Unix sockets at either end, or at both: what arrives, what each end is told, and what it cannot be told (K20 to K22, K27).

use std::io::{ErrorKind, IoSlice, Read as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sockopt};
use tempfile::TempDir;
use tproxy::net::{Address, Peer};
use tproxy::{Config, Error, Host, ProxyVersion, Relay, ResetGrace, Route, Splice};

use crate::support::*;

/// A relay whose ends are TCP or Unix sockets. A stream of std's takes both.
struct Plug {
    relay: Running,
    front: Option<PathBuf>,
    back: OwnedFd,
    _folder: TempDir,
}

/// Which ends are Unix sockets: the client's, the upstream's.
const KINDS: [[bool; 2]; 3] = [[true, true], [true, false], [false, true]];

fn unix(path: &std::path::Path) -> Address {
    format!("unix:{}", path.display()).parse().unwrap()
}

fn listen(path: &std::path::Path, backlog: i32) -> OwnedFd {
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, backlog).unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(LIMIT)).unwrap();
    socket
}

fn connect(path: &std::path::Path) -> TcpStream {
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    limited(socket.into())
}

/// A relay with these kinds of ends. The control needs a TCP listener, so there is a second route.
fn plug(splice: Splice, [client, upstream]: [bool; 2], change: impl FnOnce(&mut Config)) -> Plug {
    let folder = tempfile::tempdir().unwrap();
    let (front, back) = (folder.path().join("front"), folder.path().join("back"));
    let (to, back): (Host, OwnedFd) = if upstream {
        (unix(&back).into(), listen(&back, 64))
    } else {
        let listener = listener();
        (listener.local_addr().unwrap().into(), listener.into())
    };
    let mut config = config(splice, []);
    config.routes[0].to = vec![to];
    change(&mut config);
    if client {
        let mut route = Route::new(unix(&front), config.routes[0].to.clone());
        route.reset_grace = config.routes[0].reset_grace;
        route.send_proxy = config.routes[0].send_proxy;
        (route.accept_proxy, route.proxy_from) = (config.routes[0].accept_proxy, config.routes[0].proxy_from.clone());
        config.routes.push(route);
    }
    let relay = start_relay(Relay::bind(config).unwrap());
    Plug { relay, front: client.then_some(front), back, _folder: folder }
}

impl Plug {
    fn session(&self) -> (TcpStream, TcpStream) {
        let client = self.front.as_ref().map_or_else(|| self.relay.client(), |path| connect(path));
        (client, self.accept())
    }

    fn accept(&self) -> TcpStream {
        limited(rustix::net::accept(&self.back).unwrap().into())
    }
}

/// Runs a case in every splice mode, with each kind of ends that has a Unix socket at the near end (or, if that is to be,
/// at the far one), both ways round.
fn each(near_is_unix: bool, case: impl Fn(Ends) + Sync) {
    every_mode(|splice| {
        for kinds in KINDS {
            let plug = plug(splice, kinds, |_| {});
            for near in Peer::BOTH {
                if kinds[if near_is_unix { near } else { near.other() } as usize] {
                    let (client, upstream) = plug.session();
                    case(match near {
                        Peer::Client => Ends { near: client, far: upstream },
                        Peer::Upstream => Ends { near: upstream, far: client },
                    });
                }
            }
            plug.relay.stop();
        }
    });
}

fn both_speak(one: &TcpStream, other: &TcpStream, size: usize) {
    let (up, down) = (keyed(1, size), keyed(2, size));
    thread::scope(|scope| {
        for (stream, says) in [(one, &up), (other, &down)] {
            scope.spawn(move || {
                say(stream, says);
                finish(stream);
            });
        }
        scope.spawn(|| assert!(read_all(one) == (down.clone(), Ended::Fin)));
        assert!(read_all(other) == (up.clone(), Ended::Fin));
    });
}

#[test]
fn everything_arrives_both_ways_and_both_ends_are_told_goodbye() {
    each(true, |Ends { near, far }| both_speak(&near, &far, 8 << 20));
}

#[test]
fn a_half_close_is_passed_on_and_the_answer_comes_back() {
    each(true, |Ends { near, far }| {
        say(&near, b"request");
        finish(&near);
        assert_eq!(read_all(&far), (b"request".to_vec(), Ended::Fin));
        both_speak_back(&far, &near);
    });
}

fn both_speak_back(far: &TcpStream, near: &TcpStream) {
    say(far, b"answer");
    finish(far);
    assert_eq!(read_all(near), (b"answer".to_vec(), Ended::Fin));
}

/// K20. The far end must never be told that all was said.
#[test]
fn a_close_over_unread_input_is_a_reset_behind_what_was_said() {
    each(true, |Ends { near, far }| {
        if is_unix(&far) {
            // It can be told only by what it wrote and nobody has read: the test below.
            return;
        }
        say(&far, b"nobody reads this");
        until("it is there", || near.peek(&mut [0]).is_ok());
        say(&near, b"answer");
        drop(near);
        assert_eq!(read_all(&far), (b"answer".to_vec(), Ended::Reset));
    });
}

/// K20: with an upload under way, the first thing that the relay is told is EPIPE, or nothing but a part of a write.
#[test]
fn a_close_over_an_upload_is_never_taken_for_a_clean_end() {
    each(true, |Ends { near, far }| {
        if is_unix(&far) {
            return;
        }
        let far = &far;
        thread::scope(|scope| {
            let mut writer = far.try_clone().unwrap();
            // Until it is told.
            let upload = scope.spawn(move || std::io::copy(&mut std::io::repeat(7), &mut writer).unwrap_err().kind());
            read_exactly(&near, 100_000);
            // Otherwise it has read everything, and the end is clean.
            until("more is there", || near.peek(&mut [0]).is_ok_and(|count| count == 1));
            say(&near, b"answer");
            drop(near);
            let mut said = Vec::new();
            let mut reader = far;
            let ended = reader.read_to_end(&mut said);
            // A reset is told once, to the reader or to the writer (K1). Behind a FIN, the writer is told EPIPE (K16).
            let told = [ended.map_err(|error| error.kind()), Err(upload.join().unwrap())];
            assert!(
                told.contains(&Err(ErrorKind::ConnectionReset)) && b"answer".starts_with(&said),
                "{told:?} {said:?}"
            );
        });
    });
}

fn is_unix(stream: &TcpStream) -> bool {
    sockopt::socket_domain(stream).unwrap() == rustix::net::AddressFamily::UNIX
}

/// K21: all that tells a Unix peer of a reset.
#[test]
fn a_reset_reaches_a_unix_peer_by_what_it_wrote_and_otherwise_looks_like_the_end() {
    each(false, |Ends { near, far }| {
        if is_unix(&near) {
            return;
        }
        // Blocked in the middle of something: the relay does not read on.
        let taken = clog(&far);
        assert!(taken > 0);
        reset(near);
        assert_eq!(throw_away(&far), Ended::Reset);
    });
    each(false, |Ends { near, far }| {
        if is_unix(&near) {
            return;
        }
        say(&near, b"part");
        assert_eq!(read_exactly(&far, 4), b"part");
        reset(near);
        assert_eq!(end_of(&far), Ended::Fin);
    });
}

/// `kill -9` too.
#[test]
fn a_unix_peer_that_goes_without_a_word_has_said_all() {
    each(true, |Ends { near, far }| {
        say(&near, b"last words");
        drop(near);
        assert_eq!(read_all(&far), (b"last words".to_vec(), Ended::Fin));
    });
}

/// K27: a receiver stops behind each message with a descriptor, and no edge follows.
#[test]
fn descriptors_stall_no_flow_and_are_not_passed_on() {
    each(true, |Ends { near, far }| {
        let (entry, exit) = std::io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        let mut expected = Vec::new();
        for number in 0..50_u8 {
            say(&near, &[number; 3]);
            pass(&near, &[number], &entry);
            say(&near, &[number; 1000]);
            expected.extend([number; 1004]);
        }
        finish(&near);
        assert_eq!(read_all(&far), (expected, Ended::Fin));
        // None of them is open anywhere.
        drop(entry);
        let mut exit = exit;
        assert_eq!(exit.read(&mut [0]).unwrap(), 0);
        finish(&far);
        assert_eq!(end_of(&near), Ended::Fin);
    });
}

fn pass(stream: &TcpStream, bytes: &[u8], descriptor: impl AsFd) {
    let descriptors = [descriptor.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
}

#[test]
fn an_urgent_byte_stays_in_its_place() {
    each(true, |Ends { near, far }| {
        let mut expected = Vec::new();
        for number in 0..20_u8 {
            say(&near, &[number; 5]);
            match rustix::net::send(&near, b"!", SendFlags::OOB) {
                Ok(count) => expected.extend([&[number; 5][..], &[b'!'][..count], &[number; 7]].concat()),
                // A kernel without CONFIG_AF_UNIX_OOB.
                Err(rustix::io::Errno::OPNOTSUPP) => expected.extend([number; 12]),
                Err(error) => panic!("{error}"),
            }
            say(&near, &[number; 7]);
        }
        finish(&near);
        assert_eq!(read_all(&far), (expected, Ended::Fin));
    });
}

/// K22: connect says EAGAIN, and no event ever tells when there is room.
#[test]
fn a_full_backlog_is_waited_for() {
    every_mode(|splice| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("back");
        let upstream = listen(&path, 0);
        // One fills it.
        let before = connect(&path);
        let mut config = config(splice, []);
        config.routes[0].to = vec![unix(&path).into()];
        config.routes[0].connect_timeout = LIMIT;
        let relay = start(config);
        let client = relay.client();
        say(&client, b"request");
        linger();
        assert!(relay.is_still_running());
        drop(rustix::net::accept(&upstream).unwrap());
        drop(before);
        let far = limited(rustix::net::accept(&upstream).unwrap().into());
        assert_eq!(read_exactly(&far, 7), b"request");
        both_speak_back(&far, &client);
    });
}

/// A relay that lets each try for itself lets in whoever comes at the right moment.
#[test]
fn a_full_backlog_lets_those_who_wait_in_in_the_order_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("back");
    let upstream = listen(&path, 0);
    let before = connect(&path);
    let mut config = config(Splice::Auto, []);
    config.routes[0].to = vec![unix(&path).into()];
    config.routes[0].connect_timeout = LIMIT;
    let relay = start(config);
    let clients = [(); 5].map(|()| relay.client());
    (0..).zip(&clients).for_each(|(number, client)| say(client, &[number]));
    linger();
    drop((rustix::net::accept(&upstream).unwrap(), before));
    for number in 0..5 {
        let far = limited(rustix::net::accept(&upstream).unwrap().into());
        assert_eq!(read_exactly(&far, 1), [number]);
    }
    drop(clients);
    relay.stop();
}

/// A path may have other names, and what is behind it may have become another's.
#[test]
fn a_reload_knows_our_own_unix_socket_under_another_path_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (front, link) = (folder.path().join("front"), folder.path().join("link"));
    std::os::unix::fs::symlink("front", &link).unwrap();
    let mut config = config(Splice::Auto, ["127.0.0.1:9".parse().unwrap()]);
    config.routes.push(Route::new(unix(&front), config.routes[0].to.clone()));
    let relay = start_relay(Relay::bind(config.clone()).unwrap());
    config.routes[0].to = vec![unix(&link).into()];
    assert!(matches!(relay.control.reload(config.clone()), Err(Error::Loop { .. })));
    std::fs::remove_file(&front).unwrap();
    let _other = listen(&front, 1);
    relay.control.reload(config).unwrap();
    relay.stop();
}

/// K20 and K21 together: the upload that nobody reads is what tells its sender.
#[test]
fn a_unix_client_learns_of_the_reset_of_a_unix_upstream_by_its_upload() {
    let plug = plug(Splice::Auto, [true, true], |config| {
        config.routes[0].reset_grace = ResetGrace::Fixed(Duration::from_millis(50));
    });
    let (client, upstream) = plug.session();
    clog(&client);
    drop(upstream);
    assert_eq!(throw_away(&client), Ended::Reset);
    plug.relay.stop();
}

#[test]
fn a_header_says_by_which_unix_socket_the_client_came() {
    let plug = plug(Splice::Auto, [true, true], |config| config.routes[0].send_proxy = Some(ProxyVersion::V2));
    let (client, upstream) = plug.session();
    let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8".to_vec();
    expected.extend([0; 108]);
    expected.extend(plug.front.as_ref().unwrap().as_os_str().as_encoded_bytes());
    expected.resize(16 + 216, 0);
    assert_eq!(read_exactly(&upstream, expected.len()), expected);
    both_speak(&client, &upstream, 1000);
}

#[test]
fn a_proxy_that_comes_by_a_unix_socket_is_believed_if_it_was_said_so() {
    for (proxies, is_believed) in [("unix", true), ("127.0.0.0/8,::/0", false)] {
        let plug = plug(Splice::Auto, [true, true], |config| {
            config.routes[0].accept_proxy = true;
            config.routes[0].proxy_from = proxies.parse().unwrap();
        });
        let client = connect(plug.front.as_ref().unwrap());
        say(&client, b"PROXY TCP4 192.0.2.7 192.0.2.8 7 8\r\nhello");
        if is_believed {
            assert_eq!(read_exactly(&plug.accept(), 5), b"hello");
        } else {
            assert_eq!(end_of(&client), Ended::Reset);
        }
        drop(client);
        plug.relay.control.stop_now();
    }
}

#[test]
fn an_abstract_name_is_listened_on_and_connected_to() {
    let name = |end: &str| format!("tproxy-contract-{}-{end}", std::process::id());
    let at = |end: &str| SocketAddrUnix::new_abstract_name(name(end).as_bytes()).unwrap();
    let new = || rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    let back = new();
    rustix::net::bind(&back, &at("back")).unwrap();
    rustix::net::listen(&back, 8).unwrap();
    let mut config = config(Splice::Auto, []);
    let to: Address = format!("unix:@{}", name("back")).parse().unwrap();
    config.routes[0].to = vec![to.clone().into()];
    config.routes.push(Route::new(format!("unix:@{}", name("front")).parse::<Address>().unwrap(), [to]));
    let relay = start(config);
    let client = new();
    rustix::net::connect(&client, &at("front")).unwrap();
    let far = limited(rustix::net::accept(&back).unwrap().into());
    both_speak(&limited(client.into()), &far, 100_000);
    relay.stop();
}
