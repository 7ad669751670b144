//! The museum: bugs that relays have had, each put into ours, and the simulation that has to find them.
//!
//! ```console
//! $ cargo test --test museum -- --ignored --nocapture
//! $ TPROXY_MUSEUM=reset,fin cargo test --test museum -- --ignored --nocapture     # those whose name contains one of these
//! ```
//! Each `NAME.bug` in this folder is an exhibit (`exhibit.rs`). It is put into a copy of the sources, which is built
//! and run through at most 10,000 seeds. A bug that is not found is a hole in the simulation. An exhibit whose text no
//! longer occurs, or that does not compile, is a failure too.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod exhibit;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use exhibit::Exhibit;

const SEEDS: u32 = 10_000;

#[test]
#[ignore = "builds the project once for each bug: see the head of this file"]
fn every_known_bug_is_caught() {
    let wanted = std::env::var("TPROXY_MUSEUM").unwrap_or_default();
    let is_wanted = |bug: &Exhibit| wanted.split(',').any(|part| bug.name.contains(part));
    let bugs: Vec<_> = exhibits().into_iter().filter(is_wanted).collect();
    let copy = tempfile::tempdir().unwrap();
    let mut missed = Vec::new();
    // What is found has to be the bug: without one, the same seeds see nothing.
    restore(copy.path());
    let clean = run(simulation(copy.path()).arg("random_seeds_hold"));
    assert!(clean.status.success(), "the sources as they are: {}", text(&clean.stdout));
    for bug in &bugs {
        match examine(copy.path(), bug) {
            Ok(found) => eprintln!("caught  {:42} {found}", bug.name),
            Err(why) => {
                eprintln!("MISSED  {:42} {why}", bug.name);
                missed.push(&bug.name);
            }
        }
    }
    eprintln!("{} of {} bugs caught", bugs.len() - missed.len(), bugs.len());
    assert!(missed.is_empty(), "not caught: {missed:?}");
    assert!(!bugs.is_empty(), "no bug is named like {wanted:?}");
}

/// What the run above takes minutes to find out.
#[test]
fn every_bug_still_applies() {
    let copy = tempfile::tempdir().unwrap();
    for bug in exhibits() {
        restore_folder(copy.path(), "src");
        bug.apply(&copy.path().join("src")).unwrap_or_else(|why| panic!("{}: {why}", bug.name));
    }
}

/// And in a minute, that each is still a program: one that does not compile proves nothing.
#[test]
#[ignore = "checks the project once for each bug; .ci/run asks for it"]
fn every_bug_still_compiles() {
    let copy = tempfile::tempdir().unwrap();
    restore(copy.path());
    let mut broken = Vec::new();
    for bug in exhibits() {
        restore_folder(copy.path(), "src");
        bug.apply(&copy.path().join("src")).unwrap_or_else(|why| panic!("{}: {why}", bug.name));
        let checked = run(cargo(copy.path()).args(["check", "--quiet", "--locked", "--lib"]));
        if !checked.status.success() {
            eprintln!("{}: {}", bug.name, text(&checked.stderr));
            broken.push(bug.name);
        }
    }
    assert!(broken.is_empty(), "these do not compile: {broken:?}");
}

/// Builds the copy with this bug and runs the seeds. Which one found it?
fn examine(copy: &Path, bug: &Exhibit) -> Result<String, String> {
    restore_folder(copy, "src");
    bug.apply(&copy.join("src"))?;
    let built = run(simulation(copy).arg("--no-run"));
    if !built.status.success() {
        return Err(format!("it does not compile: {}", text(&built.stderr)));
    }
    let seeds = run(simulation(copy).arg("random_seeds_hold"));
    if seeds.status.success() {
        return Err(format!("{SEEDS} seeds have seen nothing"));
    }
    // The simulation says how to replay what it found.
    let said = text(&seeds.stdout) + &text(&seeds.stderr);
    let replay = said.split_whitespace().find(|word| word.starts_with("TPROXY_SIM_SEED="));
    replay.map(str::to_owned).ok_or_else(|| format!("it failed, but not at a seed: {said}"))
}

/// The simulation in the copy, with a target folder that all bugs share, so that the dependencies are built once.
fn simulation(copy: &Path) -> Command {
    let mut cargo = cargo(copy);
    cargo.env("TPROXY_SIM_SEEDS", SEEDS.to_string()).env_remove("TPROXY_SIM_SEED");
    cargo.args(["test", "--quiet", "--locked", "--test", "sim"]);
    cargo
}

fn cargo(copy: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("museum"));
    cargo.env("RUSTFLAGS", "-Awarnings").env("RUST_BACKTRACE", "0");
    cargo
}

/// Puts the sources and the simulation into the copy as they are here, and the benches, which the manifest names.
fn restore(copy: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["Cargo.toml", "Cargo.lock", "README.md"] {
        fs::copy(root.join(file), copy.join(file)).unwrap();
    }
    for folder in ["src", "tests/sim", "benches"] {
        restore_folder(copy, folder);
    }
}

fn restore_folder(copy: &Path, folder: &str) {
    let _ = fs::remove_dir_all(copy.join(folder));
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &copy.join(folder));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

fn exhibits() -> Vec<Exhibit> {
    exhibit::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/museum"))
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
