//! What `--print` prints.

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// What can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Printed {
    ExampleConfig,
    /// See `unit.rs`.
    Unit(Instances),
    /// See `socket_unit.rs`.
    Socket(Instances),
}

/// How many processes a unit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instances {
    One,
    /// A template: `tproxy@1`, `tproxy@2` and so on.
    Several,
}

pub(super) const EXAMPLE_CONFIG: &str = include_str!("example.toml");

const WORDS: [(&str, Printed); 5] = [
    ("example-config", Printed::ExampleConfig),
    ("unit", Printed::Unit(Instances::One)),
    ("socket", Printed::Socket(Instances::One)),
    ("unit-template", Printed::Unit(Instances::Several)),
    ("socket-template", Printed::Socket(Instances::Several)),
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

pub(super) fn parser() -> impl TypedValueParser<Value = Printed> {
    PossibleValuesParser::new(WORDS.map(|(word, _)| word)).map(|what| {
        let found = WORDS.iter().find(|(word, _)| *word == what);
        found.map_or(Printed::ExampleConfig, |(_, printed)| *printed)
    })
}
