//! The contract of the relay once more, with every byte that can be going through a pipe: see `tests/contract`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

#[path = "contract/connecting.rs"]
mod connecting;
#[path = "contract/drain.rs"]
mod drain;
#[path = "contract/ends.rs"]
mod ends;
#[path = "contract/integrity.rs"]
mod integrity;
#[path = "contract/support.rs"]
mod support;
#[path = "contract/switching.rs"]
mod switching;
#[path = "contract/waiting.rs"]
mod waiting;

const SPLICE: tproxy::Splice = tproxy::Splice::On;
