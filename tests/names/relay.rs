//! The relay's process, and a client of it.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::machine::Machine;
use crate::patience::{LIMIT, timed, until};

const TPROXY: &str = env!("CARGO_BIN_EXE_tproxy");

/// A relay that listens. It ends with this.
pub(crate) struct Relay {
    child: Child,
    /// Where it listens, route by route.
    pub(crate) addresses: Vec<SocketAddr>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// One on this machine, with these arguments.
    pub(crate) fn on(machine: &Machine, arguments: &[&str]) -> Self {
        Self::start(machine.command(TPROXY), arguments)
    }

    /// One where the tests run.
    pub(crate) fn here(arguments: &[&str]) -> Self {
        let mut command = Command::new(TPROXY);
        // Bounds what a name server that is silent may take.
        command.env("RES_OPTIONS", "timeout:1 attempts:1");
        Self::start(command, arguments)
    }

    fn start(command: Command, arguments: &[&str]) -> Self {
        let (mut relay, told) = Self::spawn(command, arguments);
        let listeners = arguments.iter().filter(|argument| **argument == "-f").count();
        relay.addresses = (0..listeners)
            .map(|_| told.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("it should listen")))
            .map(|line| line.parse().unwrap())
            .collect();
        relay
    }

    /// One that ends by itself. Returns its exit code.
    pub(crate) fn start_in_vain(machine: &Machine, arguments: &[&str]) -> i32 {
        Self::spawn(machine.command(TPROXY), arguments).0.code()
    }

    /// One that does not listen yet.
    pub(crate) fn begin(machine: &Machine, arguments: &[&str]) -> Self {
        Self::spawn(machine.command(TPROXY), arguments).0
    }

    /// One that may not listen yet, and what it writes to stdout.
    fn spawn(mut command: Command, arguments: &[&str]) -> (Self, Receiver<String>) {
        command.args(arguments).args(["--port-file", "-"]).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (tell, told) = channel();
        each_line(child.stdout.take().unwrap(), move |line| {
            let _ = tell.send(line);
        });
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let pile = Arc::clone(&lines);
        each_line(child.stderr.take().unwrap(), move |line| pile.lock().unwrap().push(line));
        (Self { child, addresses: Vec::new(), lines }, told)
    }

    /// What the only client of this listener is told until the end, or why not all of it.
    pub(crate) fn ask(&self, listener: usize) -> io::Result<String> {
        told(&self.try_connect(listener)?)
    }

    pub(crate) fn connect(&self, listener: usize) -> TcpStream {
        self.try_connect(listener).unwrap()
    }

    /// It may be reset as soon as it is connected.
    fn try_connect(&self, listener: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.addresses[listener], LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line of the log that contains all these.
    pub(crate) fn wait_for(&self, parts: &[&str]) -> String {
        let has_all = |line: &String| parts.iter().all(|part| line.contains(part));
        until(&format!("a line with {parts:?}"), || self.lines().into_iter().find(has_all))
    }

    /// Threads that look names up at this moment.
    pub(crate) fn resolver_threads(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One may have ended meanwhile.
        let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "resolver").count()
    }

    /// How often its threads went to sleep. One that is woken and sleeps again has made a system call.
    pub(crate) fn sleeps(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let sleeps = tasks.map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
            count.trim().parse::<u64>().unwrap()
        });
        sleeps.sum()
    }

    /// Asks for a stop. Returns the exit code, and how long it took.
    pub(crate) fn stop(&mut self) -> (i32, Duration) {
        timed(|| {
            kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
            self.code()
        })
    }

    /// Waits until it has ended.
    fn code(&mut self) -> i32 {
        let status = until("the relay to end", || self.child.try_wait().unwrap());
        status.code().unwrap_or_else(|| panic!("it should have exited: {status}"))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.lines().iter().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// What is said on a connection until its end, or why not all of it.
pub(crate) fn told(mut stream: &TcpStream) -> io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn each_line(stream: impl Read + Send + 'static, mut act: impl FnMut(String) + Send + 'static) {
    thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).for_each(&mut act));
}
