//! The command line: parsing, and errors in one line.

mod address;
mod again;
mod check;
mod complaint;
mod file;
mod http;
mod inherited;
mod k8s;
mod line;
mod loops;
mod mode;
mod names;
mod plan;
mod print;
mod quantity;
mod routes;
mod settings;
mod socket;
mod socket_unit;
mod switch;
#[cfg(test)]
mod tests;
mod unit;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser};
use log::LevelFilter;
use tproxy::Config;
use tproxy::net::Address;

use crate::control::{CONNECTIONS_MAX, Role};
use crate::logging::LogFormat;
use crate::written_file::WrittenFile;
use address::{Listen, Target};
use check::LookUp;
use complaint::{Complaint, Source};
pub(crate) use file::{Again, ConfigFile};
pub(crate) use inherited::Which;
pub(crate) use plan::{Plan, Problem};
use print::{EXAMPLE_CONFIG, Instances, Printed};
use settings::Settings;

/// What the command line, the file and RUST_LOG ask for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) plan: Plan,
    /// The file it comes from, to be read again.
    pub(crate) file: Option<ConfigFile>,
    pub(crate) port_file: Option<WrittenFile>,
    pub(crate) pid_file: Option<WrittenFile>,
    pub(crate) http: Vec<(Role, Address)>,
    /// The words that start the program once more, or why there are none.
    pub(crate) again: Result<Vec<OsString>, String>,
    pub(crate) log_format: LogFormat,
    pub(crate) level: LevelFilter,
    /// To be said once there is a log.
    pub(crate) warnings: Vec<String>,
}

/// Why there are no options.
#[derive(Debug)]
pub(crate) enum Answer {
    /// This text was asked for.
    Text(String),
    /// What is wrong and what would be right, in lines.
    Usage(String),
}

/// Relays TCP connections: every client that connects to --from is connected to --to.
///
/// How a stream ends is passed on truthfully: a FIN as a FIN, after the last byte before it; everything else as a
/// reset.
#[derive(Debug, Parser)]
#[command(name = "tproxy", version, max_term_width = 100, after_help = AFTER_HELP, override_usage = USAGE)]
struct Args {
    #[command(flatten)]
    settings: Settings,

    /// Read the routes and all settings from this file (TOML): the keys are the names of the long options. Process-wide
    /// options may stand on the command line beside it, and win. See --print example-config
    #[arg(short, long, value_name = "FILE", help_heading = FILE)]
    config: Option<PathBuf>,

    /// Check the command line or the file, and exit with 0 or 2. Names are looked up, for at most 5 s. Nothing is listened on
    #[arg(long, help_heading = FILE)]
    check: bool,

    /// Print this and exit. example-config is a file for --config, with every key; unit is a service of systemd, with the
    /// options given beside it, and socket a unit that keeps its listeners open; the templates are for several processes; k8s
    /// is a Deployment and a Service; man is the man page; completions are for the shell that is named behind it
    #[arg(long, value_names = ["WHAT", "SHELL"], num_args = 1..=2, value_parser = print::parser(), help_heading = FILE)]
    print: Vec<String>,
}

const FILE: &str = "File";

const USAGE: &str = "tproxy [OPTIONS] [--from <ADDR>] --to <ADDR> ...\n       tproxy [OPTIONS] --config <FILE>";

const AFTER_HELP: &str = "\
ADDR is 127.0.0.1:80, [::1]:80, :80, db.internal:80, unix:/run/app.sock or unix:@name; for --from also fd:3 or systemd:NAME,
a socket that was inherited. TIME is 5s, 1m30s or 250ms; plain digits are seconds; 1ms to 365 days.
SIZE is 4096, 64k or 1M; k is 1024. RUST_LOG (error, warn, info, debug, trace or off) sets the log's level unless -v or -q
does, here or in the file.

With one --from, every --to belongs to it. With several, each --to belongs to the last --from before it:
  tproxy -f :5432 -t db1.internal:5432,db2.internal:5432  -f :6379 -t cache.internal:6379
  tproxy -f :7000-7009 -t media.internal:7000-7009        # port by port

SIGINT and SIGTERM: clients that have connected are served, no new ones, the sessions finish. A second signal, 300ms later
or more, resets what is left. SIGHUP with --config: the file is read again. SIGUSR1: a report in the log. SIGUSR2: the program
is started once more and gets the listeners, and this process finishes its sessions.
Exit codes: 0 all sessions finished, 1 failed at run time, 2 usage, 3 cannot listen, or not connect from --source, 4 sessions
were reset while stopping.";

/// Reads the command line, the file it names, and RUST_LOG.
pub(crate) fn parse() -> Result<Options, Answer> {
    let rust_log = std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned());
    parse_from(std::env::args_os(), rust_log.as_deref(), check::look_up)
}

/// The names of a check are looked up by the third.
fn parse_from(
    line: impl IntoIterator<Item = OsString>,
    rust_log: Option<&str>,
    look_up: LookUp,
) -> Result<Options, Answer> {
    let wrong = |error: clap::Error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Answer::Text(error.to_string()),
        _ => usage(&one_line(&error.to_string())),
    };
    let words: Vec<_> = line.into_iter().collect();
    let matches = Args::command().try_get_matches_from(&words).map_err(wrong)?;
    let args = Args::from_arg_matches(&matches).map_err(wrong)?;
    let Args { settings, config, check, print } = args;
    let unprintable = |why| usage(&format!("--print: {why}"));
    let print = if print.is_empty() { None } else { Some(print::asked(&print).map_err(unprintable)?) };
    match print {
        Some(Printed::ExampleConfig) => return Err(Answer::Text(EXAMPLE_CONFIG.to_owned())),
        Some(Printed::Man) => return Err(Answer::Text(print::man(Args::command()))),
        Some(Printed::Completions(shell)) => return Err(Answer::Text(print::completions(Args::command(), shell))),
        _ => {}
    }
    let options = options(&settings, config, &matches, &words, check.then_some(look_up), rust_log)?;
    http::check(&options.http, &options.plan.routes).map_err(|why| usage(&why))?;
    let printed = match print {
        Some(Printed::Unit(instances)) => {
            let Options { again, file, plan, .. } = &options;
            let unit = || unit::unit(again.as_ref()?, file.is_some(), &plan.config, instances);
            options.needs_no_folder(instances).and_then(|()| unit())
        }
        Some(Printed::Socket(instances)) => socket_unit::socket_unit(&options.plan.routes, instances),
        Some(Printed::K8s) if options.file.is_some() => {
            Err("k8s has the options given beside it; write them, or mount the file and add --config yourself"
                .to_owned())
        }
        Some(Printed::K8s) => k8s::k8s(&words, &options.plan.routes, &options.plan.config, &options.http),
        _ if check => return Err(correct(&options)),
        _ => return Ok(options),
    };
    Err(printed.map_or_else(unprintable, Answer::Text))
}

fn options(
    settings: &Settings,
    config: Option<PathBuf>,
    matches: &ArgMatches,
    words: &[OsString],
    look_up: Option<LookUp>,
    rust_log: Option<&str>,
) -> Result<Options, Answer> {
    let Some(path) = config else {
        let plan = plan_of_line(settings, matches, look_up)?;
        let again = again::start_again(words, None);
        return Ok(Options::new(plan, None, again, settings, &Settings::default(), rust_log));
    };
    line::only_process_wide(matches).map_err(|line| usage(&see_help(&line)))?;
    let mut file = ConfigFile { path, overrides: settings.clone(), at_start: Settings::default() };
    let found = file.read().map_err(|line| usage(&line))?;
    file.at_start = found.settings.clone();
    let plan = checked(found.plan, found.complaints, look_up)?;
    let again = again::start_again(words, Some(&file.path));
    Ok(Options::new(plan, Some(file), again, settings, &found.settings, rust_log))
}

/// The answer to `--check` where nothing is wrong.
fn correct(options: &Options) -> Answer {
    let name =
        options.file.as_ref().map_or_else(|| "the command line".to_owned(), |file| file.path.display().to_string());
    let count = options.plan.listeners();
    let listeners = if count == 1 { "listener" } else { "listeners" };
    Answer::Text(format!("{name} is correct: {count} {listeners}\n"))
}

impl Options {
    /// The command line's settings win over the file's, and those over RUST_LOG.
    fn new(
        mut plan: Plan,
        file: Option<ConfigFile>,
        again: Result<Vec<OsString>, String>,
        line: &Settings,
        below: &Settings,
        rust_log: Option<&str>,
    ) -> Self {
        let flags = [line, below].map(|settings| (settings.verbose, settings.quiet));
        let (level, warning) = level(flags.into_iter().find(|flags| *flags != (0, 0)).unwrap_or_default(), rust_log);
        let written = |option, line: &Option<String>, below: &Option<String>| {
            line.as_deref().or(below.as_deref()).map(|path| WrittenFile::new(option, path))
        };
        let port_file = written("--port-file", &line.port_file, &below.port_file);
        let pid_file = written("--pid-file", &line.pid_file, &below.pid_file);
        let log_format = line.log_format.or(below.log_format).map(|word| word.0).unwrap_or_default();
        let warnings = warning.into_iter().collect();
        let http = [(Role::Admin, &line.admin, &below.admin), (Role::Metrics, &line.metrics, &below.metrics)];
        let http: Vec<_> = http
            .into_iter()
            .filter_map(|(role, line, below)| Some((role, line.as_ref().or(below.as_ref())?.0.clone())))
            .collect();
        plan.config.descriptors_reserved = if http.is_empty() { 0 } else { CONNECTIONS_MAX };
        Self { plan, file, port_file, pid_file, http, again, log_format, level, warnings }
    }

    /// Is every path from the root, as a service needs it?
    fn needs_no_folder(&self, instances: Instances) -> Result<(), String> {
        let mut files = self.port_file.iter().chain(&self.pid_file);
        if let Some(file) = files.clone().find(|file| instances == Instances::Several && !file.is_stdout()) {
            return Err(format!("{file}: all instances would write this file; leave it out"));
        }
        if let Some((role, address)) = self.http.first().filter(|_| instances == Instances::Several) {
            return Err(format!("--{} {address}: all instances would listen there; leave it out", role.word()));
        }
        let routes = &self.plan.routes;
        let from = routes.iter().filter_map(|draft| match &draft.from {
            Listen::Unix(address) => Some(address),
            Listen::Address(_) | Listen::Name(..) | Listen::Inherited(_) => None,
        });
        let to = routes.iter().flat_map(|draft| &draft.to).filter_map(|(target, _)| match target {
            Target::Unix(address) => Some(address),
            Target::Address(_) | Target::Name(..) | Target::Echo => None,
        });
        let mut sockets = from.chain(to).chain(self.http.iter().map(|(_, address)| address));
        let is_relative = |address: &&Address| address.path().is_some_and(|path| !path.starts_with(b"/"));
        let file = files.find(|file| file.is_relative()).map(ToString::to_string);
        let relative = file.or_else(|| sockets.find(is_relative).map(ToString::to_string));
        relative.map_or(Ok(()), |path| {
            Err(format!("{path}: a service has no working directory; write the path from the root"))
        })
    }
}

fn plan_of_line(settings: &Settings, matches: &ArgMatches, look_up: Option<LookUp>) -> Result<Plan, Answer> {
    let written = line::routes(settings, matches).map_err(|line| usage(&see_help(&line)))?;
    let (routes, complaints) = routes::drafts(&written);
    let mut config = Config::of([]);
    settings.change_process(&mut config);
    checked(Plan { config, routes, source: Source::CommandLine }, complaints, look_up)
}

/// The plan, if nothing is wrong with it. Otherwise the first complaint; for a check all of them, also those about names.
fn checked(plan: Plan, mut complaints: Vec<Complaint>, look_up: Option<LookUp>) -> Result<Plan, Answer> {
    complaints.extend(look_up.into_iter().flat_map(|look_up| check::unresolved(&plan.routes, look_up)));
    complaints.extend(look_up.into_iter().flat_map(|_| loops::loops(&plan.routes)));
    let shown = if look_up.is_some() { complaints.len() } else { 1 };
    let lines: Vec<_> = complaints.iter().take(shown).map(|complaint| plan.source.with_excerpt(complaint)).collect();
    if lines.is_empty() { Ok(plan) } else { Err(Answer::Usage(lines.join("\n"))) }
}

fn usage(line: &str) -> Answer {
    Answer::Usage(format!("tproxy: {line}"))
}

fn see_help(line: &str) -> String {
    format!("{line} (see --help)")
}

/// clap's message without its usage and its pointer to --help, on one line.
fn one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let said = message.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let said: Vec<_> = said.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    see_help(&said.join("; "))
}

/// Flags win over RUST_LOG, which is one level; anything else is a warning.
fn level((verbose, quiet): (u8, u8), rust_log: Option<&str>) -> (LevelFilter, Option<String>) {
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
