//! SIGHUP reads the file again.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::patience::until;
use crate::peers::{Ended, Upstream, client, end_of, finish, hear, is_refused, relayed, say};
use crate::served::Served;

/// A file, the relay that was started with it, and the port file of that.
struct Setup {
    folder: TempDir,
    relay: Served,
}

/// A route to there, named so. The kernel chooses its port.
fn route(name: &str, to: impl ToString) -> String {
    route_from(name, "127.0.0.1:0", to)
}

fn route_from(name: &str, from: impl ToString, to: impl ToString) -> String {
    format!("[[route]]\nname = \"{name}\"\nfrom = \"{}\"\nto = \"{}\"\n", from.to_string(), to.to_string())
}

impl Setup {
    fn new(text: &str) -> Self {
        Self::with(text, &[])
    }

    /// With these words beside the file.
    fn with(text: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(&folder), text).unwrap();
        let (file, ports) = (path(&folder), ports(&folder));
        let mut all = vec!["-c", file.to_str().unwrap(), "--port-file", ports.to_str().unwrap()];
        all.extend(arguments);
        let relay = Served::with(&all);
        let setup = Self { folder, relay };
        // It is written when it listens.
        until("the port file", || ports.exists().then_some(()));
        assert_eq!(setup.listed(), setup.relay.addresses);
        setup
    }

    /// The file says this from now on. It is whole at each moment.
    fn write(&self, text: &str) {
        let beside = self.folder.path().join("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path(&self.folder)).unwrap();
    }

    /// The file says this from now on, and the relay is told. Returns what came of it.
    fn reload(&self, text: &str) -> String {
        self.write(text);
        let before = self.said().len();
        self.relay.signal(Signal::HUP);
        until("what came of the reload", || self.said().get(before).cloned())
    }

    /// All that was said about reloads.
    fn said(&self) -> Vec<String> {
        let lines = self.relay.log.lines().into_iter();
        lines.filter(|line| line.contains("] reloaded: ") || line.contains("] not reloaded, ")).collect()
    }

    /// The addresses in the port file.
    fn listed(&self) -> Vec<SocketAddr> {
        let text = fs::read_to_string(ports(&self.folder)).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Waits until the port file has so many addresses, which it has a moment after the log has its line.
    fn listens_at<const N: usize>(&self) -> [SocketAddr; N] {
        until("the port file to be written", || self.listed().try_into().ok())
    }

    fn stop(mut self) {
        assert_eq!(self.relay.stop(), 0);
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("relay.toml")
}

fn ports(folder: &TempDir) -> PathBuf {
    folder.path().join("ports")
}

/// A session through this listener, whose upstream is this one, from its beginning to its end.
fn leads_to(upstream: &Upstream, listener: SocketAddr) {
    let near = client(listener);
    let far = upstream.accept();
    relayed(&near, &far, b"hello");
    finish(&near);
    finish(&far);
    assert_eq!((end_of(&near), end_of(&far)), (Ended::Fin, Ended::Fin));
}

#[test]
fn a_route_that_is_added_is_served_and_the_first_keeps_its_listener_and_its_session() {
    let (one, two) = (Upstream::new(), Upstream::new());
    let setup = Setup::new(&route("one", one.address));
    let first = setup.relay.addresses[0];
    let near = client(first);
    let far = one.accept();
    relayed(&near, &far, b"before");
    let said = setup.reload(&[route("one", one.address), route("two", two.address)].concat());
    let expected = "INFO  [tproxy] reloaded: 1 route kept, 1 added, 0 removed; 0 sessions continue under old settings";
    assert!(said.ends_with(expected), "{said}");
    let [kept, added] = setup.listens_at();
    assert_eq!(kept, first);
    assert!(setup.relay.log.with("route=two: listening on ")[0].contains(&added.to_string()));
    relayed(&far, &near, b"after");
    leads_to(&one, kept);
    leads_to(&two, added);
    finish(&near);
    finish(&far);
    setup.relay.log.wait_for(" session route=one client=");
    setup.relay.log.wait_for(" session route=two client=");
    setup.stop();
}

#[test]
fn a_removed_route_s_listener_closes_and_its_session_goes_on() {
    let (one, two) = (Upstream::new(), Upstream::new());
    let setup = Setup::new(
        &[route_from("one", "127.0.0.1:0", one.address), route_from("two", "127.0.0.2:0", two.address)].concat(),
    );
    let [kept, removed] = setup.listens_at();
    let near = client(removed);
    let far = two.accept();
    let said = setup.reload(&route("one", one.address));
    assert!(
        said.ends_with("reloaded: 1 route kept, 0 added, 1 removed; 1 session continues under old settings"),
        "{said}"
    );
    assert_eq!(setup.listens_at(), [kept]);
    until("the removed listener to close", || is_refused(removed).then_some(()));
    relayed(&near, &far, b"hello");
    relayed(&far, &near, b"hello");
    leads_to(&one, kept);
    finish(&near);
    finish(&far);
    assert_eq!((end_of(&near), end_of(&far)), (Ended::Fin, Ended::Fin));
    setup.relay.log.wait_for(" session route=two client=");
    // A client that came before the listener closed is in its queue.
    drop(two);
    setup.stop();
}

#[test]
fn a_route_that_leads_elsewhere_keeps_its_listener_and_its_session_keeps_its_upstream() {
    let (one, two) = (Upstream::new(), Upstream::new());
    let setup = Setup::new(&route("one", one.address));
    let [listener] = setup.listens_at();
    let near = client(listener);
    let far = one.accept();
    let said = setup.reload(&route("one", two.address));
    let expected = "reloaded: 0 routes kept, 1 changed, 0 added, 0 removed; 1 session continues under old settings";
    assert!(said.ends_with(expected), "{said}");
    leads_to(&two, listener);
    relayed(&near, &far, b"hello");
    finish(&near);
    finish(&far);
    assert_eq!((end_of(&near), end_of(&far)), (Ended::Fin, Ended::Fin));
    assert_eq!(setup.listed(), [listener]);
    setup.stop();
}

#[test]
fn a_file_with_an_error_changes_nothing_and_is_told_in_one_line_with_its_place() {
    let upstream = Upstream::new();
    let text = route("one", upstream.address);
    let setup = Setup::new(&text);
    let [listener] = setup.listens_at();
    let file = path(&setup.folder).display().to_string();
    for (wrong, place) in [
        (format!("{text}idle-timeout = \"soon\"\n"), ":5:16: idle-timeout = \"soon\": write a time"),
        (format!("{text}[[route]]\nfrom = \":1\"\n"), ":5:1: this route has no to; write to = "),
        (format!("buffer = 1\n{text}"), ":1:1: there is no key \"buffer\""),
        // The first of two.
        (
            format!("{text}[[route]]\nfrom = \":1\"\n[[route]]\nto = \"a:1\"\n"),
            ":5:1: this route has no to; write to = ",
        ),
        ("[[route\n".to_owned(), ":1:8: this is not TOML: "),
        (String::new(), ":1:1: there is no route"),
    ] {
        let before = setup.relay.log.lines().len();
        let said = setup.reload(&wrong);
        assert!(said.contains(&format!(" WARN  [tproxy] not reloaded, nothing has changed: {file}{place}")), "{said}");
        leads_to(&upstream, listener);
        // That line, and the session's.
        let lines =
            until("the session's line", || Some(setup.relay.log.lines()).filter(|lines| lines.len() >= before + 2));
        assert_eq!(lines.len(), before + 2, "{lines:?}");
        assert_eq!(setup.listed(), [listener]);
    }
    let before = setup.said().len();
    fs::remove_file(path(&setup.folder)).unwrap();
    setup.relay.signal(Signal::HUP);
    let said = until("what came of the reload", || setup.said().get(before).cloned());
    assert!(said.ends_with(&format!("--config {file}: No such file or directory (os error 2)")), "{said}");
    leads_to(&upstream, listener);
    setup.stop();
}

#[test]
fn an_address_that_cannot_be_bound_changes_nothing() {
    let (one, two, taken) = (Upstream::new(), Upstream::new(), Upstream::new());
    let setup = Setup::new(&[route("one", one.address), route("two", two.address)].concat());
    let before: [_; 2] = setup.listens_at();
    // The first would lead elsewhere, the second is removed, and one could be bound.
    let text = [route("one", two.address), route_from("three", "127.0.0.2:0", one.address)].concat();
    let said = setup.reload(&[text, route_from("four", taken.address, one.address)].concat());
    let expected = format!("WARN  [tproxy] not reloaded, nothing has changed: cannot listen on {}: ", taken.address);
    assert!(said.contains(&expected) && said.contains("in use"), "{said}");
    assert_eq!(setup.listed(), before);
    leads_to(&one, before[0]);
    leads_to(&two, before[1]);
    setup.stop();
}

#[test]
fn what_is_one_for_the_process_needs_a_restart_and_the_command_line_wins_again() {
    let upstream = Upstream::new();
    let text = route("one", upstream.address);
    let setup = Setup::with(&format!("drain-timeout = \"1s\"\n{text}"), &["--buffer-size", "8k"]);
    setup.relay.log.wait_for("buffers of 8 KiB");
    let said = setup.reload(&format!("buffer-size = \"16k\"\ndrain-timeout = \"1s\"\n{text}"));
    assert!(
        said.ends_with("reloaded: 1 route kept, 0 added, 0 removed; 0 sessions continue under old settings"),
        "{said}"
    );
    let said = setup.reload(&format!("buffer-size = \"16k\"\ndrain-timeout = \"2s\"\n{text}"));
    assert!(said.ends_with("old settings; drain-timeout needs a restart"), "{said}");
    let said = setup.reload(&format!("max-sessions = 7\nsplice = \"off\"\nresolve-ttl = \"1s\"\n{text}"));
    let keys = "max-sessions, splice, drain-timeout, resolve-ttl need a restart";
    assert!(said.ends_with(&format!("old settings; {keys}")), "{said}");
    leads_to(&upstream, setup.relay.addresses[0]);
    setup.stop();
}

#[test]
fn while_it_drains_a_reload_is_refused_with_one_line() {
    let (one, two) = (Upstream::new(), Upstream::new());
    let text = route("one", one.address);
    let mut setup = Setup::new(&text);
    let near = client(setup.relay.addresses[0]);
    let far = one.accept();
    setup.relay.signal(Signal::TERM);
    setup.relay.log.wait_for("draining 1 sessions");
    let said = setup.reload(&[text, route("two", two.address)].concat());
    assert!(said.ends_with(" WARN  [tproxy] not reloaded, nothing has changed: the relay is draining"), "{said}");
    relayed(&near, &far, b"hello");
    finish(&near);
    finish(&far);
    assert_eq!((end_of(&near), end_of(&far)), (Ended::Fin, Ended::Fin));
    assert_eq!(setup.relay.code(), 0);
    assert_eq!((setup.said().len(), setup.relay.log.with("route=two").len()), (1, 0));
}

/// Those that come while a reload goes on are one more. Each that comes after is one.
#[test]
fn many_sighups_in_a_row_are_no_trouble() {
    let upstream = Upstream::new();
    let text = route("one", upstream.address);
    let setup = Setup::new(&text);
    let [first] = setup.listens_at();
    let near = client(first);
    let far = upstream.accept();
    let both = [text.clone(), route("two", upstream.address)].concat();
    for round in 0..10 {
        setup.write(if round % 2 == 0 { &both } else { &text });
        (0..20).for_each(|_| setup.relay.signal(Signal::HUP));
    }
    setup.write(&[text, route("last", upstream.address)].concat());
    setup.relay.signal(Signal::HUP);
    setup.relay.log.wait_for("route=last: listening on ");
    let [kept, last] = setup.listens_at();
    assert_eq!(kept, first);
    relayed(&near, &far, b"hello");
    finish(&near);
    finish(&far);
    leads_to(&upstream, first);
    leads_to(&upstream, last);
    let said = setup.said();
    assert!((1..=201).contains(&said.len()) && said.iter().all(|line| line.contains(" reloaded: ")), "{said:?}");
    setup.stop();
}

#[test]
fn a_reload_starts_no_second_built_in_server() {
    let setup = Setup::new(&route("one", "echo:"));
    let servers = || setup.relay.threads().iter().filter(|name| *name == "echo").count();
    let echoes = |listener| {
        let near = client(listener);
        say(&near, b"hello");
        assert_eq!(hear(&near, 5), b"hello");
        near
    };
    let near = echoes(setup.relay.addresses[0]);
    assert_eq!(servers(), 1);
    let said = setup.reload(&[route("one", "echo:"), route("two", "echo:")].concat());
    assert!(
        said.ends_with("reloaded: 1 route kept, 1 added, 0 removed; 0 sessions continue under old settings"),
        "{said}"
    );
    for listener in setup.listens_at::<2>() {
        finish(&echoes(listener));
    }
    assert_eq!(servers(), 1);
    finish(&near);
    assert_eq!(end_of(&near), Ended::Fin);
    setup.stop();
}

#[test]
fn a_port_file_that_cannot_be_written_is_told_and_the_relay_goes_on() {
    let upstream = Upstream::new();
    let text = route("one", upstream.address);
    let setup = Setup::new(&text);
    let [listener] = setup.listens_at();
    fs::remove_file(ports(&setup.folder)).unwrap();
    fs::create_dir(ports(&setup.folder)).unwrap();
    setup.reload(&text);
    let line = setup.relay.log.wait_for("--port-file");
    assert!(line.contains(" WARN ") && line.contains("is no regular file; choose another path"), "{line}");
    leads_to(&upstream, listener);
    setup.stop();
}

/// A change that is not applied is said.
#[test]
fn a_key_of_the_process_that_changed_is_named() {
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("relay.toml");
    let write = |top: &str| {
        let route = format!("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"{}\"\n", upstream.address);
        fs::write(&file, format!("{top}{route}")).unwrap();
    };
    write("");
    let mut relay = Served::with(&["-c", file.to_str().unwrap()]);
    write("log-format = \"json\"\n");
    relay.signal(Signal::HUP);
    assert!(relay.log.wait_for("a restart").ends_with("] log-format needs a restart"));
    assert_eq!(relay.stop(), 0);
}

/// The port file has the listeners of now, also when a key beside them takes a restart.
#[test]
fn a_key_that_takes_a_restart_keeps_nothing_else_back() {
    let upstream = Upstream::new();
    let setup = Setup::new(&route("one", upstream.address));
    let both = format!(
        "buffer-size = \"8k\"\nport-file = \"/elsewhere\"\n{}{}",
        route("one", upstream.address),
        route("two", upstream.address)
    );
    let said = setup.reload(&both);
    assert!(said.contains("1 added") && said.ends_with("buffer-size needs a restart"), "{said}");
    let [_, second] = setup.listens_at();
    leads_to(&upstream, second);
    setup.stop();
}
