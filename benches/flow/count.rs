//! Instructions instead of times: the same number in every run, also on a machine whose clock is not steady.
//!
//! valgrind counts each bench twice: with some repetitions, and with three times as many. The difference, divided by the
//! additional repetitions, is the cost of one. The start and the end of the program are in both counts.

use std::env;
use std::error::Error;
use std::process::Command;

use crate::{pairs, reactors};

type Bench = (&'static str, usize, fn() -> Box<dyn FnMut()>);

/// Each with its repetitions.
const BENCHES: [Bench; 6] = [
    ("64 B there and back", 2_000, || Box::new(pairs::back())),
    ("1 GiB copied", 2, || Box::new(pairs::copied())),
    ("1 GiB spliced", 4, || Box::new(pairs::spliced())),
    ("one 64 B message, 64 sessions", 2_000, || Box::new(reactors::message(64))),
    ("a session from accept to reap", 2_000, || Box::new(reactors::session())),
    ("64 B messages on 64 sessions in one turn", 500, || Box::new(reactors::many())),
];

/// Behind this word on the command line: which bench, and how often.
const REPEAT: &str = "repeat";

/// Prints the table.
///
/// # Errors
/// If valgrind cannot be run, or says something else.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn table() -> Result<(), Box<dyn Error>> {
    for (index, (name, times, _)) in BENCHES.iter().enumerate() {
        let (some, more) = (counted(index, *times)?, counted(index, 3 * times)?);
        println!("{:9}  {name}", (more - some) / (2 * *times as u64));
    }
    Ok(())
}

/// What valgrind counts.
fn counted(index: usize, times: usize) -> Result<u64, Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=cachegrind", "--cachegrind-out-file=/dev/null"]).arg(env::current_exe()?);
    let words = [REPEAT.to_owned(), index.to_string(), times.to_string()];
    let output = valgrind.args(words).output().map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // "==123== I refs:        5,165,770", with more blanks in older versions.
    let is_count = |(before, _): &(&str, &str)| before.trim_end().ends_with('I');
    let count = said.lines().find_map(|line| line.split_once(" refs:").filter(is_count));
    Ok(count.ok_or_else(|| said.to_string())?.1.replace(',', "").trim().parse()?)
}

/// Does what these words say, if they are those of [`counted`].
pub(crate) fn repeats(words: &[String]) -> bool {
    let [REPEAT, index, times] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] else { return false };
    let (Ok(index), Ok(times)) = (index.parse::<usize>(), times.parse::<usize>()) else { return false };
    let mut once = BENCHES[index].2();
    (0..times).for_each(|_| once());
    true
}
