//! Why a relay has no figure: a sentence, printed in place of the figure.

use std::fmt::Display;

/// A failure of one relay in one scenario. The other relays and scenarios go on.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) String);

pub(crate) type Outcome<T> = Result<T, Failure>;

// `Failure` does not implement `Error`, so that this impl is allowed and `?` converts every error.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Adds what was being done to an error.
pub(crate) trait During<T> {
    fn during(self, what: impl Display) -> Outcome<T>;
}

impl<T, E: Into<Failure>> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{what}: {}", error.into().0)))
    }
}

/// A failure that has no error behind it.
pub(crate) fn failed<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Failure(why.into()))
}
