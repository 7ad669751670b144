//! What both ends of a session do, drawn from one seed that the client sends first.

use fastrand::Rng;

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
    /// It reads in small pieces, with pauses.
    pub(crate) dribbles: bool,
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
        let clean = rng.u8(..100) < 75;
        let bulk = rng.u8(..100) == 0;
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
            }
        };
        let (client, mut upstream) = (script(), script());
        if bulk && client.end != End::Fin {
            // Two that only write would wait for each other.
            upstream.end = End::Fin;
        }
        Self { seed, client, upstream, duplex }
    }

    /// Nobody does anything but finish: no reset is to be seen.
    pub(crate) fn is_clean(&self) -> bool {
        self.client.end == End::Fin && self.upstream.end == End::Fin
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
