//! Tests of flows and pairs on streams that follow a script.

mod copied;
mod pair;
mod preface;
mod script;
mod spliced;
