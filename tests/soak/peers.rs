//! The two ends of a session: each does what the plan says, compares what it reads, and tells what became of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};

use crate::ledger::{Fate, Heard, News, Who, Witness};
use crate::plan::{End, Noise, Plan, Script};
use crate::ways::{HEADER, Way};

/// The longest any peer waits for a byte.
const LIMIT: Duration = Duration::from_secs(20);

/// A stall lasts as long as the other direction takes, and at least so long, for the queues behind it to fill up.
const STALL: Duration = Duration::from_millis(100);

static NOISE: LazyLock<Noise> = LazyLock::new(Noise::new);

/// Makes the noise now, so that no session waits for it.
pub(crate) fn prepare() {
    LazyLock::force(&NOISE);
}

/// One session, as the client. The thread's number chooses a source address, so that ports suffice.
pub(crate) fn client(front: SocketAddr, thread: usize, seed: u64, witness: &dyn Witness) {
    let plan = Plan::new(seed);
    witness.tell(seed, Who::Client, News::Begun);
    let source = Ipv4Addr::new(127, 0, 1, thread as u8);
    let stream = match connect(source, front, plan.is_armed(Who::Client)) {
        Ok(stream) => stream,
        Err(error) => return witness.tell(seed, Who::Client, News::Wrong(format!("cannot connect: {error}"))),
    };
    // The seed is the first word; should the upstream already be gone, reading will tell.
    let words = [Way::of(seed).greeting(), &seed.to_be_bytes()].concat();
    // A header may come in pieces.
    let (first, rest) = words.split_at(seed as usize % words.len());
    let _ = (&stream).write_all(first).and_then(|()| (&stream).write_all(rest));
    Peer { stream, plan: &plan, who: Who::Client, witness }.play();
}

/// One session, as the upstream. Its socket is armed, as its listener is: until it is closed in order, it ends in a
/// reset.
pub(crate) fn upstream(stream: TcpStream, has_header: bool, witness: &dyn Witness) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let (mut header, mut seed) = ([0; HEADER], [0; 8]);
    // A client that was killed, or reset its connection at once, may not have come so far.
    let is_headed = !has_header || (&stream).read_exact(&mut header).is_ok();
    if is_headed && (&stream).read_exact(&mut seed).is_ok() {
        let seed = u64::from_be_bytes(seed);
        witness.tell(seed, Who::Upstream, News::Begun);
        let way = Way::of(seed);
        if way.has_header() != has_header || (has_header && !way.is_true(&header)) {
            return witness.tell(seed, Who::Upstream, News::Wrong(format!("{way:?} with the header {header:x?}")));
        }
        Peer { stream, plan: &Plan::new(seed), who: Who::Upstream, witness }.play();
    }
}

/// An end, in its session.
struct Peer<'a> {
    stream: TcpStream,
    plan: &'a Plan,
    who: Who,
    witness: &'a dyn Witness,
}

impl Peer<'_> {
    /// Does what its script says, and tells what became of it.
    fn play(self) {
        let (ours, theirs) = (self.ours(), self.theirs());
        let bulk = ours.length.max(theirs.length) > 32 << 10 && (self.plan.duplex || theirs.end != End::Fin);
        let end = std::thread::scope(|scope| {
            if ours.end != End::Fin && theirs.stall.is_none() {
                // It is off as soon as it has said its piece, whatever it was told.
                self.say();
                return self.glance().map(|count| Fate::Left { count });
            }
            let (refusal, heard) = if bulk {
                // More than the path can hold: if the other end writes too, who does not read meanwhile waits for ever.
                let said = scope.spawn(|| self.say());
                let heard = self.listen();
                (said.join().unwrap(), heard)
            } else if self.plan.duplex || self.who == Who::Client {
                (self.say(), self.listen())
            } else {
                let heard = self.listen();
                (self.say(), heard)
            };
            let (count, heard) = heard?;
            // An error is told once: if a write was told of the reset, the reads after it only look like the end (K2).
            let reset = refusal == Some(ErrorKind::ConnectionReset);
            Ok(match heard {
                None => Fate::Left { count },
                Some(Heard::Fin) if reset => Fate::Stayed { count, heard: Heard::Reset, refused: true },
                Some(heard) => Fate::Stayed { count, heard, refused: refusal.is_some() },
            })
        });
        let fate = match end {
            Ok(fate) => fate,
            Err(what) => return self.tell(News::Wrong(what)),
        };
        if ours.end == End::CloseUnread {
            self.tell(News::Finishing);
        }
        let armed = (ours.end == End::Reset).then_some(Duration::ZERO);
        sockopt::set_socket_linger(&self.stream, armed).unwrap();
        let (seed, who, witness) = (self.plan.seed, self.who, self.witness);
        drop(self);
        witness.tell(seed, who, News::Over(fate));
    }

    fn ours(&self) -> &Script {
        self.plan.script(self.who)
    }

    fn theirs(&self) -> &Script {
        self.plan.script(self.who.other())
    }

    /// Names the stream that this end writes.
    fn key(&self, who: Who) -> u64 {
        match who {
            Who::Client => self.plan.seed,
            Who::Upstream => !self.plan.seed,
        }
    }

    fn tell(&self, news: News) {
        self.witness.tell(self.plan.seed, self.who, news);
    }

    /// Says everything, then finishes if the script ends so. If the other end is gone that may fail: says how.
    fn say(&self) -> Option<ErrorKind> {
        let (script, key) = (self.ours(), self.key(self.who));
        let mut at = 0;
        while at < script.length {
            let mut end = (at + script.chunk).min(script.length);
            let result = match script.urgent {
                Some(urgent) if urgent == at => {
                    end = at + 1;
                    let flags = SendFlags::OOB | SendFlags::NOSIGNAL;
                    let sent = rustix::net::send(&self.stream, NOISE.bytes(key, at, 1), flags);
                    sent.map(drop).map_err(io::Error::from)
                }
                urgent => {
                    end = urgent.filter(|urgent| (at..end).contains(urgent)).unwrap_or(end);
                    (&self.stream).write_all(NOISE.bytes(key, at, end - at))
                }
            };
            if let Err(error) = result {
                if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
                    self.tell(News::Wrong(format!("cannot write byte {at}: {error}")));
                }
                return Some(error.kind());
            }
            at = end;
        }
        if script.stall.is_some() {
            self.tell(News::Said);
        }
        if script.end == End::Fin {
            self.tell(News::Finishing);
            // Not connected any more: reading tells why.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        None
    }

    /// Reads to the end and compares every byte. It is `None` for who leaves after a stall.
    fn listen(&self) -> Result<(usize, Option<Heard>), String> {
        let script = self.theirs();
        let mut room = vec![0; if script.dribbles { 1 << 10 } else { 64 << 10 }];
        let (mut at, mut stall) = (0, script.stall);
        loop {
            if stall.take_if(|stall| at >= *stall).is_some() {
                let heard = self.stall()?;
                if heard.is_some() || self.ours().end != End::Fin {
                    return Ok((at, heard));
                }
            }
            match (&self.stream).read(&mut room) {
                Ok(0) => return Ok((at, Some(Heard::Fin))),
                Ok(count) => at += self.compare(at, &room[..count])?,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok((at, Some(Heard::Reset))),
                Err(error) => return Err(format!("after {at} bytes: {error}")),
            }
            if at == script.length && self.ours().stall.is_some() {
                self.tell(News::Through);
            }
            if script.dribbles {
                crate::pause(Duration::from_millis(1));
            }
        }
    }

    /// Compares what is there already, before it resets; who closes over unread input does not look.
    fn glance(&self) -> Result<usize, String> {
        let (mut room, mut at) = ([0; 4 << 10], 0);
        if self.ours().end == End::CloseUnread {
            return Ok(0);
        }
        self.stream.set_nonblocking(true).unwrap();
        while at < 1 << 20
            && let Ok(count @ 1..) = (&self.stream).read(&mut room)
        {
            at += self.compare(at, &room[..count])?;
        }
        Ok(at)
    }

    fn compare(&self, at: usize, heard: &[u8]) -> Result<usize, String> {
        let count = heard.len();
        if heard == NOISE.bytes(self.key(self.who.other()), at, count) {
            return Ok(count);
        }
        Err(format!("the {count} bytes from {at} on are not those that were sent"))
    }

    /// Does not read although there is something to read, until the other end has all that this one says. What that end
    /// is stuck with must not keep it.
    fn stall(&self) -> Result<Option<Heard>, String> {
        match self.stream.peek(&mut [0]) {
            Ok(0) => return Ok(Some(Heard::Fin)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Some(Heard::Reset)),
            Err(error) => return Err(format!("before a stall: {error}")),
        }
        crate::pause(STALL);
        for _ in 0..LIMIT.as_millis() / STALL.as_millis() {
            if let Some(stuck) = self.witness.await_through(self.plan.seed, self.who.other(), STALL) {
                self.tell(News::Stalled { stuck });
                return Ok(None);
            }
            // ENOTCONN: the upstream was killed before it had read whose session it was.
            if self.stream.peer_addr().is_err() {
                return Ok(None);
            }
        }
        Err("while this end did not read, the other direction stood still".to_owned())
    }
}

/// Connects from this address of the loopback network.
fn connect(source: Ipv4Addr, to: SocketAddr, armed: bool) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_linger(&socket, armed.then_some(Duration::ZERO))?;
    rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
    rustix::net::connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}
