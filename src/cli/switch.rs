//! Whether something is on: a word of the command line, a boolean in a file.

use std::fmt;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{Deserialize, Error, Visitor};

/// On or off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Switch(pub(super) bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "write true or false".to_owned())
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Boolean)
    }
}

struct Boolean;

impl Visitor<'_> for Boolean {
    type Value = Switch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false")
    }

    fn visit_bool<E: Error>(self, switch: bool) -> Result<Switch, E> {
        Ok(Switch(switch))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Switch, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_true_or_false() {
        assert_eq!(("true".parse(), "false".parse()), (Ok(Switch(true)), Ok(Switch(false))));
        assert_eq!("1".parse::<Switch>(), Err("write true or false".to_owned()));
    }
}
