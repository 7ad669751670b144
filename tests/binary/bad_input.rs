//! Bad input gets one line that names the argument and what would be right, and exit code 2.

use crate::process::tproxy;

/// Each of these command lines, split at spaces, is answered with one line that contains all of these.
#[track_caller]
fn complaints(rows: &[(&str, &[&str])]) {
    for (arguments, parts) in rows {
        let finished = tproxy(arguments.split(' '));
        assert_eq!(finished.code, 2, "{arguments}: {finished:?}");
        assert_eq!(finished.stdout, "", "{arguments}");
        let [line] = &finished.stderr[..] else { panic!("{arguments}: one line, please: {finished:?}") };
        assert!(line.starts_with("tproxy: "), "{arguments}: {line}");
        for part in *parts {
            assert!(line.contains(part), "{arguments}: {part:?} is missing: {line}");
        }
    }
}

#[test]
fn an_upstream_needs_an_address_and_a_port() {
    complaints(&[
        ("-t 127.0.0.1:0", &["--to", "port 0", "1 to 65535"]),
        ("-t localhost:0", &["--to", "port 0", "1 to 65535"]),
        ("-t 127.0.0.1", &["--to", "the port is missing", "127.0.0.1:8888"]),
        ("-t localhost", &["--to", "the port is missing", "localhost:8888"]),
        ("-t 8888", &["--to", "the port is missing", "127.0.0.1:8888"]),
        ("-t :8888", &["--to", "the address is missing", "127.0.0.1:8888"]),
        ("-t ::1", &["--to", "brackets", "[::1]:8888"]),
        ("-t 127.0.0.1:65536", &["--to", "65536", "not a port", "1 to 65535"]),
        ("-t 127.0.0.1:http", &["--to", "http", "not a port", "1 to 65535"]),
        ("-t http://localhost:80", &["--to", "write localhost:80"]),
        ("-t -1", &["--to", "the port is missing"]),
        ("-f 127.0.0.1:0", &["--to <ADDR>", "required"]),
        ("-t 127.0.0.1:9,", &["--to", "the port is missing"]),
        ("-t media:7009-7000", &["--to", "7009-7000", "such as 7000-7009"]),
        ("-t media:7000-7001", &["--to media:7000-7001 has 2 ports", "127.0.0.1:6101 has 1 port"]),
    ]);
}

#[test]
fn with_several_listeners_each_has_an_upstream_behind_it() {
    complaints(&[
        ("-t a:1 -f :80 -t b:2 -f :81 -t c:3", &["--to a:1", "before the first --from"]),
        ("-f :80 -f :81 -t c:3", &["--to", "--from :80 leads"]),
        ("-f :80 -t c:3 -f :81-82", &["--to", "--from :81-82 leads"]),
        ("-f :80 -t c:3 -f 127.0.0.1:80 -t d:4", &["--from 127.0.0.1:80 is taken by :80", "choose another"]),
        ("-f :80,:80 -t c:3", &["--from :80 is written twice"]),
        ("-f :1-1025 -t c:3", &["--from :1-1025", "more than 1024 listeners"]),
        ("-f :7000-7009 -t media:7000-7008", &["--to media:7000-7008 has 9 ports", ":7000-7009 has 10"]),
    ]);
}

#[test]
fn a_listening_address_is_one_of_this_machine_and_a_port() {
    complaints(&[
        ("-t 127.0.0.1:9 -f *:8080", &["--from", "*", "127.0.0.1:8080", "or :8080"]),
        ("-t 127.0.0.1:9 -f :8080-8070", &["--from", "8080-8070", "such as 7000-7009"]),
        ("-t 127.0.0.1:9 -f 8080", &["--from", "the port is missing", "127.0.0.1:8080"]),
        ("-t 127.0.0.1:9 -f 0.0.0.0", &["--from", "the port is missing", "0.0.0.0:6101"]),
        ("-t 127.0.0.1:9 -f ::1", &["--from", "brackets", "[::1]:6101"]),
        ("-t 127.0.0.1:9 -f 127.0.0.1:99999", &["--from", "99999", "0 to 65535"]),
    ]);
}

#[test]
fn a_time_is_positive_and_no_more_than_a_year() {
    for option in ["--connect-timeout", "--half-close-timeout", "--idle-timeout", "--drain-timeout", "--reset-grace"] {
        for (time, right) in [
            ("-5s", "5s, 1m30s or 250ms"),
            ("-5", "5s, 1m30s or 250ms"),
            ("soon", "5s, 1m30s or 250ms"),
            ("5parsecs", "5s, 1m30s or 250ms"),
            ("366d", "between 1ms and 365 days"),
            ("99999999999999999999", "between 1ms and 365 days"),
            ("99999999999999999999d", ""),
            ("1us", "between 1ms and 365 days"),
        ] {
            complaints(&[(&format!("-t 127.0.0.1:9 {option} {time}"), &[option, right])]);
        }
    }
    for option in ["--connect-timeout", "--half-close-timeout", "--idle-timeout", "--reset-grace"] {
        complaints(&[(&format!("-t 127.0.0.1:9 {option} 0"), &[option, "between 1ms and 365 days"])]);
    }
}

#[test]
fn only_some_times_can_be_off_and_the_others_say_so() {
    complaints(&[
        ("-t 127.0.0.1:9 --connect-timeout off", &["--connect-timeout", "5s, 1m30s or 250ms"]),
        ("-t 127.0.0.1:9 --reset-grace off", &["--reset-grace", "5s, 1m30s or 250ms", ", or auto"]),
        ("-t 127.0.0.1:9 --idle-timeout never", &["--idle-timeout", ", or off"]),
        ("-t 127.0.0.1:9 --drain-timeout never", &["--drain-timeout", ", or off", ", or 0"]),
    ]);
}

#[test]
fn a_number_is_within_its_range() {
    complaints(&[
        ("-t 127.0.0.1:9 --buffer-size 0", &["--buffer-size", "4k to 16M"]),
        ("-t 127.0.0.1:9 --buffer-size -1", &["--buffer-size", "4k to 16M"]),
        ("-t 127.0.0.1:9 --buffer-size 4095", &["--buffer-size", "4k to 16M"]),
        ("-t 127.0.0.1:9 --buffer-size 17M", &["--buffer-size", "4k to 16M"]),
        ("-t 127.0.0.1:9 --buffer-size 99999999999999999999M", &["--buffer-size", "4k to 16M"]),
        ("-t 127.0.0.1:9 --buffer-size 64q", &["--buffer-size", "4096, 64k or 1M"]),
        ("-t 127.0.0.1:9 --max-sessions 0", &["--max-sessions", "at least 1"]),
        ("-t 127.0.0.1:9 --max-sessions -1", &["--max-sessions"]),
        ("-t 127.0.0.1:9 --max-sessions many", &["--max-sessions", "many"]),
        ("-t 127.0.0.1:9 --connect-attempts 0", &["--connect-attempts", "1 to 1000"]),
        ("-t 127.0.0.1:9 --backlog 0", &["--backlog", "1 to 65535"]),
        ("-t 127.0.0.1:9 --backlog 65536", &["--backlog", "1 to 65535"]),
        ("-t 127.0.0.1:9 --keepalive 10h", &["--keepalive", "1s to 32767s", "or off"]),
        ("-t 127.0.0.1:9 --keepalive 500ms", &["--keepalive", "whole seconds"]),
        ("-t 127.0.0.1:9 --tcp-user-timeout 0", &["--tcp-user-timeout", "between 1ms and 24days", "or off"]),
        ("-t 127.0.0.1:9 --source 127.0.0.1:80", &["--source", "127.0.0.1:80", "without a port"]),
        ("-t 127.0.0.1:9 --log-open=perhaps", &["--log-open", "true or false"]),
    ]);
}

#[test]
fn a_flag_that_is_unknown_or_makes_no_sense_is_named() {
    complaints(&[
        ("-t 127.0.0.1:9 --form 127.0.0.1:0", &["--form", "--from"]),
        ("-t 127.0.0.1:9 -x", &["-x", "--help"]),
        ("-t 127.0.0.1:9 and more", &["and"]),
        ("-t 127.0.0.1:9 -q -v", &["--quiet", "--verbose"]),
        ("-t 127.0.0.1:9 --balance random", &["--balance", "first", "round-robin", "least-sessions", "source"]),
        ("-t 127.0.0.1:9 -f", &["--from", "value"]),
    ]);
}

#[test]
fn help_is_grouped_and_no_error() {
    for flag in ["--help", "-h"] {
        let finished = tproxy([flag]);
        assert_eq!((finished.code, finished.stderr.len()), (0, 0), "{finished:?}");
        let help = finished.stdout;
        let places: Vec<_> = [
            "Usage: tproxy",
            "\nAddresses (of a route):",
            "\nConnecting (of each route):",
            "\nEnding (of each route):",
            "\nSockets (of each route):",
            "\nSessions in the log (of each route):",
            "\nProcess-wide:",
            "\nLog (process-wide):",
            "\nFile:",
        ]
        .map(|heading| help.find(heading).unwrap_or_else(|| panic!("{heading:?} is missing: {help}")))
        .into();
        assert!(places.is_sorted(), "{help}");
        for part in [
            "--from",
            "--to",
            "--connect-timeout",
            "--connect-attempts",
            "--half-close-timeout",
            "--idle-timeout",
            "--drain-timeout",
            "--resolve-ttl",
            "--balance",
            "--config",
            "--check",
            "--print",
            "--reset-grace",
            "--backlog",
            "--keepalive",
            "--tcp-user-timeout",
            "--source",
            "--no-log-empty",
            "--log-open",
            "--buffer-size",
            "--max-sessions",
            "--verbose",
            "--quiet",
            "RUST_LOG",
            "127.0.0.1:6101",
            "Exit codes: 0 all sessions finished",
        ] {
            assert!(help.contains(part), "{part} is missing: {help}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    for flag in ["--version", "-V"] {
        let finished = tproxy([flag]);
        let version = format!("tproxy {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((finished.code, finished.stdout, finished.stderr.len()), (0, version, 0));
    }
}
