//! The two ends of a session: each does what the plan says and checks what the plan allows.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};

use crate::plan::{End, Noise, Plan, Script};

/// Bit of a seed that says its client may be killed at any moment.
const VICTIM: u64 = 1 << 63;

/// Clients in a process that will be killed.
const VICTIM_CLIENTS: usize = 4;

/// The longest any peer waits for a byte.
const LIMIT: Duration = Duration::from_secs(20);

const CLIENT: &str = "client";
const UPSTREAM: &str = "upstream";

static NOISE: LazyLock<Noise> = LazyLock::new(Noise::new);

/// What was verified.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sessions: AtomicU64,
    bytes: AtomicU64,
    fins: AtomicU64,
    resets: AtomicU64,
    killed: AtomicU64,
    wrong: Mutex<Option<String>>,
}

impl Tally {
    /// Sessions that an upstream has seen the end of.
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Bytes compared, at either end.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The first thing that was wrong ends the soak.
    pub(crate) fn panic_if_wrong(&self) {
        let wrong = self.wrong.lock().unwrap().clone();
        assert_eq!(wrong.as_deref().unwrap_or("nothing"), "nothing", "is wrong");
    }

    fn wrong(&self, plan: &Plan, who: &str, what: impl fmt::Display) {
        let mut wrong = self.wrong.lock().unwrap();
        wrong.get_or_insert_with(|| format!("seed {:#x}, {who}: {what}\n{plan:#?}", plan.seed));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gb = count(&self.bytes) as f64 / 1e9;
        write!(f, "verified {} connections and {gb:.1} GB: ", self.sessions())?;
        write!(f, "{} FINs, {} resets, ", count(&self.fins), count(&self.resets))?;
        write!(f, "{} with a client that was killed", count(&self.killed))
    }
}

/// One session, as the client. The thread's number chooses a source address, so that ports suffice.
pub(crate) fn client(front: SocketAddr, thread: usize, seed: u64, tally: &Tally) {
    let plan = Plan::new(seed);
    let stream = match connect_from(Ipv4Addr::new(127, 0, 1, thread as u8), front) {
        Ok(stream) => stream,
        Err(error) => return tally.wrong(&plan, "client", format_args!("cannot connect: {error}")),
    };
    // The seed is the first word; should the upstream already be gone, reading will tell.
    let _ = (&stream).write_all(&seed.to_be_bytes());
    play(stream, &plan, Role { name: CLIENT, key: seed }, tally);
}

/// One session, as the upstream.
pub(crate) fn upstream(stream: TcpStream, tally: &Tally) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let mut seed = [0; 8];
    // A client that was killed, or reset its connection at once, may not have come so far.
    if (&stream).read_exact(&mut seed).is_ok() {
        let seed = u64::from_be_bytes(seed);
        let plan = Plan::new(seed);
        play(stream, &plan, Role { name: UPSTREAM, key: !seed }, tally);
        tally.killed.fetch_add(u64::from(seed & VICTIM != 0), Ordering::Relaxed);
    }
    tally.sessions.fetch_add(1, Ordering::Relaxed);
}

/// Which end of the session, with its stream's key.
#[derive(Debug, Clone, Copy)]
struct Role {
    name: &'static str,
    key: u64,
}

/// Does what `ours` says, and checks that what is heard is allowed by `theirs`.
fn play(stream: TcpStream, plan: &Plan, role: Role, tally: &Tally) {
    let is_client = role.name == CLIENT;
    let (ours, theirs) = if is_client { (&plan.client, &plan.upstream) } else { (&plan.upstream, &plan.client) };
    // More than the path can hold: if the other end writes too, who does not read meanwhile would wait for ever.
    let bulk = ours.length.max(theirs.length) > 32 << 10 && (plan.duplex || theirs.end != End::Fin);
    let heard = std::thread::scope(|scope| {
        let say = || say(&stream, ours, role, tally, plan);
        let listen = || listen(&stream, theirs, !role.key);
        if ours.end != End::Fin {
            // It is off as soon as it has said its piece, whatever it was told.
            say();
            return None;
        }
        let (told, (count, heard)) = if bulk {
            let said = scope.spawn(say);
            let heard = listen();
            (said.join().unwrap(), heard)
        } else if plan.duplex || is_client {
            (say(), listen())
        } else {
            let heard = listen();
            (say(), heard)
        };
        // An error is told once: if a write was told of the reset, the reads after it only look like the end (K2).
        let reset = heard == Heard::Fin && told == Some(ErrorKind::ConnectionReset);
        Some((count, if reset { Heard::Reset } else { heard }))
    });
    if ours.end == End::Reset {
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
    drop(stream);
    if let Some((count, heard)) = heard {
        tally.bytes.fetch_add(count as u64, Ordering::Relaxed);
        judge(plan, theirs, count, heard, role.name, tally);
    }
}

/// Says everything, then finishes if the script ends so. A reset of the other end cuts it short, and is told once.
fn say(stream: &TcpStream, script: &Script, Role { name, key }: Role, tally: &Tally, plan: &Plan) -> Option<ErrorKind> {
    let mut at = 0;
    while at < script.length {
        let mut end = (at + script.chunk).min(script.length);
        let result = match script.urgent {
            Some(urgent) if urgent == at => {
                end = at + 1;
                let sent = rustix::net::send(stream, NOISE.bytes(key, at, 1), SendFlags::OOB | SendFlags::NOSIGNAL);
                sent.map(drop).map_err(io::Error::from)
            }
            urgent => {
                end = urgent.filter(|urgent| (at..end).contains(urgent)).unwrap_or(end);
                let mut stream = stream;
                stream.write_all(NOISE.bytes(key, at, end - at))
            }
        };
        if let Err(error) = result {
            if plan.is_clean() && plan.seed & VICTIM == 0 {
                tally.wrong(plan, name, format_args!("cannot write byte {at}: {error}"));
            }
            return Some(error.kind());
        }
        at = end;
    }
    if script.end == End::Fin {
        // Not connected any more: reading tells why.
        let _ = stream.shutdown(Shutdown::Write);
    }
    None
}

/// How a stream was heard to end.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Fin,
    Reset,
    Wrong(String),
}

/// Reads to the end and compares every byte.
fn listen(mut stream: &TcpStream, script: &Script, key: u64) -> (usize, Heard) {
    let mut room = vec![0; if script.dribbles { 1 << 10 } else { 64 << 10 }];
    let mut at = 0;
    loop {
        match stream.read(&mut room) {
            Ok(0) => return (at, Heard::Fin),
            Ok(count) if room[..count] != *NOISE.bytes(key, at, count) => {
                return (at, Heard::Wrong(format!("the {count} bytes from {at} on are not those that were sent")));
            }
            Ok(count) => at += count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (at, Heard::Reset),
            Err(error) => return (at, Heard::Wrong(format!("after {at} bytes: {error}"))),
        }
        if script.dribbles {
            crate::pause(Duration::from_millis(1));
        }
    }
}

/// Is that what the plan allows to be heard?
fn judge(plan: &Plan, theirs: &Script, count: usize, heard: Heard, who: &str, tally: &Tally) {
    let killed = plan.seed & VICTIM != 0 && who == UPSTREAM;
    match heard {
        Heard::Wrong(what) => tally.wrong(plan, who, what),
        // A FIN means that everything was said. Whoever is killed has said what it has said.
        Heard::Fin if count != theirs.length && !killed => {
            tally.wrong(plan, who, format_args!("a FIN after {count} of {} bytes", theirs.length));
        }
        Heard::Fin if theirs.end == End::Reset && !killed => tally.wrong(plan, who, "a FIN that nobody sent"),
        Heard::Reset if plan.is_clean() && plan.seed & VICTIM == 0 => {
            tally.wrong(plan, who, format_args!("a reset after {count} bytes, and nobody reset anything"));
        }
        _ if count > theirs.length => tally.wrong(plan, who, format_args!("{count} of {} bytes", theirs.length)),
        Heard::Fin => drop(tally.fins.fetch_add(1, Ordering::Relaxed)),
        Heard::Reset => drop(tally.resets.fetch_add(1, Ordering::Relaxed)),
    }
}

/// Connects from this address of the loopback network.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
    rustix::net::connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Processes that play clients and are killed one after the other.
pub(crate) struct Victims {
    front: SocketAddr,
    round: u64,
    living: Option<Child>,
}

impl Victims {
    pub(crate) fn new(front: SocketAddr, seed: u64) -> Self {
        Self { front, round: seed << 20, living: None }
    }

    /// Kills the one that lives and starts another.
    pub(crate) fn kill_one(&mut self) {
        self.kill();
        self.round += 1;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "victim"])
            .env("TPROXY_SOAK_VICTIM", self.front.to_string())
            .env("TPROXY_SOAK_SEED", self.round.to_string())
            .stdout(Stdio::null())
            .spawn();
        self.living = Some(child.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.living.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Victims {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The life of a victim: sessions, one after the other, until it is killed.
pub(crate) fn play_victim() {
    let Ok(front) = std::env::var("TPROXY_SOAK_VICTIM") else { return };
    let front = front.parse().unwrap();
    let seed = crate::wanted("TPROXY_SOAK_SEED", 0);
    let next = AtomicU64::new(VICTIM | seed << 24);
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for i in 0..VICTIM_CLIENTS {
            let (next, tally) = (&next, &tally);
            scope.spawn(move || {
                loop {
                    client(front, 200 + i, next.fetch_add(1, Ordering::Relaxed), tally);
                }
            });
        }
    });
}
