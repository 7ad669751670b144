//! Streams whose every byte is known: byte `i` is a function of a key and of `i`, so that a checker needs no memory to
//! see that a byte was lost, doubled, moved or taken from another session.

/// Names a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    /// The key of one direction of one session of one run.
    pub(crate) fn new(seed: u64, session: usize, upwards: bool) -> Self {
        Self(mix(seed ^ mix(2 * session as u64 + u64::from(upwards))))
    }

    /// Byte `at` of the stream.
    fn byte(self, at: u64) -> u8 {
        self.word(at >> 3).to_le_bytes()[(at & 7) as usize]
    }

    /// Fills `room` with the bytes from `at` on.
    pub(crate) fn fill(self, at: u64, room: &mut [u8]) {
        let mut at = at;
        let mut rest = room;
        while !rest.is_empty() {
            let skip = (at & 7) as usize;
            let word = self.word(at >> 3).to_le_bytes();
            let count = rest.len().min(8 - skip);
            let (front, back) = rest.split_at_mut(count);
            front.copy_from_slice(&word[skip..skip + count]);
            at += count as u64;
            rest = back;
        }
    }

    /// The place of the first byte of `data` that is not the stream's, if `data` begins at `at`.
    pub(crate) fn mismatch(self, at: u64, data: &[u8]) -> Option<u64> {
        let mut expected = [0; 256];
        let mut from = at;
        for part in data.chunks(expected.len()) {
            let expected = &mut expected[..part.len()];
            self.fill(from, expected);
            if expected != part {
                return (from..).zip(part).find(|(i, byte)| self.byte(*i) != **byte).map(|(i, _)| i);
            }
            from += part.len() as u64;
        }
        None
    }

    fn word(self, index: u64) -> u64 {
        mix(self.0 ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// The finaliser of splitmix64: every bit of the input moves every bit of the output.
pub(crate) const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[test]
fn a_keyed_stream_tells_a_moved_byte_from_its_own() {
    let key = Key::new(1, 2, true);
    let mut data = [0; 1000];
    key.fill(3, &mut data);
    assert_eq!(key.mismatch(3, &data), None);
    assert_eq!(key.mismatch(4, &data[1..]), None);
    assert!(key.mismatch(4, &data).is_some());
    assert!(Key::new(1, 2, false).mismatch(3, &data).is_some());
    data[700] ^= 1;
    assert_eq!(key.mismatch(3, &data), Some(703));
}
