//! Processes that play one end of sessions until they are killed with SIGKILL, one after the other.
//!
//! What a victim sees it tells at once, a line each, through a pipe that is read to its end after the victim's death.
//! So nothing it saw is lost: at the first thing that is wrong it says so and exits by itself, and no victim may do
//! that.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;

use crate::ledger::{Fate, Heard, Ledger, News, Who, Witness};
use crate::peers;
use crate::plan::VICTIM;

/// Sessions that a victim plays at a time.
const THREADS: usize = 4;

/// How a victim exits that has seen something wrong.
const WRONG: i32 = 3;

const ROLE: &str = "TPROXY_SOAK_ROLE";
const FRONT: &str = "TPROXY_SOAK_FRONT";
const SEED: &str = "TPROXY_SOAK_SEED";

/// What victims need.
pub(crate) struct Victims {
    front: SocketAddr,
    listener: TcpListener,
    ledger: Arc<Ledger>,
    round: u64,
    living: Vec<Victim>,
}

impl Victims {
    /// They connect to `front`, and accept from `listener`.
    pub(crate) fn new(front: SocketAddr, listener: &TcpListener, ledger: &Arc<Ledger>, seed: u64) -> Self {
        let listener = listener.try_clone().unwrap();
        Self { front, listener, ledger: Arc::clone(ledger), round: seed << 20, living: Vec::new() }
    }

    /// Kills those that live and starts others: a client and an upstream.
    pub(crate) fn next_round(&mut self) {
        self.kill();
        self.round += 1;
        self.living = [Who::Client, Who::Upstream].map(|who| self.start(who)).into();
    }

    /// Kills those that live.
    pub(crate) fn kill(&mut self) {
        self.living.drain(..).for_each(|victim| victim.kill(&self.ledger));
    }

    /// Connections of which a killed upstream may not have known yet whose they were.
    pub(crate) const fn unnamed(&self) -> usize {
        self.round as usize % (1 << 20) * THREADS
    }

    pub(crate) fn start(&self, who: Who) -> Victim {
        let stdin = match who {
            Who::Client => Stdio::null(),
            Who::Upstream => OwnedFd::from(self.listener.try_clone().unwrap()).into(),
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "victim"])
            .env(ROLE, if who == Who::Client { "client" } else { "upstream" })
            .env(FRONT, self.front.to_string())
            .env(SEED, self.round.to_string())
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, ledger) = (child.stderr.take().unwrap(), Arc::clone(&self.ledger));
        Victim { child, reader: thread::spawn(move || retell(told, who, &ledger)) }
    }
}

pub(crate) struct Victim {
    child: Child,
    reader: JoinHandle<()>,
}

impl Victim {
    /// Kills it. That it is dead already, or dies of anything else, is wrong.
    pub(crate) fn kill(mut self, ledger: &Ledger) {
        let before = self.child.try_wait().unwrap();
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        // What it has to say of that itself comes first.
        self.reader.join().unwrap();
        if before.is_some() || status.signal() != Some(Signal::KILL.as_raw()) {
            ledger.accuse(format!("a victim died, and it was not killed: {status}"));
        }
    }
}

/// Passes on what a victim tells; in the end, what was not over was killed.
fn retell(told: impl Read, who: Who, ledger: &Ledger) {
    let mut open = HashMap::new();
    for line in BufReader::new(told).lines() {
        let line = line.unwrap();
        let Some((seed, news)) = parse(&line) else {
            ledger.accuse(format!("a victim ({who:?}) says: {line}"));
            continue;
        };
        match news {
            News::Begun => drop(open.insert(seed, false)),
            News::Finishing => drop(open.insert(seed, true)),
            News::Over(_) => drop(open.remove(&seed)),
            News::Said | News::Through | News::Stalled { .. } | News::Wrong(_) => {}
        }
        ledger.tell(seed, who, news);
    }
    for (seed, finishing) in open {
        ledger.tell(seed, who, News::Over(Fate::Killed { finishing }));
    }
}

/// One line: the seed, a word, and what belongs to it.
fn line(seed: u64, news: &News) -> String {
    let what = match news {
        News::Begun => "begun".to_owned(),
        News::Finishing => "finishing".to_owned(),
        News::Said => "said".to_owned(),
        News::Through => "through".to_owned(),
        News::Stalled { stuck } => format!("stalled {stuck}"),
        News::Over(Fate::Stayed { count, heard: Heard::Fin, refused }) => format!("fin {count} {refused}"),
        News::Over(Fate::Stayed { count, heard: Heard::Reset, refused }) => format!("reset {count} {refused}"),
        News::Over(Fate::Left { count }) => format!("left {count}"),
        News::Over(Fate::Killed { finishing }) => format!("killed {finishing}"),
        News::Wrong(what) => format!("wrong {}", what.replace('\n', " ")),
    };
    format!("{seed:x} {what}\n")
}

fn parse(line: &str) -> Option<(u64, News)> {
    let mut words = line.splitn(3, ' ');
    let seed = u64::from_str_radix(words.next()?, 16).ok()?;
    let (word, rest) = (words.next()?, words.next().unwrap_or_default());
    let stayed = |heard| {
        let (count, refused) = rest.split_once(' ')?;
        Some(Fate::Stayed { count: count.parse().ok()?, heard, refused: refused.parse().ok()? })
    };
    let news = match word {
        "begun" => News::Begun,
        "finishing" => News::Finishing,
        "said" => News::Said,
        "through" => News::Through,
        "stalled" => News::Stalled { stuck: rest.parse().ok()? },
        "fin" => News::Over(stayed(Heard::Fin)?),
        "reset" => News::Over(stayed(Heard::Reset)?),
        "left" => News::Over(Fate::Left { count: rest.parse().ok()? }),
        "killed" => News::Over(Fate::Killed { finishing: rest.parse().ok()? }),
        "wrong" => News::Wrong(rest.to_owned()),
        _ => return None,
    };
    Some((seed, news))
}

/// The victim's end of the pipe.
struct Pipe;

impl Witness for Pipe {
    fn tell(&self, seed: u64, _: Who, news: News) {
        // One write, shorter than PIPE_BUF: it is there as a whole or not at all, whenever the end comes.
        std::io::stderr().write_all(line(seed, &news).as_bytes()).unwrap();
        if matches!(news, News::Wrong(_)) {
            std::process::exit(WRONG);
        }
    }

    /// Nobody tells a victim, so it stalls for a fixed time.
    fn await_through(&self, _: u64, _: Who, wait: Duration) -> Option<bool> {
        crate::pause(wait);
        Some(false)
    }
}

/// The life of a victim: sessions, one after the other, until it is killed.
pub(crate) fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    peers::prepare();
    let client = role == "client";
    let front = std::env::var(FRONT).unwrap().parse().unwrap();
    let next = AtomicU64::new(VICTIM | crate::wanted(SEED, 0) << 24);
    thread::scope(|scope| {
        for i in 0..THREADS {
            let next = &next;
            scope.spawn(move || {
                let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
                loop {
                    if client {
                        peers::client(front, 200 + i, next.fetch_add(1, Ordering::Relaxed), &Pipe);
                    } else {
                        peers::upstream(listener.accept().unwrap().0, false, &Pipe);
                    }
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, kill_process};

    use super::*;
    use crate::plan::{End, Plan};
    use crate::ways::Way;

    fn victims(front: &TcpListener) -> (Victims, Arc<Ledger>, TcpListener) {
        let (ledger, listener) = (Arc::new(Ledger::default()), TcpListener::bind("127.0.0.1:0").unwrap());
        (Victims::new(front.local_addr().unwrap(), &listener, &ledger, 1), ledger, listener)
    }

    #[test]
    fn what_is_told_in_a_line_is_what_is_read_from_it() {
        let stayed = |heard| Fate::Stayed { count: 7, heard, refused: true };
        for news in [
            News::Begun,
            News::Finishing,
            News::Said,
            News::Through,
            News::Stalled { stuck: true },
            News::Over(stayed(Heard::Fin)),
            News::Over(stayed(Heard::Reset)),
            News::Over(Fate::Left { count: 1 << 40 }),
            News::Over(Fate::Killed { finishing: false }),
            News::Wrong("a byte".to_owned()),
        ] {
            assert_eq!(parse(line(VICTIM | 5, &news).trim_end()), Some((VICTIM | 5, news)));
        }
        assert_eq!(parse("thread panicked at"), None);
    }

    #[test]
    fn a_wrong_byte_that_a_victim_saw_is_heard_of() {
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let (victims, ledger, _listener) = victims(&front);
        let victim = victims.start(Who::Client);
        // Here answers no relay. Sessions that do not listen end before they notice.
        thread::spawn(move || {
            for stream in front.incoming() {
                let _ = stream.unwrap().write_all(&[0; 64 << 10]);
            }
        });
        until(|| ledger.wrong().is_some());
        victim.kill(&ledger);
        let wrong = ledger.wrong().unwrap();
        assert!(wrong.contains("are not those that were sent"), "{wrong}");
    }

    #[test]
    fn a_wrong_byte_that_an_upstream_saw_is_heard_of() {
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let (victims, ledger, listener) = victims(&front);
        let victim = victims.start(Who::Upstream);
        let to = listener.local_addr().unwrap();
        let listens = |seed: &u64| Plan::new(*seed).upstream.end == End::Fin && Way::of(*seed) == Way::Plain;
        let seed = (1..).find(listens).unwrap();
        let mut stream = std::net::TcpStream::connect(to).unwrap();
        stream.write_all(&seed.to_be_bytes()).unwrap();
        stream.write_all(&[0; 9]).unwrap();
        until(|| ledger.wrong().is_some());
        victim.kill(&ledger);
        let wrong = ledger.wrong().unwrap();
        assert!(wrong.contains("are not those that were sent"), "{wrong}");
    }

    #[test]
    fn a_victim_that_dies_by_itself_is_heard_of() {
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let (victims, ledger, _listener) = victims(&front);
        let mut victim = victims.start(Who::Upstream);
        kill_process(Pid::from_child(&victim.child), Signal::TERM).unwrap();
        until(|| victim.child.try_wait().unwrap().is_some());
        victim.kill(&ledger);
        assert!(ledger.wrong().unwrap().contains("was not killed"), "{:?}", ledger.wrong());
    }

    #[test]
    fn what_a_killed_victim_had_begun_was_killed() {
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let (victims, ledger, _listener) = victims(&front);
        let victim = victims.start(Who::Client);
        let (mut stream, mut seed) = (front.accept().unwrap().0, [0; 8]);
        stream.read_exact(&mut seed).unwrap();
        victim.kill(&ledger);
        assert_eq!(ledger.wrong(), None);
        let seed = u64::from_be_bytes(seed);
        ledger.tell(seed, Who::Upstream, News::Over(Fate::Left { count: 0 }));
        assert_eq!((ledger.wrong(), ledger.close(0)), (None, Ok(())));
    }

    fn until(mut done: impl FnMut() -> bool) {
        assert!((0..1000).any(|_| {
            crate::pause(Duration::from_millis(10));
            done()
        }));
    }
}
