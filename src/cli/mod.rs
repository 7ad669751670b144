//! The command line: what people write, and what is said when it cannot be.

mod address;
mod quantity;

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgAction, Parser};
use log::LevelFilter;
use tproxy::{Config, Splice};

use address::{Target, listen_address, target};
use quantity::{Timeout, buffer_size, drain_timeout, duration, duration_or_off};

/// What the command line and RUST_LOG ask for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) from: SocketAddr,
    pub(crate) to: Target,
    pub(crate) level: LevelFilter,
    /// What is to be said once there is a log.
    pub(crate) warnings: Vec<String>,
    args: Args,
}

/// Why there are no options.
#[derive(Debug)]
pub(crate) enum Answer {
    /// That is what was asked for.
    Help(String),
    /// One line: what is wrong and what would be right.
    Usage(String),
}

/// Relays TCP connections: every client that connects to --from is connected to --to.
///
/// How a stream ends is passed on truthfully: a FIN as a FIN, after the last byte before it; everything else as a
/// reset.
#[derive(Debug, Parser)]
#[command(name = "tproxy", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Args {
    /// Address and port to listen on; [::]:PORT takes IPv4 too, port 0 lets the system choose
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:6101", value_parser = listen_address)]
    #[arg(help_heading = "Addresses", allow_hyphen_values = true)]
    from: SocketAddr,

    /// Address or name, and port, to connect to; a name is resolved once, all its addresses are used
    #[arg(short, long, value_name = "ADDR", value_parser = target)]
    #[arg(help_heading = "Addresses", allow_hyphen_values = true)]
    to: Target,

    /// How long connecting to the upstream may take, attempts and pauses included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    #[arg(help_heading = "Connecting", allow_hyphen_values = true)]
    connect_timeout: Duration,

    /// How often all the upstream's addresses are tried before the client is reset
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    #[arg(help_heading = "Connecting", allow_hyphen_values = true)]
    connect_attempts: u32,

    /// Reset both ends when nothing moved for so long after one of them finished; or off
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration_or_off)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    half_close_timeout: Timeout,

    /// Reset both ends when nothing moved for so long; or off
    #[arg(long, value_name = "TIME", default_value = "off", value_parser = duration_or_off)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    idle_timeout: Timeout,

    /// How long sessions may take to finish after SIGINT or SIGTERM; 0 resets them at once, off waits for ever
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = drain_timeout)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    drain_timeout: Timeout,

    /// Before a reset, how long a peer may take to acknowledge the next byte it is owed (short for a WAN)
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = duration)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    reset_grace: Duration,

    /// Bytes a direction may hold, 4k to 16M; only one that holds bytes has a buffer, and one that is spliced a pipe
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = buffer_size)]
    #[arg(help_heading = "Limits", allow_hyphen_values = true)]
    buffer_size: usize,

    /// Let bytes pass through a pipe of the kernel's instead of copying them: auto when a direction has proved to be
    /// bulk
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = splice())]
    #[arg(help_heading = "Limits", allow_hyphen_values = true)]
    splice: Splice,

    /// Sessions at a time; more wait in the kernel's queue [default: what the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(help_heading = "Limits", allow_hyphen_values = true)]
    max_sessions: Option<u32>,

    /// Say more: -v for debug, -vv for trace
    #[arg(short, long, action = ArgAction::Count, help_heading = "Log")]
    verbose: u8,

    /// Say less: -q for warnings and errors, -qq for errors only
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "verbose", help_heading = "Log")]
    quiet: u8,
}

const AFTER_HELP: &str = "\
TIME is 5s, 1m30s, 250ms; plain digits are seconds; 1ms to 365 days. SIZE is 4096, 64k, 1M; k is 1024.
RUST_LOG (error, warn, info, debug, trace or off) sets the log's level if neither -v nor -q does.

SIGINT and SIGTERM: no new clients, the sessions finish. A second one does not wait.
Exit codes: 0 drained, 1 failed while running, 2 usage, 3 cannot listen, 4 sessions were reset when stopping.";

/// Reads the command line and RUST_LOG.
pub(crate) fn parse() -> Result<Options, Answer> {
    let args = Args::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Answer::Help(error.to_string()),
        _ => Answer::Usage(one_line(&error.to_string())),
    })?;
    let rust_log = std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned());
    let (level, warning) = level(args.verbose, args.quiet, rust_log.as_deref());
    Ok(Options { from: args.from, to: args.to.clone(), level, warnings: warning.into_iter().collect(), args })
}

impl Options {
    /// Puts everything but the addresses into the configuration.
    pub(crate) fn apply(&self, config: &mut Config) {
        config.connect_timeout = self.args.connect_timeout;
        config.connect_attempts = self.args.connect_attempts;
        config.half_close_timeout = self.args.half_close_timeout.0;
        config.idle_timeout = self.args.idle_timeout.0;
        config.drain_timeout = self.args.drain_timeout.0;
        config.reset_grace = self.args.reset_grace;
        config.buffer_size = self.args.buffer_size;
        config.splice = self.args.splice;
        config.max_sessions = self.args.max_sessions.map(|sessions| sessions as usize);
    }
}

/// clap's message without its usage and its pointer to --help, on one line.
fn one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let said = message.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let said: Vec<_> = said.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    format!("{} (see --help)", said.join("; "))
}

/// Flags win over RUST_LOG, which is one level; anything else is a warning.
fn level(verbose: u8, quiet: u8, rust_log: Option<&str>) -> (LevelFilter, Option<String>) {
    let flags = match (verbose, quiet) {
        (0, 0) => None,
        (0, 1) => Some(LevelFilter::Warn),
        (0, _) => Some(LevelFilter::Error),
        (1, _) => Some(LevelFilter::Debug),
        (_, _) => Some(LevelFilter::Trace),
    };
    let default = flags.unwrap_or(LevelFilter::Info);
    match rust_log.filter(|text| !text.is_empty()).map(|text| (text, text.parse())) {
        None => (default, None),
        Some((_, Ok(level))) => (flags.unwrap_or(level), None),
        Some((text, Err(_))) => {
            let levels = "error, warn, info, debug, trace or off";
            (default, Some(format!("RUST_LOG={text:?} is not a level; write {levels}")))
        }
    }
}

/// When to splice. The words are listed in the help and in the complaint about any other.
fn splice() -> impl TypedValueParser<Value = Splice> {
    PossibleValuesParser::new(["auto", "on", "off"]).map(|word| match word.as_str() {
        "on" => Splice::On,
        "off" => Splice::Off,
        _ => Splice::Auto,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let args = Args::try_parse_from(["tproxy", "-t", "127.0.0.1:80"]).unwrap();
        let options =
            Options { from: args.from, to: args.to.clone(), level: LevelFilter::Info, warnings: Vec::new(), args };
        let defaults = Config::new("127.0.0.1:6101".parse().unwrap(), options.to.resolve().unwrap());
        let mut config = defaults.clone();
        // Something else everywhere, so that what is not set shows.
        config.connect_timeout = Duration::ZERO;
        config.connect_attempts = 0;
        config.half_close_timeout = None;
        config.idle_timeout = Some(Duration::ZERO);
        config.drain_timeout = None;
        config.reset_grace = Duration::ZERO;
        config.buffer_size = 0;
        config.splice = Splice::Off;
        config.max_sessions = Some(0);
        options.apply(&mut config);
        assert_eq!(config, defaults);
        assert_eq!(options.from, defaults.from);
    }

    #[test]
    fn flags_win_over_rust_log_and_nonsense_is_a_warning() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        for (verbose, quiet, rust_log, expected) in [
            (0, 0, None, Info),
            (1, 0, None, Debug),
            (2, 0, None, Trace),
            (9, 0, None, Trace),
            (0, 1, None, Warn),
            (0, 2, None, Error),
            (0, 0, Some("debug"), Debug),
            (0, 0, Some("OFF"), Off),
            (0, 0, Some(""), Info),
            (1, 0, Some("error"), Debug),
            (0, 1, Some("trace"), Warn),
        ] {
            assert_eq!(level(verbose, quiet, rust_log), (expected, None));
        }
        let (fallback, warning) = level(0, 0, Some("tproxy=debug"));
        assert_eq!(fallback, Info);
        assert!(warning.unwrap().contains("tproxy=debug"));
    }

    #[test]
    fn a_complaint_is_one_line_that_names_the_argument() {
        for (line, words) in [
            (vec!["tproxy"], vec!["--to <ADDR>"]),
            (vec!["tproxy", "-t", "a:1", "--buffer-size", "0"], vec!["--buffer-size", "4k to 16M"]),
            (vec!["tproxy", "-t", "a:1", "--idle-timeout", "-5s"], vec!["--idle-timeout", "-5s"]),
            (vec!["tproxy", "-t", "a:1", "--max-sessions", "0"], vec!["--max-sessions", "0"]),
            (vec!["tproxy", "-t", "a:1", "--connect-attempts", "-1"], vec!["--connect-attempts", "-1"]),
            (vec!["tproxy", "-t", "a:1", "--nonsense"], vec!["--nonsense"]),
        ] {
            let complaint = one_line(&Args::try_parse_from(line).unwrap_err().to_string());
            assert!(!complaint.contains('\n'), "{complaint}");
            words.iter().for_each(|word| assert!(complaint.contains(word), "{complaint}"));
        }
    }
}
