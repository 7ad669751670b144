//! What a file says, and what is said about a wrong one.

use proptest::prelude::*;

use super::{config_of, file, parsed, parsed_with};
use crate::control::Inheritance;

const ROUTE: &str = "[[route]]\nfrom = \"127.0.0.1:80\"\nto = \"a:1\"\n";

/// What is said about this file, without its offending line.
#[track_caller]
fn complaint(text: &str) -> String {
    let said = parsed_with(text, "").unwrap_err();
    let (line, excerpt) = said.split_once('\n').unwrap_or((&said, ""));
    let number: usize = line.split(':').nth(1).unwrap().parse().unwrap();
    assert_eq!(excerpt, format!("    {}", text.lines().nth(number - 1).unwrap_or_default()).trim_end(), "{said}");
    line.to_owned()
}

#[test]
fn a_route_has_a_name_listeners_and_an_upstream() {
    let text = "[[route]]\nname = \"web\"\nfrom = [\"127.0.0.1:80\", \"[::1]:80\"]\nto = [\"a.test:1,b.test:2\", \"10.0.0.1:3\"]\n\
                [[route]]\nname = \"media\"\nfrom = \":7000-7001\"\nto = \"media.test:8000-8001\"\n\
                [[route]]\nfrom = \"127.0.0.1:81\"\nto = \"c.test:1\"\n";
    let config = config_of(&parsed_with(text, "").unwrap());
    let seen: Vec<_> = config
        .routes
        .iter()
        .map(|route| {
            let to: Vec<_> = route.to.iter().map(ToString::to_string).collect();
            format!("{} {} {}", route.name, route.from, to.join(","))
        })
        .collect();
    let expected = [
        "web 127.0.0.1:80 a.test:1,b.test:2,10.0.0.1:3",
        "web [::1]:80 a.test:1,b.test:2,10.0.0.1:3",
        "media-7000 [::]:7000 media.test:8000",
        "media-7001 [::]:7001 media.test:8001",
        "127.0.0.1:81 127.0.0.1:81 c.test:1",
    ];
    assert_eq!(seen, expected);
    assert!(config.name_routes);
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_would_be_right() {
    let with = |line: &str| format!("{ROUTE}{line}\n");
    let above = |line: &str| format!("{line}\n{ROUTE}");
    for (text, expected) in [
        (above("idle-timeout = \"soon\""), "FILE:1:16: idle-timeout = \"soon\": write a time between 1ms and 365 days"),
        (with("idle-timeout = true"), "FILE:4:16: idle-timeout = true: invalid type: boolean `true`, expected a time"),
        (above("buffer-size = 64"), "FILE:1:15: buffer-size = 64: a buffer must be 4k to 16M"),
        (above("splice = \"maybe\""), "FILE:1:10: splice = \"maybe\": write \"auto\", \"on\" or \"off\""),
        (with("balance = \"random\""), "FILE:4:11: balance = \"random\": write \"first\", \"round-robin\""),
        (with("connect-attempts = 1001"), "FILE:4:20: connect-attempts = 1001: write a number from 1 to 1000"),
        (with("max-sessions = 0"), "FILE:4:16: max-sessions = 0: write a number of at least 1"),
        (with("name = \"a b\""), "FILE:4:8: name = \"a b\": write 1 to 64 letters, digits"),
        (with("conect-timeout = 1"), "FILE:4:1: there is no key \"conect-timeout\"; write connect-timeout"),
        (above("zzz = 1"), "FILE:1:1: there is no key \"zzz\"; the keys are the long options of --help"),
        (
            with("buffer-size = \"64k\""),
            "FILE:4:1: buffer-size is one for the process; write it above the first [[route]]",
        ),
        (above("to = \"a:1\""), "FILE:1:1: to is one route's own; write it below a line [[route]]"),
        (above("verbose = 1\nquiet = 1"), "FILE:1:1: verbose: cannot be used with quiet"),
        (above("verbose = 3"), "FILE:1:11: verbose = 3: write 0, 1 or 2"),
        ("[[route]]\nfrom = \":80\"\n".into(), "FILE:1:1: this route has no to; write to = \"127.0.0.1:8888\""),
        ("[[route]]\nto = \"a:1\"\n".into(), "FILE:1:1: this route has no from; write from = \"127.0.0.1:6101\""),
        ("[[route]]\nfrom = []\nto = \"a:1\"\n".into(), "FILE:2:8: from = []: the list is empty; write an address"),
        (
            "[[route]]\nfrom = \":80\"\nto = [\"a:1\",\n  \"b\"]\n".into(),
            "FILE:4:3: to = \"b\": the port is missing; write b:8888",
        ),
        ("[[route]]\nfrom = 80\nto = \"a:1\"\n".into(), "FILE:2:8: from = 80: the port is missing; write an address"),
        ("[route]\nfrom = \":80\"\n".into(), "FILE:1:2: this is one table; write [[route]]"),
        ("route = [1]\n".into(), "FILE:1:10: route: a route is a table; write a line [[route]]"),
        ("splice = \"auto\"\n".into(), "FILE:1:1: there is no route; write a line [[route]]"),
        (String::new(), "FILE:1:1: there is no route; write a line [[route]]"),
        (above("idle-timeout = soon"), "FILE:1:16: this is not TOML: "),
        (with("to = \"b:1\""), "FILE:4:1: this is not TOML: duplicate key"),
        (
            format!("{ROUTE}[[route]]\nto = \"a:1\"\nfrom = [\":81\", \":80\"]\n"),
            "FILE:6:16: from: :80 is taken by 127.0.0.1:80 before it; choose another",
        ),
        (
            format!("{ROUTE}name = \"a\"\n[[route]]\nfrom = \":81\"\nto = \"a:1\"\nname = \"a\"\n"),
            "FILE:8:1: name: a is the name of another route before; choose another",
        ),
        (
            "[[route]]\nfrom = \":70-79\"\nto = [\"a:1\", \"b:70-78\"]\n".into(),
            "FILE:3:14: to: b:70-78 has 9 ports and :70-79 has 10 ports; write ranges",
        ),
    ] {
        let said = complaint(&text);
        assert!(said.starts_with(expected), "\n{text}\n  {said}\n  {expected}");
    }
}

#[test]
fn of_two_errors_in_a_table_the_first_in_the_file_is_told() {
    let said = complaint(&format!("splice = 1\nbuffer-size = 1\nzzz = 1\n{ROUTE}"));
    assert!(said.starts_with("FILE:1:10: splice = 1: "), "{said}");
}

#[test]
fn a_check_tells_the_first_error_of_each_table_and_then_all_of_meaning() {
    let text = format!(
        "splice = 1\nbuffer-size = 1\n{ROUTE}[[route]]\nfrom = \"x\"\nto = \"y\"\n[[route]]\nfrom = \":80\"\nto = \"b:1-2\"\n\
         [[route]]\nfrom = \"127.0.0.1:80\"\nto = \"c:1\"\nzzz = 1\n[[route]]\nfrom = \"127.0.0.1:80\"\nto = \"d:1\"\n"
    );
    let said = parsed_with(&text, "--check").unwrap_err();
    let places: Vec<_> = said.lines().filter(|line| line.starts_with("FILE")).collect();
    let expected =
        ["FILE:1:10: ", "FILE:7:8: ", "FILE:15:1: ", "FILE:11:6: to: b:1-2 has 2 ports", "FILE:17:8: from: "];
    assert_eq!(places.len(), expected.len(), "{said}");
    for (place, expected) in places.iter().zip(expected) {
        assert!(place.starts_with(expected), "{place}: {expected}");
    }
    // Without it, the first.
    assert_eq!(parsed_with(&text, "").unwrap_err().lines().count(), 2);
    assert_eq!(parsed_with(ROUTE, "--check").unwrap_err(), "FILE is correct: 1 listener\n");
}

#[test]
fn a_check_names_each_place_of_a_name_that_does_not_resolve() {
    let text = "[[route]]\nfrom = \":7000-7001\"\nto = [\"good.test:1\", \"bad.invalid:2\"]\n\
                [[route]]\nfrom = \"worse.invalid:80\"\nto = \"echo:\"\n\
                [[route]]\nfrom = \":7000\"\nto = \"10.0.0.1:1,bad.invalid:3\"\n";
    let said = parsed_with(text, "--check").unwrap_err();
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("FILE")).collect();
    let expected = [
        "FILE:8:8: from: :7000 is written twice; leave one out",
        "FILE:3:22: to: bad.invalid: the name does not resolve: never",
        "FILE:5:8: from: worse.invalid: the name does not resolve: never",
        "FILE:9:6: to: bad.invalid: the name does not resolve: never",
    ];
    assert_eq!(lines, expected);
    // A relay that starts looks nothing up here: the name may be found later.
    assert!(parsed_with("[[route]]\nfrom = \":80\"\nto = \"bad.invalid:1\"\n", "").is_ok());
    let said = parsed("--check -f :80 -t good.test:1,bad.invalid:2 -t bad.invalid:3").unwrap_err();
    assert_eq!(said, "tproxy: --to bad.invalid: the name does not resolve: never");
}

/// What a start would refuse is not correct, if that can be known without listening.
#[test]
fn a_check_knows_what_a_start_would_refuse() {
    let many = |option: &str| format!("{option} {}", vec!["10.0.0.1"; 1025].join(","));
    for (words, said) in [
        ("-f 127.0.0.1:7777 -t 127.0.0.1:7777".to_owned(), "--to leads to 127.0.0.1:7777, where this relay itself"),
        ("-f :7777 -t 10.0.0.1:1,127.0.0.1:7777".to_owned(), "--to leads to :7777, where this relay itself"),
        ("-f unix:/tmp/none/q -t unix:/tmp/none/q".to_owned(), "--to leads to unix:/tmp/none/q, where"),
        ("-t echo: --source ::1".to_owned(), "--to 127.0.0.1:7 is IPv4, and the source addresses are IPv6"),
        ("-t 10.0.0.1:1 ".to_owned() + &many("--deny"), "--deny 1025 networks; 1024 is the most"),
        (
            "-t 10.0.0.1:1 --accept-proxy ".to_owned() + &many("--proxy-from"),
            "--proxy-from 1025 networks; 1024 is the most",
        ),
    ] {
        let answer = parsed(&format!("{words} --check")).unwrap_err();
        assert!(answer.starts_with(&format!("tproxy: {said}")), "{words}: {answer}");
    }
    let text = "[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"a:1\"\nsource = [\"127.0.0.1\", \"127.0.0.1\"]\n";
    let answer = parsed_with(text, "--check").unwrap_err();
    assert!(answer.starts_with("FILE:4:1: source: 127.0.0.1 is there twice"), "{answer}");
    let text =
        "[[route]]\nfrom = \":7777\"\nto = \"a:1\"\n[[route]]\nfrom = \":7778\"\nto = [\"b:1\", \"127.0.0.1:7777\"]\n";
    let answer = parsed_with(text, "--check").unwrap_err();
    assert!(answer.starts_with("FILE:6:14: to: leads to :7777, where this relay itself"), "{answer}");
}

/// A megabyte of routes is read in no time: what is too much is not looked at.
#[test]
fn a_file_has_at_most_1024_listeners() {
    let route = |number: usize| format!("[[route]]\nfrom='127.0.{}.{}:80'\nto='a:1'\n", number / 256, number % 256);
    let routes = |count| (0..count).map(route).collect::<String>();
    assert_eq!(parsed_with(&routes(1024), "--check").unwrap_err(), "FILE is correct: 1024 listeners\n");
    let said = parsed_with(&routes(20_000), "--check").unwrap_err();
    assert!(said.starts_with("FILE:3074:6: from: 127.0.4.0:80 makes more than 1024 listeners"), "{said}");
    let said = parsed_with(&"[[route]]\nzzz=1\n".repeat(60_000), "").unwrap_err();
    assert!(said.starts_with("FILE:2:1: there is no key"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let said = parsed("--config /no/such/file").unwrap_err();
    assert!(said.starts_with("tproxy: --config /no/such/file: No such file"), "{said}");
    let large = file(&format!("{ROUTE}#{}", "x".repeat(1 << 20)));
    let said = parsed(&format!("-c {}", large.path().display())).unwrap_err();
    assert!(said.contains("more than 1 MiB"), "{said}");
    let mut latin = file("# plain\n");
    std::io::Write::write_all(&mut latin, b"# caf\xe9\n").unwrap();
    let said = parsed(&format!("-c {}", latin.path().display())).unwrap_err();
    assert!(said.contains(":2:1: this line is not UTF-8"), "{said}");
}

#[test]
fn a_file_is_read_again_under_the_same_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    let words = format!("-c {} --buffer-size 8k", path.display());
    std::fs::write(&path, format!("buffer-size = \"1M\"\nsplice = \"on\"\n{ROUTE}")).unwrap();
    let options = parsed(&words).unwrap();
    let config = config_of(&options);
    let file = options.file.unwrap();
    assert_eq!(
        (file.load(&Inheritance::default()).unwrap().config, config.buffer_size, config.splice),
        (config, 8192, tproxy::Splice::On)
    );
    std::fs::write(&path, format!("{ROUTE}[[route]]\nfrom = \":81\"\nto = \"b:1\"\n")).unwrap();
    let config = file.load(&Inheritance::default()).unwrap().config;
    assert_eq!((config.routes.len(), config.name_routes, config.buffer_size), (2, true, 8192));
    std::fs::write(&path, "[[route]]\nfrom = \":80\"\n").unwrap();
    let said = file.load(&Inheritance::default()).unwrap_err();
    assert_eq!(said, format!("{}:1:1: this route has no to; write to = \"127.0.0.1:8888\"", path.display()));
    std::fs::remove_file(&path).unwrap();
    assert!(file.load(&Inheritance::default()).unwrap_err().contains("No such file"));
}

#[test]
fn keys_of_the_process_that_changed_need_a_restart_unless_the_command_line_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    let write = |top: &str| std::fs::write(&path, format!("{top}{ROUTE}")).unwrap();
    for (words, before, expected) in [
        ("", "", &["port-file", "log-format", "verbose"][..]),
        ("", "verbose = 1\nport-file = \"/x\"\nlog-format = \"json\"\n", &["verbose"]),
        ("", "quiet = 1\nport-file = \"/x\"\n", &["log-format", "verbose", "quiet"]),
        ("-q --log-format json", "", &["port-file"]),
        ("--port-file /y -v --log-format text", "", &[]),
    ] {
        write(before);
        let file = parsed(&format!("-c {} {words}", path.display())).unwrap().file.unwrap();
        assert!(file.load(&Inheritance::default()).unwrap().needs_restart.is_empty(), "{words} {before}");
        write("verbose = 2\nport-file = \"/x\"\nlog-format = \"json\"\n");
        assert_eq!(file.load(&Inheritance::default()).unwrap().needs_restart, expected, "{words} {before}");
    }
    // Each of the others alone.
    for (key, value) in [("admin", "127.0.0.1:9000"), ("metrics", ":9001"), ("pid-file", "/x")] {
        write("");
        let file = parsed(&format!("-c {}", path.display())).unwrap().file.unwrap();
        write(&format!("{key} = {value:?}\n"));
        assert_eq!(file.load(&Inheritance::default()).unwrap().needs_restart, [key]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn no_text_makes_the_reader_of_files_panic(text in any::<String>(), likely in "([a-z-]{1,8}|route|from|to|name|[\\[\\]=\"\n.,:0-9é-]| ){0,60}") {
        for text in [&text, &likely, &format!("{ROUTE}{likely}"), &format!("{likely}\n{ROUTE}")] {
            let _ = parsed_with(text, "--check");
        }
    }

    #[test]
    fn no_value_makes_it_panic(key in prop::sample::select(vec!["name", "from", "to", "balance", "idle-timeout", "buffer-size", "verbose", "max-sessions", "route"]), value in "(\"[^\"\\\\]{0,20}\"|-?[0-9]{1,22}|true|[0-9]\\.[0-9]|\\[\\]|\\[\"a:1\", 2\\]|\\{a = 1\\}|1979-05-27)") {
        let line = format!("{key} = {value}\n");
        for text in [format!("{line}{ROUTE}"), format!("{ROUTE}{line}"), format!("[[route]]\n{line}")] {
            let _ = parsed_with(&text, "--check");
        }
    }
}
