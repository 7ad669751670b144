//! `--admin` and `--metrics`, and the files that a relay writes: on the command line and in a file.

use std::fmt::Display;

use super::{config_of, parsed, parsed_with};

const ROUTE: &str = "[[route]]\nfrom = \"127.0.0.1:6101\"\nto = \"127.0.0.1:80\"\n";

#[test]
fn an_http_listener_has_an_address_of_its_own() {
    let complaint = |words: &str| parsed(&format!("-t 127.0.0.1:1 {words}")).unwrap_err();
    for (words, taken) in [
        ("-f :80 --admin 127.0.0.1:80", "--admin 127.0.0.1:80: that is taken by :80"),
        ("-f :79,:80 --admin 127.0.0.1:80", "--admin 127.0.0.1:80: that is taken by :80"),
        ("-f 127.0.0.1:80 --metrics :80", "--metrics [::]:80: that is taken by 127.0.0.1:80"),
        ("-f unix:/run/a --admin unix:/run/a", "--admin unix:/run/a: that is taken by unix:/run/a"),
        ("--admin 127.0.0.1:9 --metrics 0.0.0.0:9", "--metrics 0.0.0.0:9: that is taken by --admin 127.0.0.1:9"),
    ] {
        assert!(complaint(words).contains(taken), "{}", complaint(words));
    }
    for words in ["-f :80 --admin 127.0.0.1:81 --metrics :82", "-f :0 --admin 127.0.0.1:0 --metrics :0"] {
        parsed(&format!("-t 127.0.0.1:1 {words}")).unwrap();
    }
}

fn shown<T: Display>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|one| one.to_string()).collect()
}

#[test]
fn the_command_line_wins_over_the_file() {
    let text = format!("admin = \"127.0.0.1:1\"\nmetrics = \":2\"\npid-file = \"/a\"\nport-file = \"/b\"\n{ROUTE}");
    let seen = |words: &str| {
        let options = parsed_with(&text, words).unwrap();
        let http = options.http.iter().map(|(role, address)| format!("--{} {address}", role.word()));
        http.chain(shown(options.pid_file.iter().chain(&options.port_file))).collect::<Vec<_>>()
    };
    let file = ["--admin 127.0.0.1:1", "--metrics [::]:2", "--pid-file /a", "--port-file /b"];
    assert_eq!(seen(""), file);
    for (index, words) in
        ["--admin 127.0.0.1:3", "--metrics [::]:4", "--pid-file /c", "--port-file /d"].into_iter().enumerate()
    {
        let mut expected = file;
        expected[index] = words;
        assert_eq!(seen(words), expected);
    }
}

/// Sessions cannot have these descriptors.
#[test]
fn either_http_listener_has_descriptors_for_sixteen_clients() {
    for (words, reserved) in
        [("", 0), ("--admin 127.0.0.1:9", 16), ("--metrics :9", 16), ("--admin 127.0.0.1:9 --metrics :8", 16)]
    {
        let options = parsed(&format!("-t 127.0.0.1:80 {words}")).unwrap();
        assert_eq!(config_of(&options).descriptors_reserved, reserved, "{words}");
    }
}
