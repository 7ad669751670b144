//! What `--print` prints.

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// What can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Printed {
    ExampleConfig,
}

impl Printed {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::ExampleConfig => include_str!("example.toml"),
        }
    }
}

pub(super) fn parser() -> impl TypedValueParser<Value = Printed> {
    PossibleValuesParser::new(["example-config"]).map(|_| Printed::ExampleConfig)
}
