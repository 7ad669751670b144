//! Values that are written the same way on the command line and in a file: one `FromStr` reads both.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Deserializer;
use serde::de::{Deserialize, Error, SeqAccess, Visitor};
use tproxy::{AtLimit, Balance, ProxyVersion, Splice};

use crate::logging::LogFormat;

/// A value that is read from text.
pub(super) trait Value: FromStr<Err = String> {
    /// What it is, for a complaint about a value of another type.
    const WHAT: &'static str;
}

/// A type around a value, with the function that reads it from text.
macro_rules! value {
    ($(#[$doc:meta])* $name:ident($inner:ty) = $parse:path, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $inner);

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $parse(text).map(Self)
            }
        }

        impl $crate::cli::value::Value for $name {
            const WHAT: &'static str = $what;
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::cli::value::read(deserializer)
            }
        }
    };
}
pub(super) use value;

/// Reads a text, or a number as if it had been written as text.
pub(super) fn read<'de, T: Value, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Text(PhantomData))
}

struct Text<T>(PhantomData<T>);

impl<T: Value> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Reads a text or a list of texts.
pub(super) fn one_or_several<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Value + Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Several(PhantomData))
}

struct Several<T>(PhantomData<T>);

impl<'de, T: Value + Deserialize<'de>> Visitor<'de> for Several<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of them", T::WHAT)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
        Text(PhantomData).visit_str(text).map(|one| vec![one])
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Vec<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(one) = sequence.next_element()? {
            list.push(one);
        }
        if list.is_empty() { Err(A::Error::custom(format!("the list is empty; write {}", T::WHAT))) } else { Ok(list) }
    }
}

/// One of a few words, each of which means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<T>(pub(super) T);

/// What can be written as one of a few words.
pub(super) trait Words: Copy + Send + Sync + 'static {
    /// The words, the default first.
    const WORDS: &'static [(&'static str, Self)];

    /// As [`Value::WHAT`].
    const WHAT: &'static str;
}

impl Words for Splice {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
    const WHAT: &'static str = "\"auto\", \"on\" or \"off\"";
}

impl Words for Balance {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("first", Self::First),
        ("round-robin", Self::RoundRobin),
        ("least-sessions", Self::LeastSessions),
        ("source", Self::Source),
    ];
    const WHAT: &'static str = "\"first\", \"round-robin\", \"least-sessions\" or \"source\"";
}

impl Words for AtLimit {
    const WORDS: &'static [(&'static str, Self)] = &[("wait", Self::Wait), ("reset", Self::Reset)];
    const WHAT: &'static str = "\"wait\" or \"reset\"";
}

impl Words for Option<ProxyVersion> {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", None), ("v1", Some(ProxyVersion::V1)), ("v2", Some(ProxyVersion::V2))];
    const WHAT: &'static str = "\"v1\", \"v2\" or \"off\"";
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
    const WHAT: &'static str = "\"text\" or \"json\"";
}

impl<T: Words> FromStr for Word<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = T::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, meaning)| Self(*meaning)).ok_or_else(|| format!("write {}", T::WHAT))
    }
}

impl<T: Words> Value for Word<T> {
    const WHAT: &'static str = T::WHAT;
}

impl<'de, T: Words> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

/// For the command line: the words are listed in the help and in the complaint about any other.
pub(super) fn words<T: Words>() -> impl TypedValueParser<Value = Word<T>> {
    PossibleValuesParser::new(T::WORDS.iter().map(|(word, _)| *word)).try_map(|word| word.parse::<Word<T>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_of_those_that_the_complaint_lists() {
        assert_eq!("least-sessions".parse(), Ok(Word(Balance::LeastSessions)));
        let complaint = "random".parse::<Word<Balance>>().unwrap_err();
        for (word, _) in Balance::WORDS {
            assert!(complaint.contains(&format!("{word:?}")), "{complaint}");
        }
        let complaint = "Auto".parse::<Word<Splice>>().unwrap_err();
        for (word, _) in Splice::WORDS {
            assert!(complaint.contains(&format!("{word:?}")), "{complaint}");
        }
    }
}
