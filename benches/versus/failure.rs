//! Why a relay has no figure: a sentence, which goes where the figure would be.

use std::fmt::Display;

/// What goes wrong with one relay in one scenario ends nothing but that.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) String);

pub(crate) type Outcome<T> = Result<T, Failure>;

// Not an error itself, so that every error becomes one with a question mark.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Says what was being done.
pub(crate) trait During<T> {
    fn during(self, what: impl Display) -> Outcome<T>;
}

impl<T, E: Into<Failure>> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{what}: {}", error.into().0)))
    }
}

/// A failure of its own kind.
pub(crate) fn failed<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Failure(why.into()))
}
