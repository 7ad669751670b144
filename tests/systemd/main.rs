//! The front page's "As a service", followed under systemd: the printed units, hand-over, crash, reload, watchdog, sockets.
//!
//! ```console
//! # cargo test --release --test systemd -- --ignored --nocapture
//! ```
//! Needs root, systemd (its program; it need not run), `unshare`, `ip` and python3, and takes seconds. systemd is the first
//! process of namespaces of its own ([boot.sh](boot.sh)), on an overlay of this machine's files: nothing that it does is seen
//! outside. There, [follow.sh](follow.sh) does what the front page says.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd");

/// The longest that all of it may take, in seconds.
const TIME_MAX: &str = "300";

#[test]
#[ignore = "needs root and systemd: see the head of this file"]
fn the_service_section_works_under_systemd() {
    let (layer, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["follow.sh", "load.py"] {
        fs::copy(Path::new(FOLDER).join(name), shared.path().join(name)).unwrap();
    }
    let console = Command::new("timeout")
        .args([
            TIME_MAX,
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--uts",
            "--ipc",
            "--net",
            "--cgroup",
            "--kill-child",
        ])
        .args(["bash", &format!("{FOLDER}/boot.sh")])
        .args([layer.path(), Path::new(env!("CARGO_BIN_EXE_tproxy")), shared.path()])
        .output()
        .unwrap();
    let read = |name: &str| fs::read_to_string(shared.path().join(name)).unwrap_or_default();
    let results = read("results");
    eprintln!("{results}{}", read("trouble"));
    assert!(results.ends_with("over\n"), "{}", String::from_utf8_lossy(&console.stderr));

    let seen = |step: &str| {
        let line = results.lines().find_map(|line| line.strip_prefix(step)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{step} was not seen"))
    };
    for (step, restarts) in [("start", 0), ("hand-over", 0), ("killed", 1), ("wrong file", 0), ("watchdog", 1)] {
        let state = seen(step);
        let parts = ["ActiveState=active", &format!("NRestarts={restarts} "), " 1 route"];
        assert!(parts.iter().all(|part| state.contains(part)), "{step}: {state}");
    }
    assert!(seen("socket restart").contains("ActiveState=active"), "{}", seen("socket restart"));
    for step in ["stop", "socket"] {
        assert!(seen(step).contains("ActiveState=inactive"), "{step}: {}", seen(step));
    }
    for step in ["hand-over load", "reload load", "socket load", "template load"] {
        let load = seen(step);
        assert!(!load.starts_with("served=0 ") && load.contains(" failed=0 "), "{step}: {load}");
    }
    assert_eq!(seen("template"), "active active ");
    // until_is says what did not come.
    assert!(!results.contains(", not "), "{results}");
}
