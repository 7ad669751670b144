//! A schedule: what the peers do, what the kernel is like, what goes wrong. It is data, so that it can be printed,
//! shrunk and replayed; `draw.rs` makes one from a seed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{Address, Time};
use tproxy::{Config, Host};

use crate::faults::Faults;
use crate::hello::Hello;
use crate::kernel::Laws;
use crate::sources::Lack;

/// The address of the upstream with this number. From 200 on they are of IPv6.
pub(crate) fn upstream(number: u8) -> SocketAddr {
    match number {
        ..200 => ([10, 9, 9, number], 80).into(),
        _ => ([0x2001, 0xdb8, 0, 0, 0, 0, 9, number.into()], 80).into(),
    }
}

/// The address of a listener.
pub(crate) fn place(number: usize) -> SocketAddr {
    ([10, 0, 0, 1 + u8::try_from(number).unwrap()], 80).into()
}

/// Which listener's address this is.
pub(crate) fn place_of(address: SocketAddr) -> Option<usize> {
    (0..=usize::from(u8::MAX - 1)).find(|number| place(*number) == address)
}

/// The address of the Unix socket that stands for this one in a schedule: everything else calls it by that.
pub(crate) fn unix(address: SocketAddr) -> Address {
    format!("unix:/run/{address}").parse().unwrap()
}

/// Which address this is, of a TCP socket or a Unix socket.
pub(crate) fn read_address(text: &str) -> Option<SocketAddr> {
    text.strip_prefix("unix:/run/").unwrap_or(text).parse().ok()
}

/// The client with this number, if it came by a Unix socket: it has no address, and is called by this.
pub(crate) fn unix_client(number: usize) -> SocketAddr {
    let [_, a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
    ([240, a, b, c], 1).into()
}

/// As the log shows it.
pub(crate) fn shown_client(client: SocketAddr) -> String {
    match client.ip() {
        IpAddr::V4(ip) if ip.octets()[0] == 240 => format!("unix:pid={},uid=1000", ip.to_bits() & 0x00ff_ffff),
        _ => client.to_string(),
    }
}

/// The same as the log has it, by its process and its user.
pub(crate) fn read_client(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("unix:pid=") {
        Some(rest) => Some(unix_client(rest.strip_suffix(",uid=1000")?.parse().ok()?)),
        None => text.parse().ok(),
    }
}

/// The address of a socket, or what a Unix socket stands for.
pub(crate) fn inet(address: &Address) -> SocketAddr {
    match address {
        Address::Inet(address) => *address,
        other => read_address(&other.to_string()).expect("it stands for an address of the schedule"),
    }
}

/// How many addresses there are to listen at and to connect to.
pub(crate) fn addresses(config: &Config) -> usize {
    config.routes.iter().map(|route| 1 + route.to.len()).sum()
}

/// A look inside: at so many sessions from this slot on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) at: Duration,
    pub(crate) from: u32,
    pub(crate) rows: usize,
    /// At the routes instead.
    pub(crate) routes: bool,
}

/// Another process is to take the relay's place: it serves after so long, or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandOver {
    pub(crate) at: Duration,
    pub(crate) serves_after: Option<Duration>,
}

/// Other routes from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reload {
    pub(crate) at: Duration,
    pub(crate) config: Config,
    /// Something is out of its range.
    pub(crate) is_bad: bool,
}

/// What one run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Everything that is not said here is drawn from it: delays, short counts, faults.
    pub(crate) seed: u64,
    pub(crate) laws: Laws,
    pub(crate) config: Config,
    pub(crate) reloads: Vec<Reload>,
    pub(crate) queries: Vec<Ask>,
    /// Places whose listening sockets are inherited, and how long clients have been coming there when the relay begins.
    pub(crate) lent: Vec<usize>,
    pub(crate) head_start: Duration,
    pub(crate) hand_overs: Vec<HandOver>,
    /// Source addresses that this machine does not have for a while.
    pub(crate) lacks: Vec<Lack>,
    /// A place where somebody else listens.
    pub(crate) taken: Option<usize>,
    /// The most sessions at a time.
    pub(crate) limit: usize,
    /// The most pipes at a time.
    pub(crate) pipes: usize,
    pub(crate) sessions: Vec<SessionPlan>,
    /// Clients come from so many IP addresses, and every second of those is of IPv6 if that is true.
    pub(crate) addresses: (usize, bool),
    /// The outcomes of the relay's connects, in their order; the rest succeed.
    pub(crate) dials: Vec<Dial>,
    /// Upstreams that are out of order for a while.
    pub(crate) moods: Vec<Mood>,
    /// What the resolver says of each name.
    pub(crate) names: Vec<NamePlan>,
    pub(crate) faults: Faults,
    pub(crate) noise: Noise,
    /// When the upstream's process dies, and with it most of its connections.
    pub(crate) crash: Option<Duration>,
    /// When the relay gets a stop signal. After the last it is asked again at rest, so that every run ends.
    pub(crate) stops: Vec<Duration>,
    /// When [`Control::stop`](tproxy::Control::stop) is called, which begins the drain and changes nothing later.
    pub(crate) stop_calls: Vec<Duration>,
    /// When it is asked to stop without a drain.
    pub(crate) stop_now: Option<Duration>,
}

impl Plan {
    /// Do log lines name the route they are about? That is decided at start.
    pub(crate) fn names_routes(&self) -> bool {
        self.config.name_routes || self.config.routes.len() > 1
    }

    /// The address that the client with this number connects from. Those of IPv6 differ behind the first 64 bits.
    pub(crate) fn client(&self, number: usize) -> SocketAddr {
        let (addresses, with_ipv6) = self.addresses;
        let [_, a, b, c] = u32::try_from(number % addresses).unwrap().to_be_bytes();
        let port = 10_000 + u16::try_from(number % 50_000).unwrap();
        match c % 2 == 1 && with_ipv6 {
            true => {
                let low = u16::try_from(number % 50_000).unwrap();
                let ip = Ipv6Addr::new(0x2001, 0xdb8, u16::from_be_bytes([a, b]), c.into(), low, 0, 0, low);
                (ip, port).into()
            }
            false => ([10, a, b, c], port).into(),
        }
    }

    /// Is this the address of a Unix socket, as a listener or an upstream?
    pub(crate) fn is_unix(&self, address: SocketAddr) -> bool {
        let configs = self.reloads.iter().map(|reload| &reload.config).chain([&self.config]);
        configs.flat_map(|config| &config.routes).any(|route| {
            let to = route.to.iter().any(|host| matches!(host, Host::Address(to) if *to == unix(address)));
            to || route.from == unix(address)
        })
    }

    /// Nobody comes, nothing goes wrong: for scripts that do everything themselves.
    pub(crate) fn empty() -> Self {
        let laws = Laws {
            linux: true,
            delay: (1000, 1000),
            at_once: false,
            segment: 1 << 16,
            backlog: 128,
            descriptors: 1024,
            ports: usize::MAX,
            counts_unacked: true,
            short: 0,
            pipe_size: 1 << 16,
            timeout: Duration::from_millis(200),
            lossy: false,
            passes: 0,
        };
        Self {
            seed: 0,
            laws,
            config: Config::new(place(0), [upstream(1)]),
            reloads: Vec::new(),
            queries: Vec::new(),
            lent: Vec::new(),
            head_start: Duration::ZERO,
            hand_overs: Vec::new(),
            lacks: Vec::new(),
            taken: None,
            limit: 8,
            pipes: 4,
            sessions: Vec::new(),
            addresses: (usize::MAX, false),
            dials: Vec::new(),
            moods: Vec::new(),
            names: Vec::new(),
            faults: Faults::NONE,
            noise: Noise::NONE,
            crash: None,
            stops: Vec::new(),
            stop_calls: Vec::new(),
            stop_now: None,
        }
    }
}

/// From one moment to another, every connect to this upstream has this outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mood {
    pub(crate) upstream: SocketAddr,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) dial: Dial,
}

impl Plan {
    /// The outcome of a connect to this upstream now, if it is out of order.
    pub(crate) fn mood(&self, to: SocketAddr, now: Time) -> Option<Dial> {
        let lasts =
            |mood: &&Mood| mood.upstream == to && (Time::START + mood.from..Time::START + mood.until).contains(&now);
        self.moods.iter().find(lasts).map(|mood| mood.dial)
    }
}

/// A name, and the answers to one question after the other. The last is given again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamePlan {
    pub(crate) host: String,
    pub(crate) answers: Vec<Lookup>,
}

/// What the resolver says, after so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) after: Duration,
    pub(crate) says: Says,
}

/// What the resolver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Says {
    /// The upstreams with these numbers.
    Upstreams(Vec<u8>),
    /// So many addresses that nobody uses them all.
    TooMany,
    /// The relay itself, then an upstream.
    Ourselves(u8),
    Error,
    Nothing,
}

/// One client and its upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionPlan {
    /// The place that the client connects to: the number of the route that leads from there at start, if one does.
    pub(crate) place: usize,
    /// When the client connects.
    pub(crate) start: Duration,
    /// What the client says before what its script says. Its first acts send it.
    pub(crate) hello: Hello,
    pub(crate) client: PeerPlan,
    pub(crate) upstream: PeerPlan,
}

/// What one peer does: it speaks by a script, and reads by a law, both at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerPlan {
    pub(crate) acts: Vec<Act>,
    pub(crate) reading: Reading,
    /// Bytes that its kernel sends and receives at most without an answer, and the relay's kernel.
    pub(crate) caps: [usize; 4],
}

/// One step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Sends so many bytes.
    Send(u32),
    /// Sends one byte, urgently.
    Urgent,
    /// Does nothing for a while.
    Pause(Duration),
    /// Waits for this moment.
    At(Duration),
    /// Waits until so many bytes have come, or the end.
    AwaitBytes(u64),
    /// Waits for the end of what comes.
    AwaitEnd,
    /// shutdown(Write).
    Fin,
    /// close(2): a FIN, or a reset if input is unread.
    Close,
    /// close(2) with SO_LINGER {1, 0}.
    Reset,
    /// The host falls silent.
    Vanish,
}

/// How a peer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// At once.
    Prompt,
    /// So many bytes at a time, with a gap between.
    Slow(u32, Duration),
    /// At once, after this long.
    After(Duration),
    /// Only the first so many bytes.
    UpTo(u64),
    /// Never.
    Never,
}

/// What becomes of one connect of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dial {
    /// It succeeds.
    Accept,
    /// It fails with this, as soon as an answer can be there.
    Fail(Errno),
    /// It fails with this, after so long.
    FailAfter(Errno, Duration),
    /// It succeeds after so long.
    AcceptAfter(Duration),
    /// No answer ever comes.
    Silence,
    /// The socket meets itself (K14).
    Itself,
}

/// What is legal and unkind. Probabilities are of 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noise {
    /// A wait brings an event of a registered socket that has nothing to say.
    pub(crate) spurious: u8,
    /// A wait brings an event of a socket that was closed.
    pub(crate) stale: u8,
    /// The events of a wait come in any order.
    pub(crate) shuffle: u8,
    /// Events that one wait brings at most.
    pub(crate) batch: usize,
    /// A wait ends late, and more events have piled up.
    pub(crate) late: u8,
    /// A wait ends very late: the machine slept.
    pub(crate) stall: u8,
    /// Time passes between two calls.
    pub(crate) tick: u8,
    /// A client goes before it is accepted.
    pub(crate) aborted: u8,
    /// A wait that has something to say goes on to the next multiple of this, if it is not zero.
    pub(crate) grain: Duration,
}

impl Noise {
    /// A kind kernel.
    pub(crate) const NONE: Self = Self {
        spurious: 0,
        stale: 0,
        shuffle: 0,
        batch: 1024,
        late: 0,
        stall: 0,
        tick: 0,
        aborted: 0,
        grain: Duration::ZERO,
    };
}
