//! What lives outside the loop: signals.
//!
//! SIGINT and SIGTERM go from their handler straight to the loop. The others have a thread of their own. SIGPIPE needs
//! nothing: Rust's runtime ignores it in every binary.

mod interrupt;

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::thread;

use log::info;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{pipe, signal_name};
use tproxy::Control;

pub(crate) use interrupt::{Interrupt, Waited};

/// Handles the signals from now on. What this returns ends waits before the loop begins.
pub(crate) fn install(control: &Control) -> io::Result<Interrupt> {
    let interrupt = Interrupt::by(&[SIGINT, SIGTERM])?;
    for signal in [SIGINT, SIGTERM] {
        pipe::register(signal, control.as_fd().try_clone_to_owned()?)?;
    }
    // By default they would end the process.
    let ignored = Signals::new([SIGHUP, SIGUSR1, SIGUSR2])?;
    thread::Builder::new().name("control".into()).spawn(move || note_ignored(ignored))?;
    Ok(interrupt)
}

/// The thread: says once of each signal that it is ignored.
fn note_ignored(mut signals: Signals) {
    let mut told = HashSet::new();
    for signal in signals.forever() {
        if told.insert(signal) {
            info!("{} is ignored", signal_name(signal).unwrap_or("a signal"));
        }
    }
}
