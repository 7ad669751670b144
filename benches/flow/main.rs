//! What relaying costs in instructions of our own: no sockets, no kernel, and nothing is copied.
//!
//! ```console
//! $ cargo bench --bench flow                                # under a minute
//! $ cargo bench --bench flow -- --save-baseline before      # then, after a change: --baseline before
//! $ cargo bench --bench flow -- reactor                     # only what has this in its name
//! $ cargo bench --bench flow -- count                       # instructions instead of times; needs valgrind
//! ```
//! ```text
//!   pair       client [wire] ──► Pair::run ──► [wire] upstream
//!   reactor    events ──► Reactor::turn ──► sessions, two wires each
//! ```
//! A wire only counts: it does not touch the memory it is given. The kernel copies in earnest, and beside 64 KiB
//! copied, what is ours would not be seen; a buffer that we copied or cleared ourselves stands out all the more. So
//! these figures are to be compared with those of yesterday, and with nothing else. What a relay costs, `cargo bench
//! --bench versus` tells.

mod count;
mod pairs;
mod reactors;
mod wire;

use std::error::Error;
use std::time::Duration;

use criterion::Criterion;

/// Bytes in a message.
const MESSAGE: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if count::repeats(&words) {
        return Ok(());
    }
    if words.iter().any(|word| word == "count") {
        return count::table();
    }
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(60)
        .nresamples(20_000)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    pairs::all(&mut criterion);
    reactors::all(&mut criterion);
    criterion.final_summary();
    Ok(())
}
