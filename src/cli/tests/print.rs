//! What `--print` makes of the options beside it.

use clap::CommandFactory as _;

use super::super::Args;
use super::{parsed, parsed_with};

fn printed(what: &str, words: &str) -> String {
    parsed(&format!("--print {what} -t a:1 {words}")).unwrap_err()
}

/// Most of these lines are checked nowhere else.
#[test]
fn what_is_printed_is_this_from_the_first_line_to_the_last() {
    let line = "-f :5432,:6379 --drain-timeout 1m";
    for (what, expected) in [
        ("unit", include_str!("printed/tproxy.service")),
        ("unit-template", include_str!("printed/tproxy@.service")),
        ("socket", include_str!("printed/tproxy.socket")),
        ("socket-template", include_str!("printed/tproxy@.socket")),
        ("k8s", include_str!("printed/k8s.yaml")),
    ] {
        let text = printed(what, line);
        // The program is that of this test, wherever it is.
        let start =
            text.lines().find_map(|line| line.strip_prefix("ExecStart=")?.split_once(" -t ")).map(|both| both.0);
        let text = start.map_or_else(|| text.clone(), |program| text.replacen(program, "/usr/bin/tproxy", 1));
        let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        assert_eq!(text, expected, "--print {what}");
    }
    // The port, the annotation and the argument are one number.
    let text = printed("k8s", &format!("{line} --metrics :9100")).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    assert_eq!(text, include_str!("printed/k8s.yaml").replace("9001", "9100"));
}

#[test]
fn a_socket_unit_listens_where_the_relay_would() {
    let unit = printed(
        "socket",
        "-f :80,127.0.0.1:81-82,unix:/run/a%b,unix:@name,unix:/run/\u{e9} --unix-mode 600 --backlog 7",
    );
    let lines = "\n[Socket]\nListenStream=[::]:80\nListenStream=127.0.0.1:81\nListenStream=127.0.0.1:82\n\
                 ListenStream=/run/a%%b\nListenStream=@name\nListenStream=/run/\u{e9}\nSocketMode=0600\nBacklog=7\n";
    assert!(unit.contains(lines) && !unit.contains("ReusePort"), "{unit}");
    assert!(printed("socket-template", "-f :80").contains("\nReusePort=yes\n"));
}

#[test]
fn a_socket_unit_has_the_longest_backlog() {
    let route = |port, backlog| format!("[[route]]\nfrom = \":{port}\"\nto = \"a:1\"\nbacklog = {backlog}\n");
    let unit = parsed_with(&[route(80, 7), route(81, 9), route(82, 8)].concat(), "--print socket").unwrap_err();
    assert!(unit.contains("\nBacklog=9\n"), "{unit}");
}

/// A name without a file has no mode.
#[test]
fn a_socket_unit_has_the_mode_of_its_files() {
    let route = |from, mode| format!("[[route]]\nfrom = \"unix:{from}\"\nto = \"a:1\"\nunix-mode = \"{mode}\"\n");
    let unit = |routes: &[String]| parsed_with(&routes.concat(), "--print socket").unwrap_err();
    let said = unit(&[route("/run/a", 600), route("@b", 640), route("/run/c", 600)]);
    assert!(said.contains("\nSocketMode=0600\n"), "{said}");
    let said = unit(&[route("@b", 640)]);
    assert!(said.contains("\nListenStream=@b\n") && !said.contains("SocketMode"), "{said}");
    let said = unit(&[route("/run/a", 600), route("/run/c", 660)]);
    assert!(said.contains("one mode for all its files"), "{said}");
}

#[test]
fn a_socket_unit_needs_addresses() {
    for (from, words) in [
        ("127.0.0.1:0", "needs a port"),
        ("localhost:80", "looks up no names"),
        ("unix:./a", "from the root"),
        ("fd:3", "write that address"),
    ] {
        let said = printed("socket", &format!("-f {from}"));
        assert!(said.starts_with("tproxy: --print: ") && said.contains(words), "{said}");
    }
    for from in ["unix:/run/a", "unix:@a"] {
        assert!(printed("socket-template", &format!("-f {from}")).contains("a Unix socket of its own"), "{from}");
    }
    // A line that ends in a backslash goes on in the next.
    for end in ["\\\\", "\\u0001"] {
        let said = parsed_with(&format!("[[route]]\nfrom = \"unix:/run/a{end}\"\nto = \"a:1\"\n"), "--print socket");
        assert!(said.unwrap_err().contains("cannot have this path"), "{end:?}");
    }
}

#[test]
fn instances_have_no_file_and_no_address_in_common() {
    assert!(printed("unit-template", "--pid-file /run/pid").contains("all instances would write this file"));
    for option in ["--admin 127.0.0.1:9000", "--metrics [::]:9001"] {
        let said = printed("unit-template", option);
        assert!(said.contains(&format!("{option}: all instances would listen there")), "{said}");
    }
}

#[test]
fn a_unit_has_a_reload_if_there_is_a_file() {
    let route = "[[route]]\nfrom = \":80\"\nto = \"a:1\"\n";
    let with_file = parsed_with(route, "--print unit").unwrap_err();
    assert!(with_file.contains("\nExecReload=/bin/kill -HUP $MAINPID\n"), "{with_file}");
    assert!(!printed("unit", "-f :80").contains("ExecReload"));
    assert!(parsed_with(route, "--print k8s").unwrap_err().contains("mount the file"));
}

#[test]
fn a_template_has_a_folder_and_a_socket_for_each_instance() {
    let unit = printed("unit-template", "-f :80");
    assert!(
        unit.contains("\nRequires=tproxy@%i.socket\n") && unit.contains("\nRuntimeDirectory=tproxy-%i\n"),
        "{unit}"
    );
    assert!(unit.contains(" -t a:1 -f :80\n") && !printed("unit", "-f :80").contains("%i"), "{unit}");
}

#[test]
fn a_service_has_paths_from_the_root() {
    for words in ["--port-file port", "--pid-file ./pid", "-f unix:./a", "--admin unix:./a"] {
        let said = printed("unit", words);
        assert!(said.contains("write the path from the root"), "{said}");
    }
    let route = "[[route]]\nfrom = \":80\"\nto = [\"a:1\", \"unix:./b\"]\n";
    let said = parsed_with(route, "--print unit").unwrap_err();
    assert!(said.contains("unix:./b: a service has no working directory"), "{said}");
    assert!(!printed("unit", "--port-file - --pid-file /run/tproxy/pid").contains("from the root"));
}

#[test]
fn the_grace_of_a_pod_is_its_delay_its_drain_and_five_seconds() {
    for (words, seconds) in [
        ("", 5 + 15 + 5),
        ("--drain-delay 0", 15 + 5),
        ("--drain-delay 7s --drain-timeout 1m", 7 + 60 + 5),
        // A day is long enough.
        ("--drain-timeout off", 5 + 86_400 + 5),
    ] {
        let text = printed("k8s", &format!("-f :80 {words}"));
        assert!(text.contains(&format!("\n      terminationGracePeriodSeconds: {seconds}\n")), "{words}: {text}");
    }
}

#[test]
fn a_manifest_is_of_what_a_pod_can_have() {
    for (words, why) in [
        ("-f 127.0.0.1:80", "write :80"),
        ("-f unix:/a", "leads to a port"),
        ("-f :9001", "port 9001 is taken"),
        ("-f :80 --admin 127.0.0.1:9001", "the port of --metrics"),
        ("-f :80 --admin unix:/run/a", "is read-only"),
        ("-f :80 --pid-file=/run/pid", "is read-only"),
        ("-f :80 --port-file /run/port", "is read-only"),
        ("-f :80 --metrics 127.0.0.1:9", "write --metrics :9001"),
    ] {
        assert!(printed("k8s", words).contains(why), "{words}");
    }
}

#[test]
fn a_manifest_has_no_option_twice() {
    for delay in ["--drain-delay 0", "--drain-delay=0s", "--drain-delay 7s"] {
        let text = printed("k8s", &format!("-f :80 {delay}"));
        assert_eq!(text.matches("--drain-delay").count(), 1, "{text}");
    }
}

#[test]
fn completions_are_for_a_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = parsed(&format!("--print completions {shell}")).unwrap_err();
        for option in Args::command().get_arguments().filter_map(|argument| argument.get_long()) {
            let words = if shell == "fish" { format!(" -l {option}") } else { format!("--{option}") };
            assert!(script.contains(&words), "{shell}: {option}");
        }
    }
    for (words, why) in [
        ("completions", "bash, zsh or fish"),
        ("bash", "write --print completions bash"),
        ("man bash", "only completions"),
        ("completions man", "only completions"),
    ] {
        let said = parsed(&format!("--print {words}")).unwrap_err();
        assert!(said.contains(why), "{words}: {said}");
    }
    assert!(parsed("--print man").unwrap_err().contains(".SH OPTIONS"));
}
