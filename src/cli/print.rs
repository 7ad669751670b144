//! What `--print` prints.

use clap::Command;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap_complete::Shell;

/// What can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Printed {
    ExampleConfig,
    /// See `unit.rs`.
    Unit(Instances),
    /// See `socket_unit.rs`.
    Socket(Instances),
    /// See `k8s.rs`.
    K8s,
    Man,
    Completions(Shell),
}

/// How many processes a unit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instances {
    One,
    /// A template: `tproxy@1`, `tproxy@2` and so on.
    Several,
}

pub(super) const EXAMPLE_CONFIG: &str = include_str!("example.toml");

const WORDS: [(&str, Printed); 7] = [
    ("example-config", Printed::ExampleConfig),
    ("unit", Printed::Unit(Instances::One)),
    ("socket", Printed::Socket(Instances::One)),
    ("unit-template", Printed::Unit(Instances::Several)),
    ("socket-template", Printed::Socket(Instances::Several)),
    ("k8s", Printed::K8s),
    ("man", Printed::Man),
];

impl Instances {
    /// What the words of --print end with.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Several => "-template",
        }
    }
}

/// Has a shell behind it.
const COMPLETIONS: &str = "completions";

const SHELLS: [(&str, Shell); 3] = [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

/// The words that may stand behind --print.
pub(super) fn parser() -> impl TypedValueParser<Value = String> {
    let (things, shells) = (WORDS.iter().map(|(word, _)| *word), SHELLS.iter().map(|(word, _)| *word));
    PossibleValuesParser::new(things.chain([COMPLETIONS]).chain(shells))
}

/// What the words behind --print ask for.
///
/// # Errors
/// In words, when they make no sense together.
pub(super) fn asked(words: &[String]) -> Result<Printed, String> {
    match words {
        [what] if what == COMPLETIONS => {
            Err("completions of which shell? Write bash, zsh or fish behind it".to_owned())
        }
        [what] => known(&WORDS, what).ok_or_else(|| format!("write --print completions {what}")),
        [what, name] => {
            known(&SHELLS, name).filter(|_| what == COMPLETIONS).map(Printed::Completions).ok_or_else(|| {
                format!("{what} {name} cannot be printed; only completions have a second word, bash, zsh or fish")
            })
        }
        _ => Err("write one thing to print".to_owned()),
    }
}

fn known<T: Copy>(words: &[(&str, T)], word: &str) -> Option<T> {
    words.iter().find(|(known, _)| *known == word).map(|(_, meant)| *meant)
}

/// When the man page was last changed, for its foot.
const DATE: &str = "2026-11-28";

/// The man page (`man(7)`).
pub(super) fn man(command: Command) -> String {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command).title("TPROXY").date(DATE).render(&mut page);
    debug_assert!(rendered.is_ok(), "a vector takes everything: {rendered:?}");
    let page = String::from_utf8_lossy(&page);
    let lines: Vec<_> = page.lines().map(str::trim_end).collect();
    // Beside a vertical space or an empty line, a break of the line is one too many.
    let is_space = |line: Option<&&str>| line.is_some_and(|line| line.is_empty() || line.starts_with(".sp"));
    let is_needed =
        |at: usize| lines[at] != ".br" || !is_space(lines.get(at + 1)) && (at == 0 || !is_space(lines.get(at - 1)));
    (0..lines.len()).filter(|at| is_needed(*at)).map(|at| folded(lines[at])).collect()
}

/// A line of a man page in several of at most 80 bytes. Only text can be broken, and no line of it may begin like a request.
fn folded(line: &str) -> String {
    if line.starts_with(['.', '\'']) {
        return format!("{}\n", line.trim_end());
    }
    let (mut text, mut length) = (String::new(), 0);
    for word in line.split_ascii_whitespace() {
        let breaks = length > 0 && length + 1 + word.len() > 80 && !word.starts_with(['.', '\'']);
        if length > 0 {
            text.push(if breaks { '\n' } else { ' ' });
        }
        length = if breaks { word.len() } else { length + usize::from(length > 0) + word.len() };
        text.push_str(word);
    }
    text + "\n"
}

/// What makes this shell complete the options.
pub(super) fn completions(mut command: Command, shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tproxy", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
