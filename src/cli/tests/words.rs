//! What is said: the help, complaints, and how much is logged.

use std::ffi::OsString;

use clap::CommandFactory as _;
use log::LevelFilter;

use crate::cli::{Answer, Args, level, parse_from};

#[test]
fn the_command_line_is_well_formed() {
    Args::command().debug_assert();
}

/// README tells people to write options: each must exist.
#[test]
fn readme_names_only_options_that_exist() {
    let readme = include_str!("../../../README.md");
    let help = Args::command().render_long_help().to_string();
    // Options of other programs that README runs.
    let foreign = [
        "--retry",
        "--retry-connrefused",
        "--path",
        "--locked",
        "--root",
        "--open",
        "--bind",
        "--release",
        "--test",
        "--bench",
        "--now",
    ];
    let words = readme.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let options: Vec<_> = words.filter(|word| word.starts_with("--") && word.contains(char::is_alphabetic)).collect();
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
        assert_eq!(level((verbose, quiet), rust_log), (expected, None));
    }
    let (fallback, warning) = level((0, 0), Some("tproxy=debug"));
    assert_eq!(fallback, Info);
    assert!(warning.unwrap().contains("tproxy=debug"));
}

#[test]
fn a_complaint_is_one_line_that_names_the_argument() {
    for (line, words) in [
        ("", vec!["--to <ADDR>"]),
        ("-t a:1 --buffer-size 0", vec!["--buffer-size", "4k to 16M"]),
        ("-t a:1 --idle-timeout -5s", vec!["--idle-timeout", "-5s"]),
        ("-t a:1 --max-sessions 0", vec!["--max-sessions", "0"]),
        ("-t a:1 --connect-attempts -1", vec!["--connect-attempts", "-1"]),
        ("-t a:1 --nonsense", vec!["--nonsense"]),
        ("-t a:1 --balance random", vec!["--balance", "first", "round-robin", "least-sessions", "source"]),
    ] {
        let line = ["tproxy"].into_iter().chain(line.split_whitespace()).map(OsString::from);
        let Err(Answer::Usage(complaint)) = parse_from(line, None, |_| Vec::new()) else { panic!("{words:?}") };
        assert!(!complaint.contains('\n') && complaint.ends_with("(see --help)"), "{complaint}");
        words.iter().for_each(|word| assert!(complaint.contains(word), "{complaint}"));
    }
}
