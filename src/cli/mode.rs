//! Permissions as `chmod` writes them: 660.

use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, Error, Visitor};

use super::value::Value;

/// Permissions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u16);

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = digits.then(|| u16::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(|| "write permissions as chmod does: three digits of 0 to 7, such as 660".to_owned())
    }
}

impl Value for Mode {
    const WHAT: &'static str = "permissions in quotes, such as \"660\"";
}

impl<'de> Deserialize<'de> for Mode {
    /// Only from a text: of a number, nobody could tell whether it was written as 660 or as 0o660, which is 432.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Quoted;

        impl Visitor<'_> for Quoted {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Mode::WHAT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Mode, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Quoted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal() {
        for (text, mode) in [("660", 0o660), ("0660", 0o660), ("0", 0), ("777", 0o777)] {
            assert_eq!(text.parse(), Ok(Mode(mode)));
        }
        for text in ["", "668", "rw-rw----", "0o660", "1000", "00660", "-1", "+66"] {
            assert!(text.parse::<Mode>().unwrap_err().contains("such as 660"), "{text}");
        }
    }
}
