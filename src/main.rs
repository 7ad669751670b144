//! The command line of the relay.

mod cli;
mod control;
mod logging;
mod port_file;

use std::io::Write as _;
use std::process::ExitCode;

use log::{error, info, warn};
use port_file::PortFile;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tproxy::{Config, Control, Error, Relay, Totals};

/// All sessions finished.
const DRAINED: u8 = 0;
/// A fatal error at run time.
const FAILED: u8 = 1;
/// The command line asks for something impossible.
const USAGE: u8 = 2;
/// An address cannot be listened on.
const CANNOT_LISTEN: u8 = 3;
/// Sessions were reset by the drain deadline or a request that does not wait.
const NOT_DRAINED: u8 = 4;

fn main() -> ExitCode {
    let options = match cli::parse() {
        Ok(options) => options,
        Err(cli::Answer::Help(text)) => {
            let _ = write!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(cli::Answer::Usage(line)) => return fail(USAGE, &line),
    };
    // Before the signal handlers, so that Ctrl-C works while a name server thinks.
    let config = match options.settings.config() {
        Ok(config) => config,
        Err(line) => return fail(USAGE, &line),
    };
    let log = match logging::start(options.level) {
        Ok(log) => log,
        Err(error) => return fail(FAILED, &format!("cannot start the log: {error}")),
    };
    options.warnings.iter().for_each(|warning| warn!("{warning}"));
    raise_descriptor_limit();
    let served = serve(config, options.port_file.as_ref());
    log.begin_exit();
    let code = match served {
        Ok(Totals { sessions, up, down, spliced, cut_short, .. }) => {
            let code = if cut_short > 0 {
                warn!("{cut_short} sessions had not finished and were reset");
                NOT_DRAINED
            } else {
                DRAINED
            };
            info!("stopped after {sessions} sessions, up={up} down={down} spliced={spliced}");
            code
        }
        Err(error) => {
            match &error {
                Error::Loop { .. } => error!("--to: {error}"),
                _ => error!("{error}"),
            }
            match error {
                Error::Config(_) | Error::Loop { .. } => USAGE,
                Error::Listen { .. } => CANNOT_LISTEN,
                _ => FAILED,
            }
        }
    };
    log.finish();
    code.into()
}

/// Handlers first, then the listener: once it listens, it can be asked to stop.
fn serve(config: Config, port_file: Option<&PortFile>) -> Result<Totals, Error> {
    let control = Control::new().map_err(Error::Start)?;
    control::install(&control).map_err(Error::Start)?;
    if let Some(file) = port_file {
        file.remove_old().map_err(|error| Error::Config(error.to_string()))?;
    }
    let relay = Relay::bind_with(config, control)?;
    if let Some(file) = port_file {
        file.write(&relay.local_addrs()).map_err(|error| Error::Config(error.to_string()))?;
    }
    relay.run()
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

/// One line, before there is a log.
fn fail(code: u8, line: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "tproxy: {line}");
    code.into()
}
