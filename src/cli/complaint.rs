//! What is wrong with what was written, and where it is.

use std::path::PathBuf;

/// What is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The option or key it is about; empty if the text says that itself.
    pub(super) key: &'static str,
    pub(super) place: Place,
    pub(super) text: String,
}

/// Where it was written: an offset into the file, or None on the command line.
pub(super) type Place = Option<usize>;

/// Where all of it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    CommandLine,
    File { path: PathBuf, text: String },
}

/// The most of an offending line that is shown, in characters.
const EXCERPT_MAX: usize = 200;

impl Source {
    /// The complaint in one line; of a file, with its name, the line and the column.
    pub(super) fn line(&self, complaint: &Complaint) -> String {
        let Complaint { key, place, text } = complaint;
        match self {
            Self::CommandLine if key.is_empty() => text.clone(),
            Self::CommandLine => format!("--{key} {text}"),
            Self::File { path, text: file } => {
                let (line, column, _) = position(file, place.unwrap_or_default());
                let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
                format!("{}:{line}:{column}: {key}{text}", path.display())
            }
        }
    }

    /// The same, and below it the offending line of the file.
    pub(super) fn with_excerpt(&self, complaint: &Complaint) -> String {
        match self {
            Self::CommandLine => format!("tproxy: {}", self.line(complaint)),
            Self::File { text, .. } => {
                let (_, _, excerpt) = position(text, complaint.place.unwrap_or_default());
                let shown: String = excerpt.chars().take(EXCERPT_MAX).map(visible).collect();
                format!("{}\n    {}", self.line(complaint), shown.trim_end()).trim_end().to_owned()
            }
        }
    }
}

/// The line and the column of an offset, from 1, and the text of that line.
fn position(text: &str, offset: usize) -> (usize, usize, &str) {
    let end = (0..=offset.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    let before = &text[..end];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].split('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1, line)
}

fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_and_a_column_in_characters() {
        let text = "a = 1\nmüll = 2\n";
        for (offset, expected) in [
            (0, (1, 1, "a = 1")),
            (6, (2, 1, "müll = 2")),
            (8, (2, 2, "müll = 2")),
            (14, (2, 8, "müll = 2")),
            (16, (3, 1, "")),
            (999, (3, 1, "")),
        ] {
            assert_eq!(position(text, offset), expected, "{offset}");
        }
        assert_eq!(position("", 0), (1, 1, ""));
    }

    #[test]
    fn a_line_is_shown_without_what_a_terminal_would_obey() {
        let source = Source::File { path: "relay.toml".into(), text: "x = \"\u{1b}[2J\"\r\n".into() };
        let complaint = Complaint { key: "", place: Some(4), text: "no; yes".into() };
        assert_eq!(source.with_excerpt(&complaint), "relay.toml:1:5: no; yes\n    x = \"\u{fffd}[2J\"\u{fffd}");
    }
}
