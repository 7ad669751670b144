//! What `--print` prints.

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// What can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Printed {
    ExampleConfig,
    /// See `unit.rs`.
    Unit,
}

pub(super) const EXAMPLE_CONFIG: &str = include_str!("example.toml");

pub(super) fn parser() -> impl TypedValueParser<Value = Printed> {
    PossibleValuesParser::new(["example-config", "unit"]).map(|what| match &*what {
        "unit" => Printed::Unit,
        _ => Printed::ExampleConfig,
    })
}
