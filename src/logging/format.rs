//! What a line of the log looks like.
//!
//! | format | a line | when |
//! |---|---|---|
//! | text | time, level, `[tproxy]`, text | stderr leads anywhere else |
//! | terminal | the same, with the level in colour | stderr is a terminal. Written by simple_logger |
//! | journal | `<6>` and the text: the journal knows time and program, and reads the priority (`sd-daemon(3)`) | stderr is the journal |
//! | json | an object: `ts`, `level`, and `message` or `event` with its fields | `--log-format json` |
//!
//! Each line is one write(2) with its newline: at a hand-over two relays write to one stderr. simple_logger takes two, so
//! on a terminal two lines may meet there.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, LevelFilter, Log as _, Record};
use serde_json::{Map, Value as Json};
use simple_logger::SimpleLogger;

use super::Line;

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people, or for the journal if stderr leads there.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How lines are written.
pub(super) enum Format {
    Terminal(SimpleLogger),
    Text,
    Journal,
    Json,
}

impl Format {
    pub(super) fn new(asked: LogFormat, level: LevelFilter) -> Self {
        match asked {
            LogFormat::Json => Self::Json,
            LogFormat::Text if leads_to_journal() => Self::Journal,
            LogFormat::Text if io::stderr().is_terminal() => {
                // By itself it would look whether stdout is a terminal.
                colored::control::set_override(wants_colours());
                Self::Terminal(SimpleLogger::new().with_level(level).with_utc_timestamps())
            }
            LogFormat::Text => Self::Text,
        }
    }

    /// What must be remembered of a record beside its text.
    pub(super) fn details(&self, record: &Record<'_>) -> Option<Details> {
        matches!(self, Self::Json).then(|| Details::of(record))
    }

    /// Writes a line to stderr. Did that work?
    pub(super) fn write(&self, line: &Line) -> bool {
        let Line { level, target, text, .. } = line;
        match self {
            Self::Terminal(logger) => {
                // It ends in `eprintln!`, which panics when stderr fails.
                let write =
                    || logger.log(&Record::builder().level(*level).target(target).args(format_args!("{text}")).build());
                catch_unwind(AssertUnwindSafe(write)).is_ok()
            }
            Self::Text => write_line(&plain(line)),
            Self::Journal => write_line(&journal(*level, text)),
            Self::Json => write_line(&json(line)),
        }
    }
}

/// What JSON says beside the level and the text.
#[derive(Debug)]
pub(super) struct Details {
    at: SystemTime,
    /// Empty unless the line is about an event.
    fields: Map<String, Json>,
}

impl Details {
    fn of(record: &Record<'_>) -> Self {
        let mut fields = Fields(Map::new());
        // It fails only if a field's own Display does.
        let _ = record.key_values().visit(&mut fields);
        Self { at: now(), fields: fields.0 }
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// A line, with its newline, in one write.
fn write_line(line: &str) -> bool {
    io::stderr().lock().write_all(line.as_bytes()).is_ok()
}

/// As simple_logger has it.
fn plain(Line { level, target, text, .. }: &Line) -> String {
    format!("{} {level:<5} [{target}] {text}\n", humantime::format_rfc3339_millis(now()))
}

/// Each line of the text has a priority.
fn journal(level: Level, text: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    text.lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

fn json(line: &Line) -> String {
    let at = line.details.as_ref().map_or_else(now, |details| details.at);
    let mut object = Map::new();
    object.insert("ts".to_owned(), humantime::format_rfc3339_millis(at).to_string().into());
    object.insert("level".to_owned(), line.level.as_str().to_ascii_lowercase().into());
    match line.details.as_ref().map(|details| &details.fields) {
        Some(fields) if !fields.is_empty() => object.extend(fields.clone()),
        Some(_) | None => drop(object.insert("message".to_owned(), line.text.clone().into())),
    }
    format!("{}\n", Json::Object(object))
}

/// The fields of a record, numbers as numbers.
struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let mut json = Field(Json::Null);
        value.visit(&mut json)?;
        self.0.insert(key.as_str().to_owned(), json.0);
        Ok(())
    }
}

struct Field(Json);

impl VisitValue<'_> for Field {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.0 = value.to_string().into();
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.0 = Json::Null;
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }
}

/// Does stderr lead to the journal? JOURNAL_STREAM has its device and its number there (`systemd.exec(5)`): a redirection
/// would be another file.
fn leads_to_journal() -> bool {
    let wanted = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr().as_fd()).is_ok_and(|file| wanted == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Unless `NO_COLOR` is set: see <https://no-color.org>.
fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, details: Option<Details>) -> Line {
        Line { level: Level::Warn, target: "tproxy".into(), text: text.into(), details, stands_for: 1 }
    }

    #[test]
    fn each_line_for_the_journal_has_its_priority() {
        for (level, priority) in [(Level::Error, 3), (Level::Warn, 4), (Level::Info, 6), (Level::Trace, 7)] {
            assert_eq!(journal(level, "one\ntwo"), format!("<{priority}>one\n<{priority}>two\n"));
        }
    }

    #[test]
    fn an_object_has_the_text_or_the_fields() {
        let read = |line: &Line| serde_json::from_str::<Map<String, Json>>(&json(line)).unwrap();
        let object = read(&line("a \"word\"\n", None));
        assert_eq!((&object["level"], &object["message"]), (&"warn".into(), &"a \"word\"\n".into()));
        let at = humantime::parse_rfc3339(object["ts"].as_str().unwrap()).unwrap();
        assert!(now().duration_since(at).unwrap().as_secs() < 60);
        let pairs = [("event", Value::from("session")), ("up", Value::from(7_u64)), ("time", Value::from(0.5_f64))];
        let record = Record::builder().args(format_args!("session up=7")).key_values(&pairs).build();
        let object = read(&line("session up=7", Some(Details::of(&record))));
        let fields = ["event", "up", "time"].map(|key| object[key].clone());
        assert_eq!(Json::from(&fields[..]), serde_json::json!(["session", 7, 0.5]));
        assert!(!object.contains_key("message") && json(&line("x", None)).ends_with("}\n"));
    }
}
