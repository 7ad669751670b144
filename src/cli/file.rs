//! The file of `--config`: process-wide settings at the top, settings for all routes beside them, `[[route]]` tables below.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Args as _, Command};
use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};
use tproxy::{Config, Proxies, Route};

use super::complaint::{Complaint, Place, Source};
use super::plan::Plan;
use super::routes::{LISTENERS_MAX, Written, blank, drafts, wrong};
use super::settings::{Scope, Settings};
use crate::control::{Inheritance, Interrupt};

/// The most bytes of a file.
const SIZE_MAX: u64 = 1 << 20;

/// What a file asks for, the command line's settings laid over it.
#[derive(Debug)]
pub(super) struct Found {
    /// The file's own settings for the process.
    pub(super) settings: Settings,
    pub(super) plan: Plan,
    /// All that is wrong with it. If there is anything, the plan is not to be followed.
    pub(super) complaints: Vec<Complaint>,
}

/// A file, and the settings of the command line, which win over it.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) overrides: Settings,
    /// The file's own settings when the relay started.
    pub(super) at_start: Settings,
}

/// What a file asks for that was read again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) config: Config,
    /// The keys of the log and the port file that are not as they were at start. The loop knows nothing of them.
    pub(crate) needs_restart: Vec<&'static str>,
}

impl ConfigFile {
    /// Reads the file again, for a reload: its configuration, or in one line why there is none. Looks up the names of
    /// listeners, for at most 5 s.
    pub(crate) fn load(&self, inherited: &Inheritance) -> Result<Again, String> {
        let found = self.read()?;
        if let Some(complaint) = found.complaints.first() {
            return Err(found.plan.source.line(complaint));
        }
        let interrupt = Interrupt::by(&[]).map_err(|error| error.to_string())?;
        let config = found.plan.config(&interrupt, inherited).map_err(|problem| problem.to_string())?;
        Ok(Again { config, needs_restart: self.needs_restart(&found.settings) })
    }

    /// Which of the settings that only this process has differ now, and count: those of the command line win.
    fn needs_restart(&self, now: &Settings) -> Vec<&'static str> {
        let (given, before) = (&self.overrides, &self.at_start);
        let level_is_given = (given.verbose, given.quiet) != (0, 0);
        let differs = [
            ("port-file", given.port_file.is_none() && now.port_file != before.port_file),
            ("pid-file", given.pid_file.is_none() && now.pid_file != before.pid_file),
            ("admin", given.admin.is_none() && now.admin != before.admin),
            ("metrics", given.metrics.is_none() && now.metrics != before.metrics),
            ("log-format", given.log_format.is_none() && now.log_format != before.log_format),
            ("verbose", !level_is_given && now.verbose != before.verbose),
            ("quiet", !level_is_given && now.quiet != before.quiet),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    /// Reads the file. An error is one line, about the file as a whole.
    pub(super) fn read(&self) -> Result<Found, String> {
        let path = self.path.display();
        let failed = |what: &str| format!("--config {path}: {what}");
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(|error| failed(&error.to_string()))?;
        file.take(SIZE_MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(&error.to_string()))?;
        if bytes.len() as u64 > SIZE_MAX {
            return Err(failed("the file has more than 1 MiB, which is the most"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let (valid, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("{path}:{line}:1: this line is not UTF-8; save the file as UTF-8")
        })?;
        Ok(parse(&self.path, text, &self.overrides))
    }
}

fn parse(path: &Path, text: String, overrides: &Settings) -> Found {
    let mut complaints = Vec::new();
    let (settings, written) = tables(&text, &mut complaints);
    let (routes, wrong) = drafts(&written);
    complaints.sort_by_key(|complaint| complaint.place);
    complaints.extend(wrong);
    let mut config = Config::of([]);
    config.name_routes = true;
    settings.change_process(&mut config);
    overrides.change_process(&mut config);
    let source = Source::File { path: path.to_owned(), text };
    Found { settings, plan: Plan { config, routes, source }, complaints }
}

/// The settings at the top, and the routes. Of each table that cannot be read, the first error is added to the complaints.
fn tables(text: &str, complaints: &mut Vec<Complaint>) -> (Settings, Vec<Written>) {
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let text = format!("this is not TOML: {}", error.message());
            complaints.push(Complaint { key: "", place: error.span().map(|span| span.start), text });
            return (Settings::default(), Vec::new());
        }
    };
    let (routes, top): (Vec<_>, Vec<_>) = root.into_inner().into_iter().partition(|(key, _)| key.get_ref() == "route");
    let top: DeTable<'_> = top.into_iter().collect();
    let proxies_at = Keys::of(&top).key("proxy-from");
    let settings = top_settings(text, top).unwrap_or_else(|complaint| {
        complaints.push(complaint);
        Settings::default()
    });
    let mut each_route = blank();
    settings.change_route(&mut each_route);
    let mut written = Vec::new();
    let place = routes.first().map(|(key, _)| key.span().start);
    match routes.into_iter().next().map(|(_, value)| value.into_inner()) {
        Some(DeValue::Array(tables)) if !tables.is_empty() => {
            // More have too many listeners in any case.
            for table in tables.into_iter().take(LISTENERS_MAX + 1) {
                match route(text, table, each_route.clone()) {
                    Ok(route) => written.push(route),
                    Err(complaint) => complaints.push(complaint),
                }
            }
        }
        Some(DeValue::Table(_)) => {
            complaints.push(Complaint { key: "", place, text: "this is one table; write [[route]]".to_owned() });
        }
        _ => {
            let text =
                "there is no route; write a line [[route]], and below it from = \"...\" and to = \"...\"".to_owned();
            complaints.push(Complaint { key: "", place: place.or(Some(0)), text });
        }
    }
    if proxies_at.is_some() && !written.is_empty() && !written.iter().any(|route| route.settings.accept_proxy) {
        let text = "is of no use: no route has accept-proxy = true".to_owned();
        complaints.push(Complaint { key: "proxy-from", place: proxies_at, text });
    }
    (settings, written)
}

fn top_settings(text: &str, table: DeTable<'_>) -> Result<Settings, Complaint> {
    let places = Keys::of(&table);
    let settings = settings(text, table, |_, scope| match scope {
        Scope::Process | Scope::EachRoute => Ok(()),
        Scope::OneRoute => Err("is one route's own; write it below a line [[route]]"),
    })?;
    if settings.verbose > 0 && settings.quiet > 0 {
        let text = "cannot be used with quiet; leave one out".to_owned();
        return Err(Complaint { key: "verbose", place: places.key("verbose"), text });
    }
    Ok(settings)
}

fn route(text: &str, value: Spanned<DeValue<'_>>, settings_of_all: Route) -> Result<Written, Complaint> {
    let begin = Some(value.span().start);
    let DeValue::Table(table) = value.into_inner() else {
        let text = "a route is a table; write a line [[route]] above its keys".to_owned();
        return Err(Complaint { key: "route", place: begin, text });
    };
    let keys = Keys::of(&table);
    let own = settings(text, table, |key, scope| match scope {
        Scope::Process if key != "max-sessions" => Err("is one for the process; write it above the first [[route]]"),
        Scope::Process | Scope::EachRoute | Scope::OneRoute => Ok(()),
    })?;
    let missing = |key, example: &str| {
        Err(Complaint { key: "", place: begin, text: format!("this route has no {key}; write {key} = {example:?}") })
    };
    if own.from.is_empty() {
        return missing("from", "127.0.0.1:6101");
    }
    if own.to.is_empty() {
        return missing("to", "127.0.0.1:8888");
    }
    let mut route = settings_of_all;
    own.change_route(&mut route);
    own.limit_route(&mut route);
    if !route.accept_proxy && keys.key("proxy-from").is_none() {
        // Written for all routes, and this one has no use for it.
        route.proxy_from = Proxies::default();
    }
    if let Some((key, text)) = wrong(&route, "") {
        return Err(Complaint { key, place: keys.key(key).or(begin), text });
    }
    let name = own.name.map(|name| (name, keys.key("name")));
    let from = own.from.into_iter().zip(keys.values("from")).collect();
    let to = own.to.into_iter().zip(keys.values("to")).collect();
    Ok(Written { name, from, to, settings: route })
}

/// The settings of a table, or the first thing that is wrong with it.
fn settings(
    text: &str,
    table: DeTable<'_>,
    may: impl Fn(&str, Scope) -> Result<(), &'static str>,
) -> Result<Settings, Complaint> {
    let scopes = Settings::scopes();
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let (name, place) = (key.get_ref().as_ref(), Some(key.span().start));
        match scopes.iter().find(|(known, _)| known == name).map(|(known, scope)| may(known, *scope)) {
            None => return Err(Complaint { key: "", place, text: unknown(name) }),
            Some(Err(why)) => return Err(Complaint { key: "", place, text: format!("{name} {why}") }),
            Some(Ok(())) => {}
        }
        // One by one, so that the first is the first in the file.
        let alone: DeTable<'_> = [(key.clone(), value.clone())].into_iter().collect();
        if let Err(error) = deserialize(alone) {
            let span = error.span().unwrap_or_else(|| value.span());
            let written = shown(text, span.clone());
            let text = format!("{name} = {written}: {}", error.message());
            return Err(Complaint { key: "", place: Some(span.start), text });
        }
    }
    deserialize(table).map_err(|error| {
        let place = error.span().map(|span| span.start);
        Complaint { key: "", place, text: error.message().to_owned() }
    })
}

fn deserialize(table: DeTable<'_>) -> Result<Settings, toml::de::Error> {
    Settings::deserialize(Deserializer::from(Spanned::new(0..0, table)))
}

/// A key that no option has. clap knows the option that looks most like it.
fn unknown(key: &str) -> String {
    let parsed = Settings::augment_args(Command::new("")).try_get_matches_from(["", &format!("--{key}")]);
    let suggested = parsed.err().and_then(|error| match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(option)) => option.strip_prefix("--").map(str::to_owned),
        _ => None,
    });
    match suggested {
        Some(option) => format!("there is no key {key:?}; write {option}"),
        None => format!("there is no key {key:?}; the keys are the long options of --help, and name"),
    }
}

/// What stands there, if it is short.
fn shown(text: &str, span: Range<usize>) -> String {
    let written = text.get(span).unwrap_or_default();
    if written.chars().count() <= 40 && !written.contains(char::is_control) {
        written.to_owned()
    } else {
        "...".to_owned()
    }
}

/// Where the keys of a table stand, and their values.
struct Keys(Vec<(String, usize, Vec<Place>)>);

impl Keys {
    fn of(table: &DeTable<'_>) -> Self {
        let places = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| Some(item.span().start)).collect(),
            _ => vec![Some(value.span().start)],
        };
        Self(table.iter().map(|(key, value)| (key.get_ref().to_string(), key.span().start, places(value))).collect())
    }

    fn key(&self, key: &str) -> Place {
        self.0.iter().find(|(known, _, _)| known == key).map(|(_, place, _)| *place)
    }

    /// For each text of its value.
    fn values(&self, key: &str) -> Vec<Place> {
        self.0.iter().find(|(known, _, _)| known == key).map(|(_, _, places)| places.clone()).unwrap_or_default()
    }
}
