//! A machine of its own: a network namespace, and files that a relay there finds in /etc.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// Its network has loopback only, until more is added. It goes with this.
pub(crate) struct Machine {
    name: String,
    etc: TempDir,
}

/// What a relay of a machine finds in its /etc.
const FILES: [&str; 3] = ["hosts", "resolv.conf", "nsswitch.conf"];

/// Runs a test on a machine of its own. The calling thread stays where it is.
pub(crate) fn on_a_machine(test: impl FnOnce(&Machine) + Send) {
    let machine = Machine::new();
    let ran = thread::scope(|scope| {
        let run = || {
            let namespace = File::open(format!("/run/netns/{}", machine.name)).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            test(&machine);
        };
        scope.spawn(run).join()
    });
    ran.unwrap_or_else(|panic| resume_unwind(panic));
}

impl Machine {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tpm{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let machine = Self { name, etc: TempDir::new().unwrap() };
        ip(&["-n", &machine.name, "link", "set", "lo", "up"]);
        machine.write("hosts", "");
        machine.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n");
        machine.write("nsswitch.conf", "hosts: files dns\n");
        machine
    }

    /// From now on, /etc/hosts says this.
    pub(crate) fn hosts(&self, lines: &[&str]) {
        self.write("hosts", &lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }

    /// Reading /etc/hosts takes for ever, as on a file server that is gone. Only for relays that start later.
    pub(crate) fn hang_hosts(&self) {
        fs::remove_file(self.path("hosts")).unwrap();
        run(Command::new("mkfifo").arg(self.path("hosts")));
    }

    /// Adds a device that carries nothing anywhere, with these addresses and networks.
    pub(crate) fn add_dead_device(&self, networks: &[&str]) {
        let name = self.name.as_str();
        ip(&["-n", name, "tuntap", "add", "dev", "dead", "mode", "tun"]);
        for network in networks {
            let nodad: &[_] = if network.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["-n", name, "address", "add", network, "dev", "dead"], nodad].concat());
        }
        ip(&["-n", name, "link", "set", "dead", "up"]);
    }

    /// What starts a program on this machine. It becomes that program, and the number of the process stays.
    pub(crate) fn command(&self, program: &str) -> Command {
        let binds = FILES.map(|file| format!("mount --bind {} /etc/{file}", self.path(file).display()));
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{} && exec \"$0\" \"$@\"", binds.join(" && ")), program]);
        command.env_remove("RES_OPTIONS").env_remove("LOCALDOMAIN");
        command
    }

    /// A folder that goes with this machine.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.etc.path()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.etc.path().join(file)
    }

    /// In place: the relay has this very file mounted. The length stays, so that nobody finds an empty one meanwhile.
    fn write(&self, file: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(self.path(file)).unwrap();
        file.write_all(format!("{text:\n<16384}").as_bytes()).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) {
    let done = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.success(), "{command:?}: {done} (root is needed)");
}
