//! Tests of flows and pairs on streams that follow a script.

mod copied;
mod incoming;
mod pair;
mod preface;
mod script;
mod spliced;
mod unix;
