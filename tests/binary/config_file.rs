//! `--config`, `--check` and `--print`.

use std::fs;

use crate::peers::{Upstream, client, finish};
use crate::process::tproxy;
use crate::served::Served;

/// A folder with a file of this text, and its path.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn the_routes_of_a_file_are_served() {
    let (first, second) = (Upstream::new(), Upstream::new());
    let text = format!(
        "buffer-size = \"8k\"\n\n[[route]]\nname = \"one\"\nfrom = \"127.0.0.1:0\"\nto = \"{}\"\n\n[[route]]\nname = \"two\"\n\
         from = \"127.0.0.1:0\"\nto = [\"{}\"]\n",
        first.address, second.address
    );
    let (_folder, path) = file(&text);
    let mut relay = Served::with(&["--config", &path]);
    relay.log.wait_for("buffers of 8 KiB");
    for (upstream, listener) in [(&first, relay.addresses[0]), (&second, relay.addresses[1])] {
        let near = client(listener);
        let far = upstream.accept();
        finish(&near);
        finish(&far);
    }
    assert_eq!(relay.stop(), 0);
    // The command line wins.
    let mut relay = Served::with(&["-c", &path, "--buffer-size", "16k"]);
    relay.log.wait_for("buffers of 16 KiB");
    assert_eq!(relay.stop(), 0);
}

#[test]
fn at_the_limit_of_a_route_the_log_says_what_becomes_of_its_clients() {
    for (at_limit, fate) in [("wait", "wait in the kernel's queue"), ("reset", "are reset")] {
        let limits = format!("max-sessions = 1\nat-limit = \"{at_limit}\"\n");
        let (_folder, path) = file(&format!("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"echo:\"\n{limits}"));
        let mut relay = Served::with(&["-c", &path]);
        let near = client(relay.addresses[0]);
        relay.log.wait_for(&format!("at the limit of 1 sessions; new clients {fate}"));
        finish(&near);
        assert_eq!(relay.stop(), 0);
    }
}

#[test]
fn a_route_of_a_file_may_lead_to_the_built_in_server() {
    let (_folder, path) = file("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"echo:\"\n");
    let mut relay = Served::with(&["-c", &path]);
    let near = client(relay.addresses[0]);
    crate::peers::say(&near, b"hello");
    assert_eq!(crate::peers::hear(&near, 5), b"hello");
    finish(&near);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_wrong_file_is_2_with_the_place_and_the_line() {
    let text = "[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"a:1\"\nidle-timeout = \"soon\"\n\n[[route]]\nfrom = \":80-81\"\nto = \"a\"\n";
    let (_folder, path) = file(text);
    let expected = [
        format!(
            "{path}:4:16: idle-timeout = \"soon\": write a time between 1ms and 365 days, such as 5s, 1m30s or 250ms (plain digits are seconds), or off"
        ),
        "    idle-timeout = \"soon\"".to_owned(),
        format!("{path}:8:6: to = \"a\": the port is missing; write a:8888"),
        "    to = \"a\"".to_owned(),
    ];
    for (arguments, lines) in [(vec!["-c", &path], &expected[..2]), (vec!["-c", &path, "--check"], &expected)] {
        let finished = tproxy(&arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{finished:?}");
        assert_eq!(finished.stderr, lines, "{arguments:?}");
    }
}

#[test]
fn a_check_of_what_is_correct_is_0_and_binds_nothing() {
    // Taken, which does not matter. localhost is known without a name server.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let text = format!(
        "[[route]]\nfrom = \"localhost:1\"\nto = \"localhost:1\"\n[[route]]\nfrom = \"{taken}\"\nto = \"127.0.0.1:1\"\n"
    );
    let (_folder, path) = file(&text);
    let finished = tproxy(["--config", &path, "--check"]);
    assert_eq!((finished.code, finished.stderr.len()), (0, 0), "{finished:?}");
    assert_eq!(finished.stdout, format!("{path} is correct: 2 listeners\n"));
    let finished = tproxy(["--check", "-f", &taken.to_string(), "-t", "localhost:1"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (0, "the command line is correct: 1 listener\n"));
    let finished = tproxy(["--check", "-f", ":80", "-t", "127.0.0.1:1", "-f", "127.0.0.1:80", "-t", "127.0.0.1:1"]);
    assert_eq!(finished.code, 2, "{finished:?}");
    assert!(finished.stderr[0].contains("--from 127.0.0.1:80 is taken by :80"), "{finished:?}");
}

/// Nobody may ever own that domain (RFC 6761). Offline, a name server that does not answer is said instead.
#[test]
fn a_check_of_a_name_that_does_not_resolve_is_2_with_its_place() {
    let is_told = |line: &str, place: &str| {
        let why = line.strip_prefix(place).unwrap_or_else(|| panic!("{place}: {line}"));
        assert!(why.starts_with("the name does not resolve: ") || why.starts_with("no answer within 5s"), "{line}");
    };
    let text = "[[route]]\nfrom = \"no-such-host.invalid:80\"\nto = \"127.0.0.1:1\"\n[[route]]\nfrom = \"127.0.0.1:0\"\n\
                to = [\"localhost:1\", \"no-such-host.invalid:1\"]\n";
    let (_folder, path) = file(text);
    let finished = tproxy(["--config", &path, "--check"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{finished:?}");
    let [first, _, second, excerpt] = &finished.stderr[..] else { panic!("{finished:?}") };
    is_told(first, &format!("{path}:2:8: from: no-such-host.invalid: "));
    is_told(second, &format!("{path}:6:22: to: no-such-host.invalid: "));
    assert_eq!(excerpt, "    to = [\"localhost:1\", \"no-such-host.invalid:1\"]");
    let finished = tproxy(["--check", "-f", "127.0.0.1:0", "-t", "localhost:1,no-such-host.invalid:1"]);
    assert_eq!((finished.code, finished.stderr.len()), (2, 1), "{finished:?}");
    is_told(&finished.stderr[0], "tproxy: --to no-such-host.invalid: ");
}

#[test]
fn settings_of_routes_do_not_stand_beside_a_file() {
    let (_folder, path) = file("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"a:1\"\n");
    for option in ["--to=b:1", "--from=:80", "--idle-timeout=1s", "--balance=source"] {
        let finished = tproxy(["-c", &path, option]);
        assert_eq!(finished.code, 2, "{finished:?}");
        let name = option.split('=').next().unwrap();
        let [line] = &finished.stderr[..] else { panic!("one line, please: {finished:?}") };
        assert!(line.contains(&format!("{name} is a setting of routes: with --config, write")), "{line}");
    }
}

#[test]
fn a_file_that_is_not_there_is_2() {
    let finished = tproxy(["-c", "/no/such/file.toml"]);
    assert_eq!(finished.code, 2);
    assert_eq!(finished.stderr, ["tproxy: --config /no/such/file.toml: No such file or directory (os error 2)"]);
}

#[test]
fn the_example_that_is_printed_is_correct() {
    let printed = tproxy(["--print", "example-config"]);
    assert_eq!((printed.code, printed.stderr.len()), (0, 0));
    let (_folder, path) = file(&printed.stdout);
    // Its names are not commented in.
    assert_eq!(tproxy(["-c", &path, "--check"]).code, 0);
    let finished = tproxy(["--print", "nonsense"]);
    assert_eq!(finished.code, 2);
    assert!(finished.stderr[0].contains("example-config"), "{finished:?}");
}

#[test]
fn the_file_sets_the_level_of_the_log_above_rust_log_and_below_the_command_line() {
    let upstream = Upstream::new();
    let route = format!("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"{}\"\n", upstream.address);
    let (_folder, path) = file(&format!("quiet = 2\n{route}"));
    // It says all it says before it listens, so that it is known to have started.
    let mut relay = Served::with(&["-c", &path, "-v"]);
    assert_eq!(relay.stop(), 0);
    let finished = tproxy(["-c", &path, "--port-file", "/no/such/folder/port"]);
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.iter().all(|line| line.contains(" ERROR ")), "{finished:?}");
}

#[test]
fn a_route_serves_no_more_sessions_than_it_may_and_no_more_than_the_process_may() {
    let route = |most| format!("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"127.0.0.1:9\"\nmax-sessions = {most}\n");
    let (_folder, path) = file(&format!("max-sessions = 5\n{}{}", route(3), route(9)));
    let mut relay = Served::with(&["-c", &path]);
    let lines = relay.log.with("listening on ");
    assert!(lines[0].ends_with("up to 3 sessions") && lines[1].ends_with("up to 5 sessions"), "{lines:?}");
    assert_eq!(relay.stop(), 0);
}
