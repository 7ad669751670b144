//! `--port-file`: how another program learns the port.

use std::fs;
use std::net::SocketAddr;

use crate::patience::until;
use crate::peers::{Upstream, client, finish, relayed};
use crate::process::{Newborn, relay_to, tproxy};

#[test]
fn a_quiet_relay_on_a_port_of_the_kernels_choice_can_be_found() {
    let upstream = Upstream::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("port");
    // What a relay before has left is gone before this one listens.
    fs::write(&path, "127.0.0.1:1\n").unwrap();
    let mut relay = Newborn::of(relay_to(upstream.address).with(["-q", "--port-file", path.to_str().unwrap()]));
    let address: SocketAddr = until("the port file", || {
        let text = fs::read_to_string(&path).ok().filter(|text| text != "127.0.0.1:1\n")?;
        Some(text.strip_suffix('\n').expect("the file is whole").parse().unwrap())
    });
    assert!(address.ip().is_loopback() && address.port() > 1, "{address}");
    let near = client(address);
    let far = upstream.accept();
    relayed(&near, &far, b"hello");
    finish(&near);
    finish(&far);
    relay.signal(rustix::process::Signal::TERM);
    assert_eq!(relay.code(), 0);
}

#[test]
fn a_relay_that_cannot_listen_leaves_no_file_of_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("port");
    let taken = Upstream::new();
    // A number in --pid-file may be another program's by now.
    for option in ["--port-file", "--pid-file"] {
        fs::write(&path, "127.0.0.1:1\n").unwrap();
        let finished = tproxy(["-f", &taken.address.to_string(), "-t", "127.0.0.1:9", option, path.to_str().unwrap()]);
        assert_eq!((finished.code, path.exists()), (3, false), "{option}: {finished:?}");
    }
}

#[test]
fn what_is_no_regular_file_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let finished = tproxy(["-f", "127.0.0.1:0", "-t", "127.0.0.1:9", "--port-file", path]);
    assert_eq!(finished.code, 2, "{finished:?}");
    let line = finished.stderr.join("\n");
    assert!(line.contains("--port-file") && line.contains("no regular file"), "{line}");
    assert!(folder.path().is_dir());
}

#[test]
fn a_port_file_that_cannot_be_written_ends_the_relay() {
    let finished = tproxy(["-f", "127.0.0.1:0", "-t", "127.0.0.1:9", "--port-file", "/no/such/folder/port"]);
    assert_eq!(finished.code, 2, "{finished:?}");
    assert!(finished.stderr.join("\n").contains(" --port-file /no/such/folder/port: No such file"), "{finished:?}");
}

#[test]
fn a_stdout_that_takes_no_port_is_named() {
    let finished = relay_to("127.0.0.1:9").with(["--port-file", "-"]).after_shell("exec >/dev/full").run();
    assert_eq!(finished.code, 2, "{finished:?}");
    assert!(finished.stderr.join("\n").contains(" --port-file -: No space left on device"), "{finished:?}");
}
