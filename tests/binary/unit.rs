//! `--print`: systemd takes the units, and what the service may do is little; man, the shells and YAML take the rest.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::process::tproxy;

/// The most that `systemd-analyze security` may say, where 10 is everything.
const EXPOSURE_MAX: f64 = 2.0;

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let words = ["-f", ":5432", "-t", "unix:/run/a b", "--drain-timeout", "1m", "--print", "unit"];
    let printed = tproxy(words);
    assert_eq!((printed.code, &printed.stderr[..]), (0, &[][..]));
    let start =
        format!("\nExecStart={} -f :5432 -t \"unix:/run/a b\" --drain-timeout 1m\n", env!("CARGO_BIN_EXE_tproxy"));
    assert!(printed.stdout.contains(&start) && printed.stdout.contains("\nTimeoutStopSec=65s\n"), "{}", printed.stdout);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tproxy.service");
    std::fs::write(&path, &printed.stdout).unwrap();
    let analyze = |words: &[&str]| Command::new("systemd-analyze").args(words).arg(&path).output();
    // Where it is not installed, the text above is all that is checked.
    let Ok(verified) = analyze(&["verify"]) else { return };
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
    let Ok(secure) = analyze(&["security", "--offline=true"]) else { return };
    let text = String::from_utf8_lossy(&secure.stdout);
    // Before version 250 there is no --offline.
    if let Some(level) = text.lines().find_map(|line| line.split_once(": ").filter(|_| line.contains("exposure"))) {
        let level: f64 = level.1.split(' ').next().unwrap().parse().unwrap();
        assert!(level <= EXPOSURE_MAX, "{text}");
    }
}

#[test]
fn a_unit_is_printed_only_of_what_is_correct() {
    let refused = tproxy(["-f", ":5432", "-t", "nonsense", "--print", "unit"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
}

/// Where it is installed, this reads what comes on its stdin without a complaint. Returns what it says on stdout.
fn takes(program: &str, words: &[&str], text: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{program} {words:?}: {said} {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_man_page_has_no_faults() {
    let page = tproxy(["--print", "man"]).stdout;
    for part in [".SH OPTIONS", "half\\-close\\-timeout", "SIGUSR2"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(takes("mandoc", &["-T", "lint"], &page).unwrap_or_default(), "");
    takes("man", &["--warnings", "-l", "-"], &page);
}

#[test]
fn the_shells_complete_the_options() {
    let script = |shell| tproxy(["--print", "completions", shell]).stdout;
    let ask = "\nCOMP_WORDS=(tproxy --half); COMP_CWORD=1; _tproxy tproxy --half tproxy; echo \"${COMPREPLY[@]}\"\n";
    let bash = takes("bash", &["-s"], &(script("bash") + ask)).unwrap_or_else(|| "--half-close-timeout\n".to_owned());
    assert_eq!(bash, "--half-close-timeout\n");
    if let Some(fish) = takes("fish", &["--no-config"], &(script("fish") + "\ncomplete -C 'tproxy --half'\n")) {
        assert!(fish.starts_with("--half-close-timeout"), "{fish}");
    }
    let begin = "autoload -U compinit; compinit -D -u\n";
    if let Some(zsh) = takes("zsh", &["-f", "-s"], &format!("{begin}{}\necho $_comps[tproxy]\n", script("zsh"))) {
        assert_eq!(zsh, "_tproxy\n");
    }
}

#[test]
fn the_manifest_is_yaml() {
    let manifest = tproxy(["--print", "k8s", "-f", ":5432", "-t", "db:1"]).stdout;
    let script = "import sys, importlib.util\nif importlib.util.find_spec('yaml'):\n import yaml\n \
                  print(*[one['kind'] for one in yaml.safe_load_all(sys.stdin.read())])\nelse:\n print('Deployment Service')";
    let kinds = takes("python3", &["-c", script], &manifest).unwrap_or_else(|| "Deployment Service\n".to_owned());
    assert_eq!(kinds, "Deployment Service\n");
}

#[test]
fn systemd_takes_a_socket_and_templates() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        ("unit", "tproxy.service"),
        ("socket", "tproxy.socket"),
        ("unit-template", "tproxy@.service"),
        ("socket-template", "tproxy@.socket"),
    ];
    for (what, name) in names {
        let printed = tproxy(["-f", ":5432,127.0.0.1:6000-6001", "-t", "127.0.0.1:9", "--print", what]);
        assert_eq!((printed.code, &printed.stderr[..]), (0, &[][..]));
        std::fs::write(folder.path().join(name), &printed.stdout).unwrap();
    }
    for name in ["tproxy.socket", "tproxy@1.socket"] {
        let path = folder.path().join(name);
        let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else { return };
        assert!(verified.status.success() && verified.stderr.is_empty(), "{name}: {verified:?}");
    }
}
