//! `--print unit`: systemd takes it, and what the service may do is little.

use std::process::Command;

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
