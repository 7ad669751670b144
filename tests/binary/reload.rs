//! SIGHUP with a file: the file is read again, and the relay goes on whatever it says.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::patience::until;
use crate::peers::{Upstream, client, finish, relayed};
use crate::served::Served;

/// A folder with a file of routes, and a port file.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn with(text: &str) -> Self {
        let folder = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(folder.folder.path().join("run")).unwrap();
        folder.write(text);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("relay.toml"), text).unwrap();
    }

    fn serve(&self) -> Served {
        let (file, ports) = (self.path("relay.toml"), self.path("run/ports"));
        Served::with(&["-c", file.to_str().unwrap(), "--port-file", ports.to_str().unwrap()])
    }

    fn ports(&self) -> Vec<String> {
        fs::read_to_string(self.path("run/ports")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn route(from: &str, to: &Upstream) -> String {
    format!("[[route]]\nfrom = \"{from}\"\nto = \"{}\"\n", to.address)
}

#[test]
fn sighup_reads_the_file_again_and_the_port_file_follows() {
    let (first, second) = (Upstream::new(), Upstream::new());
    let folder = Folder::with(&route("127.0.0.1:0", &first));
    let mut relay = folder.serve();
    let before = relay.addresses[0];
    until("the port file", || (folder.ports() == [before.to_string()]).then_some(()));
    let near = client(before);
    let far = first.accept();
    folder.write(&(route("127.0.0.1:0", &second) + &route("127.0.0.2:0", &first)));
    relay.signal(Signal::HUP);
    relay.log.wait_for(
        "reloaded: 0 routes kept, 1 changed, 1 added, 0 removed; 1 session continues under old settings",
    );
    let ports = until("the second address", || Some(folder.ports()).filter(|ports| ports.len() == 2));
    assert_eq!(ports[0], before.to_string());
    for (listener, upstream) in [(before, &second), (ports[1].parse().unwrap(), &first)] {
        let near = client(listener);
        let far = upstream.accept();
        finish(&near);
        finish(&far);
    }
    relayed(&near, &far, b"as before");
    finish(&near);
    finish(&far);
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.with(" session route=127.0.0.").len(), 3);
}

#[test]
fn a_wrong_file_changes_nothing_and_its_first_error_is_told_in_one_line() {
    let upstream = Upstream::new();
    let right = route("127.0.0.1:0", &upstream);
    let folder = Folder::with(&right);
    let mut relay = folder.serve();
    folder.write("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"a\"\n[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"b\"\n");
    relay.signal(Signal::HUP);
    let line = relay.log.wait_for("not reloaded, nothing has changed: ");
    let place = format!("{}:3:6: to = \"a\": the port is missing", folder.path("relay.toml").display());
    assert!(line.contains("WARN") && line.contains(&place), "{line}");
    fs::remove_file(folder.path("relay.toml")).unwrap();
    relay.signal(Signal::HUP);
    relay.log.wait_for("relay.toml: No such file");
    let near = client(relay.addresses[0]);
    let far = upstream.accept();
    folder.write(&right);
    relay.signal(Signal::HUP);
    relay.log.wait_for("reloaded: 1 route kept, 0 added, 0 removed; 0 sessions continue");
    relayed(&near, &far, b"as before");
    finish(&near);
    finish(&far);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_port_file_that_cannot_be_written_at_a_reload_is_told_and_the_relay_goes_on() {
    let upstream = Upstream::new();
    let folder = Folder::with(&route("127.0.0.1:0", &upstream));
    let mut relay = folder.serve();
    until("the port file", || (folder.ports().len() == 1).then_some(()));
    fs::remove_dir_all(folder.path("run")).unwrap();
    relay.signal(Signal::HUP);
    relay.log.wait_for("reloaded: 1 route kept");
    let line = relay.log.wait_for("--port-file");
    assert!(line.contains("WARN") && line.contains("run/ports: No such file"), "{line}");
    let near = client(relay.addresses[0]);
    let far = upstream.accept();
    finish(&near);
    finish(&far);
    assert_eq!(relay.stop(), 0);
}
