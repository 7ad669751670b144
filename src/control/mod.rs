//! What lives outside the loop: signals, and what a reload reads.
//!
//! SIGINT and SIGTERM go from their handler straight to the loop. The others have a thread of their own. SIGPIPE needs
//! nothing: Rust's runtime ignores it in every binary.

mod interrupt;
mod notify;
mod reload;
mod status;

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
pub(crate) use notify::Notifier;
pub(crate) use reload::Reloader;

use crate::logging::LogQueue;

/// Handles the signals from now on. What this returns ends waits before the loop begins.
pub(crate) fn install(
    control: &Control,
    reloader: Option<Reloader>,
    notifier: Option<Notifier>,
    log: LogQueue,
) -> io::Result<Interrupt> {
    let interrupt = Interrupt::by(&[SIGINT, SIGTERM])?;
    for signal in [SIGINT, SIGTERM] {
        pipe::register(signal, control.as_fd().try_clone_to_owned()?)?;
    }
    // By default they would end the process.
    let mut signals = Signals::new([SIGHUP, SIGUSR1, SIGUSR2])?;
    if notifier.is_some() {
        for signal in [SIGINT, SIGTERM] {
            signals.add_signal(signal)?;
        }
    }
    let control = control.clone();
    let outside = Outside { control, reloader, notifier, log };
    thread::Builder::new().name("control".into()).spawn(move || outside.obey(&mut signals))?;
    Ok(interrupt)
}

/// What the thread has.
struct Outside {
    control: Control,
    reloader: Option<Reloader>,
    notifier: Option<Notifier>,
    log: LogQueue,
}

impl Outside {
    /// The thread: SIGHUP reloads the file, if there is one. Several of them during a reload are one more. SIGUSR1 writes a
    /// report. systemd hears of a stop signal, which the loop has by now. Of each other signal it says once that it is ignored.
    fn obey(&self, signals: &mut Signals) {
        let mut told = HashSet::new();
        for signal in signals.forever() {
            match (signal, &self.reloader) {
                (SIGINT | SIGTERM, _) => self.notifier.iter().for_each(Notifier::stopping),
                (SIGUSR1, _) => status::write(&self.control, &self.log),
                (SIGHUP, Some(reloader)) => {
                    self.notifier.iter().for_each(Notifier::reloading);
                    reloader.reload(&self.control);
                    self.notifier.iter().for_each(Notifier::reloaded);
                }
                _ if told.insert(signal) => info!("{} is ignored", signal_name(signal).unwrap_or("a signal")),
                _ => {}
            }
        }
    }
}
