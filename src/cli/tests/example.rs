//! The file that `--print example-config` prints.

use std::collections::BTreeSet;

use tproxy::{Config, Route};

use super::{config_of, parsed, parsed_with};
use crate::cli::settings::Settings;

fn example() -> String {
    parsed("--print example-config").unwrap_err()
}

/// Its lines `key = value`, those that are commented out too.
fn keys(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(|line| line.trim_start_matches('#'));
    let keys = lines.filter_map(|line| line.split_once(" = ").map(|(key, _)| key));
    keys.filter(|key| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')).map(str::to_owned).collect()
}

#[test]
fn it_has_every_key_with_its_default() {
    let options = parsed_with(&example(), "").unwrap();
    let mut expected = Config::of([Route::new(
        "127.0.0.1:6101".parse::<std::net::SocketAddr>().unwrap(),
        ["127.0.0.1:8888".parse::<std::net::SocketAddr>().unwrap()],
    )]);
    expected.name_routes = true;
    expected.routes[0].name = "example".to_owned();
    assert_eq!(config_of(&options), expected);
    assert_eq!((options.level, options.port_file), (log::LevelFilter::Info, None));
    let known: BTreeSet<_> = Settings::scopes().iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys(&example()), known);
}

/// A key with a default is not commented out, or the test above would not see a wrong one.
#[test]
fn only_keys_without_a_default_are_commented_out() {
    let live: String =
        example().lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let missing: Vec<_> = keys(&example()).difference(&keys(&live)).cloned().collect();
    assert_eq!(
        missing,
        [
            "admin",
            "allow",
            "deny",
            "max-sessions",
            "max-sessions-per-ip",
            "metrics",
            "pid-file",
            "port-file",
            "proxy-from",
            "source"
        ]
    );
}

#[test]
fn what_is_commented_out_is_correct_too() {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = example().lines().map(uncommented).collect();
    assert_eq!(parsed_with(&text, "--check").unwrap_err(), "FILE is correct: 14 listeners\n");
}
