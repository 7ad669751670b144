//! The command line: parsing, and errors in one line.

mod address;
mod quantity;
mod settings;

use clap::error::ErrorKind;
use clap::{ArgAction, Parser};
use log::LevelFilter;

use crate::port_file::PortFile;
use settings::Settings;

/// What the command line and RUST_LOG ask for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) settings: Settings,
    pub(crate) port_file: Option<PortFile>,
    pub(crate) level: LevelFilter,
    /// To be said once there is a log.
    pub(crate) warnings: Vec<String>,
}

/// Why there are no options.
#[derive(Debug)]
pub(crate) enum Answer {
    /// This text was asked for.
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
    #[command(flatten)]
    settings: Settings,

    /// Write the addresses it listens on to this file, one on each line, once it listens. - is stdout
    #[arg(long, value_name = "PATH", help_heading = "Process")]
    port_file: Option<String>,

    /// Log more: -v for debug, -vv for trace
    #[arg(short, long, action = ArgAction::Count, help_heading = "Log")]
    verbose: u8,

    /// Log less: -q for warnings and errors, -qq for errors only
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "verbose", help_heading = "Log")]
    quiet: u8,
}

const AFTER_HELP: &str = "\
TIME is 5s, 1m30s or 250ms; plain digits are seconds; 1ms to 365 days. SIZE is 4096, 64k or 1M; k is 1024.
RUST_LOG (error, warn, info, debug, trace or off) sets the log's level unless -v or -q does.

SIGINT and SIGTERM: clients that have connected are served, no new ones, the sessions finish. A second signal, 300ms later
or more, resets what is left.
Exit codes: 0 all sessions finished, 1 failed at run time, 2 usage, 3 cannot listen, 4 sessions were reset while stopping.";

/// Reads the command line and RUST_LOG.
pub(crate) fn parse() -> Result<Options, Answer> {
    let args = Args::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Answer::Help(error.to_string()),
        _ => Answer::Usage(one_line(&error.to_string())),
    })?;
    let rust_log = std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned());
    let (level, warning) = level(args.verbose, args.quiet, rust_log.as_deref());
    let port_file = args.port_file.as_deref().map(PortFile::from);
    Ok(Options { settings: args.settings, port_file, level, warnings: warning.into_iter().collect() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    /// README tells people to write options: each must exist.
    #[test]
    fn readme_names_only_options_that_exist() {
        use clap::CommandFactory as _;
        let readme = include_str!("../../README.md");
        let help = Args::command().render_long_help().to_string();
        // Options of other programs that README runs.
        let foreign = [
            "--retry",
            "--retry-all-errors",
            "--path",
            "--locked",
            "--open",
            "--bind",
            "--release",
            "--test",
            "--bench",
        ];
        let words = readme.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let options: Vec<_> =
            words.filter(|word| word.starts_with("--") && word.contains(char::is_alphabetic)).collect();
        assert!(options.contains(&"--to") && options.len() > 8, "{options:?}");
        for option in options.into_iter().filter(|option| !foreign.contains(option)) {
            let exists = help.split_whitespace().any(|word| word.trim_end_matches(',') == option);
            assert!(exists, "README names {option}, --help does not");
        }
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
