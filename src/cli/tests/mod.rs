//! The command line and the file, as far as the configuration.

mod example;
mod file;
mod http;
mod line;
mod options;
mod print;
mod proxies;
mod words;

use std::ffi::OsString;
use std::io::Write as _;

use tproxy::Config;

use super::{Answer, Options, parse_from};
use crate::control::{Inheritance, Interrupt};

/// What `tproxy` makes of these words.
fn parsed(words: &str) -> Result<Options, String> {
    let line = ["tproxy"].into_iter().chain(words.split_whitespace()).map(OsString::from);
    // No name server is asked. RFC 6761 says who owns these names: nobody.
    let look_up = |names: &[String]| {
        let wrong = |name: &String| name.ends_with(".invalid").then(|| "the name does not resolve: never".to_owned());
        names.iter().map(wrong).collect()
    };
    parse_from(line, None, look_up).map_err(|answer| match answer {
        Answer::Text(text) | Answer::Usage(text) => text,
    })
}

fn config_of(options: &Options) -> Config {
    options.plan.config(&Interrupt::by(&[]).unwrap(), &Inheritance::default()).unwrap()
}

/// The configuration that these words ask for.
fn line(words: &str) -> Config {
    config_of(&parsed(words).unwrap())
}

/// A file with this text. It is gone when this is.
fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// What `tproxy --config` makes of a file with this text, and of these words beside it.
fn parsed_with(text: &str, words: &str) -> Result<Options, String> {
    let file = file(text);
    let path = file.path().to_str().unwrap();
    parsed(&format!("--config {path} {words}")).map_err(|said| said.replace(path, "FILE"))
}
