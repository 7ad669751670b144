//! What both ends of a session do, drawn from one seed that the client sends first.

use fastrand::Rng;

use crate::ledger::Who;

/// Bit of a seed that says its client may be killed at any moment.
pub(crate) const VICTIM: u64 = 1 << 63;

/// The script of one session.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) client: Script,
    pub(crate) upstream: Script,
    /// Both speak at once; otherwise the upstream answers after the client has finished.
    pub(crate) duplex: bool,
}

/// What one end does.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// Bytes it sends.
    pub(crate) length: usize,
    /// Bytes in a write.
    pub(crate) chunk: usize,
    /// Byte that goes out as urgent, if any.
    pub(crate) urgent: Option<usize>,
    /// How it ends its stream.
    pub(crate) end: End,
    /// What it says, the other end reads in small pieces, with pauses.
    pub(crate) dribbles: bool,
    /// After so many bytes of what it says, the other end reads no more until all that *it* has to say has arrived;
    /// then it goes on, or resets.
    pub(crate) stall: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// shutdown(Write), then it reads to the end.
    Fin,
    /// SO_LINGER {1, 0}, close.
    Reset,
    /// close without reading what came: a reset if there was something, else a FIN.
    CloseUnread,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let kind = rng.u16(..1000);
        if kind < 2 {
            return Self::with_a_stall(seed, &mut rng);
        }
        let bulk = kind < 10;
        let clean = rng.u8(..100) < 75;
        let duplex = rng.bool();
        let mut script = || {
            let length = match rng.u8(..10) {
                _ if bulk => rng.usize(..16 << 20),
                0 => 0,
                1 => rng.usize(..64 << 10),
                _ => rng.usize(..4 << 10),
            };
            let end = match rng.u8(..6) {
                _ if clean => End::Fin,
                0 => End::Reset,
                1 => End::CloseUnread,
                _ => End::Fin,
            };
            Script {
                length,
                chunk: if bulk { 256 << 10 } else { rng.usize(1..8 << 10) },
                urgent: (length > 0 && rng.u8(..20) == 0).then(|| rng.usize(..length)),
                end,
                dribbles: !bulk && rng.u8(..50) == 0,
                stall: None,
            }
        };
        let (client, mut upstream) = (script(), script());
        if bulk && client.end != End::Fin {
            // Two that only write would wait for each other.
            upstream.end = End::Fin;
        }
        Self { seed, client, upstream, duplex }
    }

    /// One end writes more than the path can hold while the other does not read, and what the other has to
    /// say has to arrive meanwhile.
    fn with_a_stall(seed: u64, rng: &mut Rng) -> Self {
        let length = rng.usize(12 << 20..18 << 20);
        let stall = Some(rng.usize(..256 << 10));
        let flood = Script { length, chunk: 256 << 10, urgent: None, end: End::Fin, dribbles: false, stall };
        let end = if rng.u8(..3) == 0 { End::Reset } else { End::Fin };
        let (length, chunk) = (rng.usize(1..1 << 20), rng.usize(1 << 10..64 << 10));
        let answer = Script { length, chunk, urgent: None, end, dribbles: false, stall: None };
        let (client, upstream) = if rng.bool() { (flood, answer) } else { (answer, flood) };
        Self { seed, client, upstream, duplex: true }
    }

    /// Would that end, killed, be heard as a reset? Upstreams always, of the clients that may be killed every other.
    pub(crate) const fn is_armed(&self, who: Who) -> bool {
        match who {
            Who::Client => self.seed & VICTIM != 0 && self.seed & 1 != 0,
            Who::Upstream => true,
        }
    }

    pub(crate) fn script(&self, who: Who) -> &Script {
        match who {
            Who::Client => &self.client,
            Who::Upstream => &self.upstream,
        }
    }
}

/// The bytes of all streams: one table of noise, read from a place that the stream's key says.
pub(crate) struct Noise(Vec<u8>);

/// A prime, so that a block lost or repeated never fits.
const NOISE: usize = 16_777_213;

/// Room to read past the end without wrapping.
const WINDOW: usize = 1 << 20;

impl Noise {
    pub(crate) fn new() -> Self {
        let mut noise = vec![0; NOISE + WINDOW];
        Rng::with_seed(42).fill(&mut noise[..NOISE]);
        let (head, tail) = noise.split_at_mut(NOISE);
        tail.copy_from_slice(&head[..WINDOW]);
        Self(noise)
    }

    /// `length` bytes of the stream `key`, from its byte `at`; at most [`WINDOW`].
    pub(crate) fn bytes(&self, key: u64, at: usize, length: usize) -> &[u8] {
        let start = ((key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize).wrapping_add(at) % NOISE;
        &self.0[start..start + length.min(WINDOW)]
    }
}
