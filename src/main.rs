//! The command line of the relay.

mod cli;
mod control;
mod echo;
mod logging;
mod written_file;

use std::io::Write as _;
use std::process::ExitCode;

use cli::{Options, Problem};
use control::{Admin, Inheritance, Notifier, Outside, Reloader, Start, StopAdmin, Successor, Taken};
use log::{error, info, warn};
use logging::LogQueue;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tproxy::{Control, Error, Relay, Totals};
use written_file::{WrittenFile, lines};

/// All sessions finished.
const DRAINED: u8 = 0;
/// A fatal error at run time.
const FAILED: u8 = 1;
/// The command line asks for something impossible.
const USAGE: u8 = 2;
/// An address cannot be listened on, or connected from.
const CANNOT_LISTEN: u8 = 3;
/// Sessions were reset by the drain deadline or a request that does not wait.
const NOT_DRAINED: u8 = 4;

fn main() -> ExitCode {
    let options = match cli::parse() {
        Ok(options) => options,
        Err(cli::Answer::Text(text)) => {
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(cli::Answer::Usage(lines)) => return fail(USAGE, &lines),
    };
    let log = match logging::start(options.level, options.log_format) {
        Ok(log) => log,
        Err(error) => return fail(FAILED, &format!("tproxy: cannot start the log: {error}")),
    };
    options.warnings.iter().for_each(|warning| warn!("{warning}"));
    raise_descriptor_limit();
    let served = serve(&options, &log);
    log.begin_exit();
    let code = match served {
        Ok(Totals { sessions, up, down, spliced, cut_short, denied, limited, empty, .. }) => {
            let code = if cut_short > 0 {
                warn!("{cut_short} sessions had not finished and were reset");
                NOT_DRAINED
            } else {
                DRAINED
            };
            let others = [("denied", denied), ("limited", limited), ("empty", empty)].into_iter();
            let others: String =
                others.filter(|(_, count)| *count > 0).map(|(word, count)| format!(" {word}={count}")).collect();
            info!(
                event = "stopped", sessions, up, down, spliced, cut_short, denied, limited, empty;
                "stopped after {sessions} sessions, up={up} down={down} spliced={spliced}{others}"
            );
            code
        }
        Err(Failure::Plan(Problem::Stopped)) => {
            info!("stopped before it listened");
            DRAINED
        }
        Err(Failure::Plan(problem)) => {
            error!("{problem}");
            match problem {
                Problem::Usage(_) => USAGE,
                Problem::Listen(_) => CANNOT_LISTEN,
                Problem::Start(_) | Problem::Stopped => FAILED,
            }
        }
        Err(Failure::Relay(error)) => {
            match &error {
                Error::Loop { .. } => error!("{}: {error}", options.plan.origin()),
                _ => error!("{error}"),
            }
            match error {
                Error::Config(_) | Error::Loop { .. } => USAGE,
                Error::Listen { .. } | Error::Overlap { .. } | Error::Source { .. } => CANNOT_LISTEN,
                _ => FAILED,
            }
        }
    };
    log.finish();
    code.into()
}

/// Why the relay ended.
enum Failure {
    Plan(Problem),
    Relay(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Relay(error)
    }
}

/// What was inherited first, and the listeners for HTTP; then the handlers of signals, so that from there on it can be asked to
/// stop at any time; then the names of listeners, then the listeners.
fn serve(options: &Options, log: &LogQueue) -> Result<Totals, Failure> {
    let control = Control::new().map_err(Error::Start)?;
    let taken = Inheritance::take(options.plan.descriptors()).map_err(|why| Failure::Plan(Problem::Listen(why)))?;
    let Taken { inherited, sockets, mut http, start } = taken;
    let admin = Admin::bind(&options.http, &mut http, control.clone(), log.clone());
    let admin = admin.map_err(|why| Failure::Plan(Problem::Listen(why)))?;
    let _stop_admin = StopAdmin(admin.clone());
    let (port_file, pid_file) = (options.port_file.clone(), options.pid_file.clone());
    let reloader = |file| Reloader { file, port_file: port_file.clone(), inherited: inherited.clone() };
    let (notifier, successor) = (Notifier::new(&control), Successor::default());
    let interrupt = control::install(Outside {
        control: control.clone(),
        reloader: options.file.clone().map(reloader),
        notifier: notifier.clone(),
        log: log.clone(),
        again: options.again.clone(),
        inherited: inherited.clone(),
        successor: successor.clone(),
        pid_file: pid_file.clone(),
        admin: admin.clone(),
    });
    let interrupt = interrupt.map_err(Error::Start)?;
    let config = options.plan.config(&interrupt, &inherited).map_err(Failure::Plan)?;
    drop(interrupt);
    let files = || port_file.iter().chain(&pid_file);
    if start == Start::Fresh {
        files().try_for_each(WrittenFile::remove_old).map_err(|error| Error::Config(error.to_string()))?;
    }
    let relay = Relay::bind_inheriting(config, control.clone(), sockets)?;
    let (listening, own_pid) = (lines(&relay.local_addrs()), control::own_pid());
    for (file, text) in
        port_file.iter().map(|file| (file, &listening)).chain(pid_file.iter().map(|file| (file, &own_pid)))
    {
        let written = if start == Start::Fresh { file.write(text) } else { file.update(text) };
        written.map_err(|error| Error::Config(error.to_string()))?;
    }
    if let Some(admin) = &admin {
        admin.start().map_err(Error::Start)?;
    }
    if let Some(notifier) = &notifier {
        notifier.started(relay.local_addrs().len(), start);
    }
    if start == Start::Successor {
        control::say_when_we_serve(control).map_err(Error::Start)?;
    }
    // What the relay before served, and we do not.
    http.into_iter().for_each(|(_, socket)| socket.discard());
    let served = relay.run();
    // One that has not taken our place by now is not to.
    successor.close();
    // The thread of the signals may not have had the time.
    notifier.iter().for_each(Notifier::stopping);
    Ok(served?)
}

/// Raises the soft limit of open files to the hard one. A soft limit is for programs that use select(2).
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        warn!("cannot raise the limit of open files: {error}");
    }
}

/// Before there is a log. In one write, as the log does.
fn fail(code: u8, lines: &str) -> ExitCode {
    let _ = std::io::stderr().write_all(format!("{lines}\n").as_bytes());
    code.into()
}
