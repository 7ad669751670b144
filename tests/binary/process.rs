//! A relay as a process of its own, which ends with its test.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

use crate::journal::Journal;
use crate::patience::until;
use crate::proc::listening_port;

pub(crate) const TPROXY: &str = env!("CARGO_BIN_EXE_tproxy");

/// What a process looks like before it starts.
pub(crate) struct Plan {
    from: String,
    to: String,
    arguments: Vec<String>,
    /// What a shell does before it becomes the relay.
    shell: Option<String>,
    rust_log: Option<&'static str>,
    /// What strace makes its system calls return.
    injected: Option<&'static str>,
    stderr: Option<Stdio>,
}

/// A relay that listens.
pub(crate) struct Relay {
    pub(crate) process: Process,
    /// Where it listens; of a wildcard, the loopback address of the same family.
    pub(crate) address: SocketAddr,
    pub(crate) log: Journal,
}

/// A relay that leads there, its port chosen by the kernel.
pub(crate) fn relay_to(to: impl ToString) -> Plan {
    let from = "127.0.0.1:0".to_owned();
    Plan { from, to: to.to_string(), arguments: Vec::new(), shell: None, rust_log: None, injected: None, stderr: None }
}

impl Plan {
    pub(crate) fn from(mut self, from: impl ToString) -> Self {
        self.from = from.to_string();
        self
    }

    pub(crate) fn with<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.arguments.extend(arguments.map(str::to_owned));
        self
    }

    pub(crate) fn after_shell(mut self, commands: impl ToString) -> Self {
        self.shell = Some(commands.to_string());
        self
    }

    pub(crate) fn rust_log(mut self, level: &'static str) -> Self {
        self.rust_log = Some(level);
        self
    }

    /// A system call fails as this says (`strace(1)`, inject).
    pub(crate) fn injecting(mut self, fault: &'static str) -> Self {
        self.injected = Some(fault);
        self
    }

    /// Its stderr goes there, and the journal stays empty.
    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Starts it, and waits until it listens and has nothing left to do.
    pub(crate) fn start(self) -> Relay {
        let ip = self.from.parse::<SocketAddr>().unwrap().ip();
        let (process, log) = self.spawn();
        // A relay that died before it listened says why when it is dropped.
        let mut relay = Relay { process, address: SocketAddr::new(ip, 0), log };
        let port = until("the relay to listen", || {
            assert_eq!(relay.process.child.try_wait().unwrap(), None, "it should listen");
            listening_port(relay.process.child.id())
        });
        let reachable = match ip {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        relay.address = SocketAddr::new(reachable, port);
        // Between listening and serving it counts its descriptors, which takes one.
        until("the relay to be ready", || relay.is_asleep().then_some(()));
        relay
    }

    /// Runs it to its end, which is expected soon.
    pub(crate) fn run(self) -> Finished {
        let (mut process, mut log) = self.spawn();
        let code = process.code();
        log.finish();
        Finished { code, stdout: String::new(), stderr: log.lines() }
    }

    fn spawn(self) -> (Process, Journal) {
        let mut command = match (self.shell, self.injected) {
            (None, None) => Command::new(TPROXY),
            (None, Some(fault)) => {
                let mut strace = Command::new("strace");
                // -D: the relay is our child, and the tracer its.
                let call = fault.split(':').next().unwrap_or(fault);
                strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
                strace.args(["-e", &format!("inject={fault}"), TPROXY]);
                strace
            }
            (Some(commands), _) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{commands}; exec \"$0\" \"$@\"")).arg(TPROXY);
                shell
            }
        };
        command.args(["--from", &self.from, "--to", &self.to]).args(&self.arguments);
        undisturbed(&mut command).stdout(Stdio::null());
        if let Some(level) = self.rust_log {
            command.env("RUST_LOG", level);
        }
        command.stderr(self.stderr.unwrap_or_else(Stdio::piped));
        let mut child = command.spawn().unwrap();
        let log = child.stderr.take().map_or_else(Journal::elsewhere, Journal::of);
        (Process { child }, log)
    }
}

/// A process that has ended, and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: Vec<String>,
}

/// Runs `tproxy` with exactly these arguments to its end, which is expected soon.
pub(crate) fn tproxy(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    let mut command = command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process { child: command.spawn().unwrap() };
    let mut log = Journal::of(process.child.stderr.take().unwrap());
    let code = process.code();
    log.finish();
    let mut stdout = String::new();
    // It fits into the pipe, or the process would not have ended.
    process.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    Finished { code, stdout, stderr: log.lines() }
}

/// `tproxy` with exactly these arguments.
pub(crate) fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(TPROXY);
    undisturbed(command.args(arguments));
    command
}

/// Keeps away what the machine around the tests may have set, and bounds what a name server that is silent may take.
pub(crate) fn undisturbed(command: &mut Command) -> &mut Command {
    for variable in
        ["RUST_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "NO_COLOR", "LISTEN_PID"]
    {
        command.env_remove(variable);
    }
    command.env("RES_OPTIONS", "timeout:1 attempts:1").stdin(Stdio::null())
}

/// A child that is gone when this is.
pub(crate) struct Process {
    pub(crate) child: Child,
}

impl Process {
    pub(crate) fn status(&mut self) -> ExitStatus {
        until("the process to end", || self.child.try_wait().unwrap())
    }

    pub(crate) fn code(&mut self) -> i32 {
        let status = self.status();
        status.code().unwrap_or_else(|| panic!("it should have exited, not died of signal {:?}", status.signal()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // By its own id, which is ours until it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.print();
        }
    }
}

impl Relay {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Holds the process still while several things happen to it, which it then finds together.
    pub(crate) fn while_it_stands_still<T>(&self, act: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        until("the process to stand still", || self.states().all(|state| state == 'T').then_some(()));
        let result = act();
        self.signal(Signal::CONT);
        result
    }

    /// Waits until it has ended, and for all it said.
    pub(crate) fn code(&mut self) -> i32 {
        let code = self.process.code();
        self.log.finish();
        code
    }

    /// Waits until it has ended of a signal.
    pub(crate) fn signalled(&mut self) -> i32 {
        self.process.status().signal().expect("it should have died of a signal")
    }

    /// Asks for a stop and waits for the end.
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.code()
    }
}

/// A relay that may not listen yet.
pub(crate) struct Newborn {
    pub(crate) process: Process,
}

impl Newborn {
    pub(crate) fn of(plan: Plan) -> Self {
        Self { process: plan.stderr(Stdio::null()).spawn().0 }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process.child), signal).unwrap();
    }

    /// Does it listen yet?
    pub(crate) fn listens(&self) -> bool {
        listening_port(self.process.child.id()).is_some()
    }

    /// Has it a handler for this signal?
    pub(crate) fn catches(&self, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
    }

    pub(crate) fn code(&mut self) -> i32 {
        self.process.code()
    }
}
