//! Signals: SIGINT and SIGTERM knock at the relay's door, the others get a word in the log.
//!
//! SIGPIPE needs nothing: Rust's runtime ignores it in every binary.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use tproxy::Control;

use crate::logging::Journal;

/// Handles the signals from now on.
pub(crate) fn install(control: &Control, journal: &Journal) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        pipe::register(signal, control.as_fd().try_clone_to_owned()?)?;
    }
    // They would end the process by default. One day they will mean something.
    for (signal, name) in [(SIGHUP, "SIGHUP"), (SIGUSR1, "SIGUSR1")] {
        let seen = Arc::new(AtomicBool::new(false));
        // Handlers run in this order: the flag is up before the log's thread is woken to look.
        flag::register(signal, Arc::clone(&seen))?;
        pipe::register(signal, journal.bell()?)?;
        let mut said = false;
        journal.on_wake(move || {
            let news = seen.load(Ordering::Relaxed) && !said;
            said |= news;
            news.then(|| format!("{name} is ignored"))
        });
    }
    Ok(())
}
