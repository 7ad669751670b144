//! SIGUSR2: the program is started once more and takes the place of the one before.

mod failing;
mod systemd;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::admin::get_through;
use crate::patience::{skipped, until};
use crate::peers::{Ended, Upstream, client, end_of, finish, is_refused, relayed};
use crate::pid_file::{PidFile, pid_of, read_pid};
use crate::process::{TPROXY, undisturbed};
use crate::served::Served;

/// A relay whose program is a link, which can lead to another.
struct Setup {
    pid_file: PidFile,
    folder: TempDir,
    upstream: Upstream,
    relay: Served,
    address: SocketAddr,
}

impl Setup {
    /// With these variables of the environment and these words.
    fn with(variables: &[(&str, &Path)], words: &[&str]) -> Self {
        let (folder, upstream) = (tempfile::tempdir().unwrap(), Upstream::new());
        let program = folder.path().join("tproxy");
        symlink(TPROXY, &program).unwrap();
        let mut command = Command::new(&program);
        undisturbed(&mut command).envs(variables.iter().copied());
        // Relative to a folder that is another for whoever starts it later.
        command.current_dir(folder.path()).args(["-f", "127.0.0.1:0,unix:./app.sock", "-t"]);
        command.arg(upstream.address.to_string()).args(["--pid-file", "pid"]).args(words);
        Self::of(folder, upstream, command)
    }

    /// The pid file of this command is the one in the folder.
    fn of(folder: TempDir, upstream: Upstream, command: Command) -> Self {
        let relay = Served::of(command);
        let address = relay.addresses[0];
        let pid_file = PidFile::of(folder.path().join("pid"), relay.id());
        Self { pid_file, folder, upstream, relay, address }
    }

    fn new() -> Self {
        Self::with(&[], &[])
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    /// The program is another from now on.
    fn replace_program(&self, with: impl AsRef<Path>) {
        let beside = self.folder.path().join("new");
        symlink(with, &beside).unwrap();
        fs::rename(beside, self.folder.path().join("tproxy")).unwrap();
    }

    /// It does this from now on.
    fn replace_by_script(&self, script: &str) {
        let path = self.folder.path().join("script");
        // Another process writes it: a descriptor of ours could be open in a child of another test, and what is open for
        // writing cannot be executed (ETXTBSY).
        let text = format!("#!/bin/sh\n{script}\n");
        let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("sh").args(["-c", write]).arg(&path).arg(text).status().unwrap().success());
        self.replace_program(path);
    }

    /// The process that has taken over from this one.
    fn successor_of(&self, pid: u32) -> u32 {
        self.pid_file.successor_of(pid)
    }

    /// A client is served.
    fn serves(&self) {
        let near = client(self.address);
        let far = self.upstream.accept();
        relayed(&near, &far, b"hello");
        finish(&near);
        finish(&far);
        assert_eq!(end_of(&near), Ended::Fin);
    }

    /// A client of the Unix socket too.
    fn serves_its_file(&self) {
        let near = UnixStream::connect(self.socket()).unwrap();
        let far = self.upstream.accept();
        drop(near);
        assert_eq!(end_of(&far), Ended::Fin);
    }

    /// `--admin` in the folder answers.
    fn shows_its_inside(&self) {
        let answer = get_through(self.folder.path().join("admin.sock"), "/readyz");
        assert_eq!(answer, (200, "ready\n".to_owned()));
    }
}

#[test]
fn sessions_go_on_and_new_clients_are_served_by_the_new_process() {
    let mut setup = Setup::new();
    let first = setup.relay.id();
    let near = client(setup.address);
    let far = setup.upstream.accept();
    relayed(&near, &far, b"before");
    setup.relay.signal(Signal::USR2);
    let second = setup.successor_of(first);
    setup.relay.log.wait_for(&format!("process {second} has the listeners and serves"));
    setup.serves();
    relayed(&far, &near, b"still there");
    // And once more: the new one hands over as the first did.
    kill_process(pid_of(second), Signal::USR2).unwrap();
    let third = setup.successor_of(second);
    setup.relay.log.wait_for(&format!("process {third} has the listeners and serves"));
    setup.serves();
    finish(&near);
    finish(&far);
    assert_eq!(end_of(&near), Ended::Fin);
    assert_eq!(setup.relay.status().code(), Some(0));
    // The file of the Unix socket is the new one's by now.
    setup.serves_its_file();
    kill_process(pid_of(third), Signal::TERM).unwrap();
    until("the socket file to go", || (!setup.socket().exists()).then_some(()));
    until("a client to be refused", || is_refused(setup.address).then_some(()));
}

#[test]
fn one_process_after_the_other_has_the_same_limit_and_no_other_descriptors() {
    let mut setup = Setup::new();
    let open = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let mut pid = setup.relay.id();
    let mut counts = vec![];
    for _ in 0..3 {
        kill_process(pid_of(pid), Signal::USR2).unwrap();
        pid = setup.successor_of(pid);
        setup.relay.log.wait_for(&format!("process {pid} has the listeners and serves"));
        // Its threads that begin have descriptors for a moment.
        let expected = counts.first().copied();
        let is_expected = |count: &usize| expected.is_none_or(|first| *count == first) && *count == open(pid);
        let rests = || until("the new process to be at rest", || Some(open(pid)).filter(is_expected));
        counts.push(if expected.is_none() { until_same(|| open(pid)) } else { rests() });
    }
    let limit = |line: &String| line.rsplit_once("up to ").unwrap().1.to_owned();
    let lines =
        until("four lines", || Some(setup.relay.log.with("listening on 127.0.0.1")).filter(|all| all.len() == 4));
    let limits: Vec<_> = lines.iter().map(limit).collect();
    assert!(limits.iter().all(|limit| *limit == limits[0]), "{limits:?}");
    setup.relay.status();
}

/// A count that stays for a hundred looks.
fn until_same(look: impl Fn() -> usize) -> usize {
    until("a count that stays", || {
        let first = look();
        (0..100).all(|_| look() == first).then_some(first)
    })
}

#[test]
fn a_relay_that_drains_hands_nothing_over() {
    let mut setup = Setup::new();
    let near = client(setup.address);
    let far = setup.upstream.accept();
    setup.relay.signal(Signal::TERM);
    setup.relay.log.wait_for("draining 1 sessions");
    setup.relay.signal(Signal::USR2);
    assert!(setup.relay.log.wait_for("not handed over").contains("draining"));
    finish(&near);
    finish(&far);
    assert_eq!(setup.relay.code(), 0);
}

/// A file that changes between: what is removed goes with its file, what is lent stays, a mode is another.
#[test]
fn the_new_process_follows_the_file_as_it_is_then() {
    let (folder, upstream) = (tempfile::tempdir().unwrap(), Upstream::new());
    let [config, pid_file, kept, removed] = ["c.toml", "pid", "kept", "removed"].map(|name| folder.path().join(name));
    let lent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lent_at = lent.local_addr().unwrap();
    let route = |from: &str, more: &str| format!("[[route]]\nfrom = \"{from}\"\nto = \"{}\"\n{more}", upstream.address);
    let unix = |path: &Path| format!("unix:{}", path.display());
    let first = [route(&unix(&kept), "unix-mode = \"666\"\n"), route(&unix(&removed), ""), route("fd:3", "")].concat();
    fs::write(&config, first).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 3<&0 </dev/null; exec \"$0\" \"$@\"", TPROXY, "-c"])
        .arg(&config)
        .arg("--pid-file")
        .arg(&pid_file);
    undisturbed(&mut command).stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(lent.try_clone().unwrap())));
    let mut setup = Setup::of(folder, upstream, command);
    let first = setup.relay.id();
    let second = route_of(&setup, &unix(&kept), "unix-mode = \"600\"\n");
    fs::write(&config, &second).unwrap();
    setup.relay.signal(Signal::USR2);
    let new = setup.successor_of(first);
    assert_eq!(setup.relay.status().code(), Some(0));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&kept), removed.exists()), (0o600, false));
    let near = client(lent_at);
    fs::write(&config, second + &route_of(&setup, "fd:3", "")).unwrap();
    kill_process(pid_of(new), Signal::HUP).unwrap();
    setup.relay.log.wait_for("reloaded: 1 route kept, 1 added, 0 removed");
    let far = setup.upstream.accept();
    relayed(&near, &far, b"at last");
}

fn route_of(setup: &Setup, from: &str, more: &str) -> String {
    format!("[[route]]\nfrom = \"{from}\"\nto = \"{}\"\n{more}", setup.upstream.address)
}

/// A container ends with this process.
#[test]
fn a_relay_that_is_pid_1_hands_nothing_over() {
    let inside = ["--pid", "--fork", "--kill-child"];
    let can = Command::new("unshare").args(inside).arg("true").stderr(std::process::Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        return skipped("only root can make a namespace of processes, with unshare");
    }
    let upstream = Upstream::new();
    let mut command = Command::new("unshare");
    undisturbed(&mut command).args(inside).args([TPROXY, "-f", "127.0.0.1:0", "-t"]);
    command.arg(upstream.address.to_string());
    let relay = Served::of(command);
    let outside = relay.id();
    let children = fs::read_to_string(format!("/proc/{outside}/task/{outside}/children")).unwrap();
    let pid = pid_of(children.trim().parse().unwrap());
    kill_process(pid, Signal::USR2).unwrap();
    let said = relay.log.wait_for("not handed over");
    assert!(said.ends_with("this process is PID 1, and a container ends with it: start another container"), "{said}");
    let near = client(relay.addresses[0]);
    let far = upstream.accept();
    relayed(&near, &far, b"hello");
}

/// The reader of the pipe may have closed it by then.
#[test]
fn the_addresses_are_printed_by_the_first_process_only() {
    let (folder, upstream) = (tempfile::tempdir().unwrap(), Upstream::new());
    let pid_file = folder.path().join("pid");
    let mut command = Command::new("sh");
    // One line is read, and the end of the pipe is closed.
    let shell = "\"$0\" \"$@\" | { head -n 1 >&2; exec <&-; echo closed >&2; }";
    undisturbed(&mut command).args(["-c", shell, TPROXY, "-f", "127.0.0.1:0", "-t"]);
    command.arg(upstream.address.to_string()).args(["--port-file", "-", "--pid-file"]).arg(&pid_file);
    // Its process is the shell.
    let relay = Served::of(command);
    let pid_file = PidFile::of(pid_file, relay.id());
    let first = pid_file.pid().unwrap();
    let address = relay.addresses[0];
    relay.log.wait_for("closed");
    assert!(relay.log.lines().contains(&address.to_string()), "it was printed");
    kill_process(pid_of(first), Signal::USR2).unwrap();
    let new = pid_file.successor_of(first);
    relay.log.wait_for(&format!("process {new} has the listeners and serves"));
    let near = client(address);
    let far = upstream.accept();
    relayed(&near, &far, b"hello");
}

/// All descriptors are taken: by sessions, and one more client waits.
#[test]
fn it_works_at_the_limit_of_descriptors() {
    let (folder, upstream) = (tempfile::tempdir().unwrap(), Upstream::new());
    let pid_file = folder.path().join("pid");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", TPROXY, "-f", "127.0.0.1:0", "-t"]);
    undisturbed(&mut command).arg(upstream.address.to_string()).arg("--pid-file").arg(&pid_file);
    let setup = Setup::of(folder, upstream, command);
    let address = setup.address;
    let limit: usize = {
        let line = &setup.relay.log.with("listening on ")[0];
        line.rsplit_once("up to ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
    };
    let sessions: Vec<_> = (0..limit).map(|_| (client(address), setup.upstream.accept())).collect();
    let waiting = client(address);
    setup.relay.log.wait_for("at the limit of");
    assert!(setup.upstream.is_left_alone());
    setup.relay.signal(Signal::USR2);
    setup.successor_of(setup.relay.id());
    // The one that waited is the new process's.
    let far = setup.upstream.accept();
    relayed(&waiting, &far, b"at last");
    for (near, far) in &sessions {
        relayed(near, far, b"still there");
    }
}
