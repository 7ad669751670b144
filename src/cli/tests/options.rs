//! Each option, on the command line and in a file, changes its own field and nothing else.

use std::time::Duration;

use log::LevelFilter;
use tproxy::{AtLimit, Balance, Config, ProxyVersion, ResetGrace, Route, Splice};

use super::{config_of, line, parsed, parsed_with};
use crate::cli::settings::{Scope, Settings};
use crate::logging::LogFormat;
use crate::written_file::WrittenFile;

const ROUTE: &str = "[[route]]\nfrom = \"127.0.0.1:6101\"\nto = \"127.0.0.1:80\"\n";

fn defaults() -> Config {
    Config::new("127.0.0.1:6101".parse().unwrap(), ["127.0.0.1:80".parse().unwrap()])
}

type Change = fn(&mut Config);

/// Every option that is a field of the configuration, with another value than its default.
const CHANGES: [(&str, &str, Change); 26] = [
    ("balance", "round-robin", |c| each(c, |route| route.balance = Balance::RoundRobin)),
    ("connect-timeout", "7s", |c| each(c, |route| route.connect_timeout = Duration::from_secs(7))),
    ("connect-attempts", "7", |c| each(c, |route| route.connect_attempts = 7)),
    ("half-close-timeout", "off", |c| each(c, |route| route.half_close_timeout = None)),
    ("idle-timeout", "7s", |c| each(c, |route| route.idle_timeout = Some(Duration::from_secs(7)))),
    ("reset-grace", "7s", |c| each(c, |route| route.reset_grace = ResetGrace::Fixed(Duration::from_secs(7)))),
    ("drain-timeout", "0", |c| c.drain_timeout = Some(Duration::ZERO)),
    ("resolve-ttl", "7s", |c| c.resolve_ttl = Duration::from_secs(7)),
    ("buffer-size", "8k", |c| c.buffer_size = 8 << 10),
    ("splice", "off", |c| c.splice = Splice::Off),
    ("max-sessions", "7", |c| c.max_sessions = Some(7)),
    ("max-lifetime", "7s", |c| each(c, |route| route.max_lifetime = Some(Duration::from_secs(7)))),
    ("allow", "10.0.0.0/8,::1", |c| each(c, |route| route.allow = "::1,10.0.0.0/8".parse().unwrap())),
    ("deny", "10.0.0.1", |c| each(c, |route| route.deny = "10.0.0.1/32".parse().unwrap())),
    ("max-sessions-per-ip", "7", |c| each(c, |route| route.max_sessions_per_ip = Some(7))),
    ("at-limit", "reset", |c| each(c, |route| route.at_limit = AtLimit::Reset)),
    ("send-proxy", "v2", |c| each(c, |route| route.send_proxy = Some(ProxyVersion::V2))),
    ("unix-mode", "600", |c| each(c, |route| route.unix_mode = 0o600)),
    ("drain-delay", "7s", |c| c.drain_delay = Duration::from_secs(7)),
    ("drain-idle-timeout", "7s", |c| c.drain_idle_timeout = Some(Duration::from_secs(7))),
    ("backlog", "7", |c| each(c, |route| route.backlog = 7)),
    ("keepalive", "off", |c| each(c, |route| route.keepalive = None)),
    ("tcp-user-timeout", "7s", |c| each(c, |route| route.tcp_user_timeout = Some(Duration::from_secs(7)))),
    ("source", "127.0.0.7", |c| each(c, |route| route.source = vec![[127, 0, 0, 7].into()])),
    ("no-log-empty", "true", |c| each(c, |route| route.log_empty = false)),
    ("log-open", "true", |c| each(c, |route| route.log_open = true)),
];

fn each(config: &mut Config, change: fn(&mut Route)) {
    config.routes.iter_mut().for_each(change);
}

fn changed(change: Change) -> Config {
    let mut expected = defaults();
    change(&mut expected);
    assert_ne!(expected, defaults(), "the test changes something");
    expected
}

/// A file's configuration always names its routes.
fn of_file(mut expected: Config) -> Config {
    expected.name_routes = true;
    expected
}

fn file(text: &str, words: &str) -> Config {
    config_of(&parsed_with(text, words).unwrap())
}

fn scope_of(option: &str) -> Scope {
    Settings::scopes().iter().find(|(known, _)| known == option).unwrap().1
}

#[test]
fn the_defaults_are_those_of_the_library() {
    assert_eq!(line("-t 127.0.0.1:80"), defaults());
    assert_eq!(file(ROUTE, ""), of_file(defaults()));
}

#[test]
fn each_option_is_the_same_on_the_command_line_and_in_a_file() {
    for (option, value, change) in CHANGES {
        let expected = changed(change);
        assert_eq!(line(&format!("-t 127.0.0.1:80 --{option} {value}")), expected, "--{option}");
        assert_eq!(file(&format!("{option} = {value:?}\n{ROUTE}"), ""), of_file(expected), "{option} in a file");
    }
}

#[test]
fn a_number_in_a_file_needs_no_quotes() {
    let text = format!("connect-attempts = 7\nconnect-timeout = 7\nbuffer-size = 8192\nmax-sessions = 7\n{ROUTE}");
    let expected =
        [CHANGES[2], CHANGES[1], CHANGES[8], CHANGES[10]].iter().fold(defaults(), |mut config, (_, _, change)| {
            change(&mut config);
            config
        });
    assert_eq!(file(&text, ""), of_file(expected));
}

#[test]
fn a_route_has_settings_of_its_own_and_those_of_all_routes() {
    for (option, value, change) in CHANGES.into_iter().filter(|(option, ..)| scope_of(option) == Scope::EachRoute) {
        let second = ROUTE.replace("6101", "6102");
        let config = file(&format!("{ROUTE}{option} = {value:?}\n{second}"), "");
        let names = ["127.0.0.1:6101", "127.0.0.1:6102"];
        assert_eq!(config.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), names);
        assert_eq!(config.routes[0], changed(change).routes[0], "{option}");
        let mut second = defaults().routes[0].clone();
        (second.name, second.from) = (config.routes[1].name.clone(), config.routes[1].from.clone());
        assert_eq!(config.routes[1], second, "{option}");
    }
    // The route's own wins.
    let config = file(&format!("idle-timeout = \"1s\"\n{ROUTE}idle-timeout = \"off\"\n"), "");
    assert_eq!(config.routes[0].idle_timeout, None);
    // In a route it is the route's, above it the process's.
    let config = file(&format!("max-sessions = 9\n{ROUTE}max-sessions = 7\n"), "");
    assert_eq!((config.max_sessions, config.routes[0].max_sessions), (Some(9), Some(7)));
}

#[test]
fn what_is_one_for_the_process_wins_on_the_command_line_and_nothing_else_may_stand_there() {
    for (option, value, change) in CHANGES {
        let words = format!("--{option} {value}");
        if scope_of(option) == Scope::Process {
            let text = format!(
                "drain-timeout = 1\nresolve-ttl = 1\nbuffer-size = \"1M\"\nsplice = \"on\"\nmax-sessions = 1\n{ROUTE}"
            );
            let mut expected = file(&text, "");
            change(&mut expected);
            assert_eq!(file(&text, &words), expected, "--{option}");
        } else {
            let complaint = parsed_with(ROUTE, &words).unwrap_err();
            assert!(complaint.contains(&format!("--{option} is a setting of routes")), "{complaint}");
        }
    }
    for words in ["-t 127.0.0.1:80", "-f 127.0.0.1:80"] {
        assert!(parsed_with(ROUTE, words).unwrap_err().contains("is a setting of routes"), "{words}");
    }
}

/// The list, and what the help says.
#[test]
fn exactly_these_are_one_for_the_process() {
    let scopes = Settings::scopes();
    let of = |scope| {
        let mut names: Vec<_> = scopes.iter().filter(|(_, it)| *it == scope).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    };
    let process = "admin buffer-size drain-delay drain-idle-timeout drain-timeout log-format max-sessions metrics pid-file port-file quiet resolve-ttl splice verbose";
    let process: Vec<_> = process.split(' ').collect();
    assert_eq!(of(Scope::Process), process);
    assert_eq!(of(Scope::OneRoute), ["from", "name", "to"]);
    // Each of the rest, and each of those with a field, is in the table of this test; two that need each other in another.
    let fields = of(Scope::EachRoute).into_iter().chain(process);
    for option in fields.filter(|option| {
        !["admin", "metrics", "log-format", "pid-file", "port-file", "quiet", "verbose", "accept-proxy", "proxy-from"]
            .contains(option)
    }) {
        assert!(CHANGES.iter().any(|(known, ..)| *known == option), "{option} is not tested");
    }
}

/// Options that can only be left out to have their default.
const WITHOUT_DEFAULT: [&str; 5] = ["max-sessions", "allow", "deny", "max-sessions-per-ip", "source"];

/// The help says the default of each option in brackets.
#[test]
fn the_default_in_the_help_is_the_library_s() {
    let help = parsed("--help").unwrap_err();
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (option, ..) in CHANGES.iter().filter(|(option, ..)| !WITHOUT_DEFAULT.contains(option)) {
        let (_, about) = words.split_once(&format!(" --{option} ")).unwrap();
        let (_, default) = about.split_once("[default: ").unwrap();
        let (default, _) = default.split_once(']').unwrap();
        assert_eq!(line(&format!("-t 127.0.0.1:80 --{option} {default}")), defaults(), "{option} {default}");
    }
}

#[test]
fn the_log_and_the_port_file_are_set_in_either_place_and_the_command_line_wins() {
    let format = |options: Result<super::Options, String>| options.unwrap().log_format;
    let json = format!("log-format = \"json\"\n{ROUTE}");
    assert_eq!(format(parsed("-t a:1 --log-format json")), LogFormat::Json);
    assert_eq!([format(parsed_with(&json, "")), format(parsed_with(ROUTE, ""))], [LogFormat::Json, LogFormat::Text]);
    assert_eq!(format(parsed_with(&json, "--log-format text")), LogFormat::Text);
    let seen = |options: super::Options| (options.level, options.port_file);
    let path = |path: &str| Some(WrittenFile::new("--port-file", path));
    assert_eq!(seen(parsed("-t a:1 -v --port-file /x").unwrap()), (LevelFilter::Debug, path("/x")));
    let text = format!("quiet = 1\nport-file = \"/y\"\n{ROUTE}");
    assert_eq!(seen(parsed_with(&text, "").unwrap()), (LevelFilter::Warn, path("/y")));
    assert_eq!(seen(parsed_with(&text, "-vv --port-file /x").unwrap()), (LevelFilter::Trace, path("/x")));
    let text = format!("verbose = 2\n{ROUTE}");
    assert_eq!(seen(parsed_with(&text, "").unwrap()), (LevelFilter::Trace, None));
    assert_eq!(seen(parsed_with(ROUTE, "").unwrap()), (LevelFilter::Info, None));
}

#[test]
fn a_switch_needs_no_value_on_the_command_line_and_no_quotes_in_a_file() {
    for option in ["no-log-empty", "log-open"] {
        let on = line(&format!("-t 127.0.0.1:80 --{option}"));
        assert_eq!(line(&format!("--{option} -t 127.0.0.1:80")), on);
        assert_eq!(line(&format!("-t 127.0.0.1:80 --{option}=false")), defaults());
        assert_eq!(file(&format!("{option} = true\n{ROUTE}"), ""), of_file(on));
        // A route may differ from what is so for all.
        assert_eq!(file(&format!("{option} = true\n{ROUTE}{option} = false\n"), ""), of_file(defaults()));
        let complaint = parsed_with(&format!("{option} = 1\n{ROUTE}"), "").unwrap_err();
        assert!(complaint.contains("expected true or false"), "{complaint}");
    }
}

#[test]
fn several_sources_are_a_list_or_the_option_repeated() {
    let sources = |config: &Config| config.routes[0].source.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = ["127.0.0.7", "127.0.0.8", "::1"];
    assert_eq!(sources(&line("-t 127.0.0.1:80 --source 127.0.0.7,127.0.0.8 --source ::1")), expected);
    assert_eq!(sources(&file(&format!("source = [\"127.0.0.7,127.0.0.8\", \"::1\"]\n{ROUTE}"), "")), expected);
    let complaint = parsed("-t 127.0.0.1:80 --source 127.0.0.7 --source 127.0.0.7").unwrap_err();
    assert!(complaint.contains("--source") && complaint.contains("127.0.0.7 is there twice"), "{complaint}");
    let complaint = parsed("-t [::1]:80 --source 127.0.0.7").unwrap_err();
    assert!(complaint.contains("--to [::1]:80 is IPv6") && complaint.contains("add an IPv6 one"), "{complaint}");
}
