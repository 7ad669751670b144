//! What lives outside the loop: signals, what a reload reads, what is inherited and handed over.
//!
//! SIGINT and SIGTERM go from their handler straight to the loop. The others have a thread of their own. SIGPIPE needs
//! nothing: Rust's runtime ignores it in every binary.

mod admin;
mod hand_over;
mod inherit;
mod interrupt;
mod notify;
mod reload;
mod status;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::thread;

use log::{info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{pipe, signal_name};
use tproxy::Control;

pub(crate) use admin::{Admin, CONNECTIONS_MAX, Role, StopAdmin};
pub(crate) use hand_over::{Successor, say_when_we_serve};
pub(crate) use inherit::{Inheritance, Start, Taken};
pub(crate) use interrupt::{Interrupt, Waited};
pub(crate) use notify::Notifier;
pub(crate) use reload::Reloader;

use crate::logging::LogQueue;
use crate::written_file::WrittenFile;
use hand_over::{HandOver, Progress};

/// Handles the signals from now on. What this returns ends waits before the loop begins.
pub(crate) fn install(outside: Outside) -> io::Result<Interrupt> {
    let interrupt = Interrupt::by(&[SIGINT, SIGTERM])?;
    for signal in [SIGINT, SIGTERM] {
        pipe::register(signal, outside.control.as_fd().try_clone_to_owned()?)?;
    }
    // By default they would end the process.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2])?;
    thread::Builder::new().name("control".into()).spawn(move || outside.obey(&mut signals))?;
    Ok(interrupt)
}

/// What the thread has.
pub(crate) struct Outside {
    pub(crate) control: Control,
    /// If there is a file.
    pub(crate) reloader: Option<Reloader>,
    /// If systemd listens.
    pub(crate) notifier: Option<Notifier>,
    pub(crate) log: LogQueue,
    /// The words that start the program once more.
    pub(crate) again: Result<Vec<OsString>, String>,
    pub(crate) inherited: Inheritance,
    pub(crate) successor: Successor,
    pub(crate) pid_file: Option<WrittenFile>,
    pub(crate) admin: Option<Admin>,
}

impl Outside {
    /// The thread.
    fn obey(&self, signals: &mut Signals) {
        let (mut told, mut hand_over) = (HashSet::new(), None);
        loop {
            // While another program is to take our place, looking at it is the pause between two looks at the signals.
            let progress = hand_over.as_mut().map(|one: &mut HandOver| one.look(&self.control, self.notifier.as_ref()));
            match progress {
                Some(Progress::Waits) | None => {}
                Some(Progress::Serves) => self.admin.iter().for_each(Admin::hand_over),
                Some(Progress::Done) => {
                    hand_over.take().into_iter().for_each(HandOver::finish);
                }
                Some(Progress::Failed) => {
                    hand_over = None;
                    self.write_pid();
                }
            }
            let arrived: Vec<_> =
                if hand_over.is_some() { signals.pending().collect() } else { signals.wait().collect() };
            for signal in arrived {
                self.obey_one(signal, &mut hand_over, &mut told);
            }
        }
    }

    /// SIGHUP reloads the file, if there is one. Several of them during a reload are one more. SIGUSR1 writes a report, SIGUSR2
    /// hands over. systemd hears of a stop signal, which the loop has by now. Of each other signal it says once that it is
    /// ignored.
    fn obey_one(&self, signal: i32, hand_over: &mut Option<HandOver>, told: &mut HashSet<i32>) {
        match (signal, &self.reloader) {
            (SIGINT | SIGTERM, _) => {
                if let Some(one) = hand_over.take_if(|one| !one.has_served()) {
                    one.stop();
                    self.write_pid();
                }
                self.notifier.iter().for_each(Notifier::stopping);
            }
            (SIGUSR1, _) => status::write(&self.control, &self.log),
            (SIGHUP | SIGUSR2, _) if hand_over.is_some() => {
                warn!("{} is ignored: another process is taking over", signal_name(signal).unwrap_or("a signal"));
            }
            (SIGUSR2, _) => {
                let http = self.admin.as_ref().map(Admin::sockets).unwrap_or_default();
                match HandOver::begin(&self.again, &self.control, &self.inherited, &self.successor, &http) {
                    Ok(one) => *hand_over = Some(one),
                    Err(why) => warn!("not handed over, this process goes on: {why}"),
                }
            }
            (SIGHUP, Some(reloader)) => {
                self.notifier.iter().for_each(Notifier::reloading);
                reloader.reload(&self.control);
                self.notifier.iter().for_each(Notifier::reloaded);
            }
            _ if told.insert(signal) => info!("{} is ignored", signal_name(signal).unwrap_or("a signal")),
            _ => {}
        }
    }

    /// The process that serves is still this one, whatever the other may have written.
    fn write_pid(&self) {
        if let Some(Err(error)) = self.pid_file.as_ref().map(|file| file.update(&own_pid())) {
            warn!("{error}");
        }
    }
}

/// What --pid-file has.
pub(crate) fn own_pid() -> String {
    format!("{}\n", std::process::id())
}
