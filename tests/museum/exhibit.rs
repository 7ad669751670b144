//! One exhibit: a bug as text to be replaced, wherever under `src/` that text stands.
//!
//! ```text
//! What the bug breaks, in a sentence.
//! --- old
//! lines that occur exactly once under src/
//! --- new
//! lines that replace them
//! ```
//! An exhibit may have several pairs. Indentation does not count, so code can be moved without touching an exhibit.

use std::fs;
use std::path::{Path, PathBuf};

/// A known bug.
pub(crate) struct Exhibit {
    pub(crate) name: String,
    pairs: Vec<Pair>,
}

struct Pair {
    old: Vec<String>,
    new: Vec<String>,
}

/// Where a pair's text stands: a file and the lines in it.
struct Place {
    file: PathBuf,
    first: usize,
    count: usize,
}

/// All exhibits of this folder, in the order of their names.
pub(crate) fn all(folder: &Path) -> Vec<Exhibit> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "bug")).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        Exhibit::parse(&name, &fs::read_to_string(file).unwrap()).unwrap_or_else(|why| panic!("{name}: {why}"))
    };
    files.iter().map(read).collect()
}

impl Exhibit {
    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut pairs = Vec::new();
        let mut sections = text.split("--- old\n");
        if sections.next().is_none_or(|note| note.trim().is_empty()) {
            return Err("it does not begin with what the bug breaks".to_owned());
        }
        for section in sections {
            let (old, new) = section.split_once("--- new").ok_or("an old text has no new one")?;
            let lines = |text: &str| text.trim_matches('\n').lines().map(str::to_owned).collect::<Vec<_>>();
            let pair = Pair { old: lines(old), new: lines(new) };
            if pair.old.iter().all(|line| line.trim().is_empty()) || pair.old == pair.new {
                return Err("a pair changes nothing".to_owned());
            }
            pairs.push(pair);
        }
        if pairs.is_empty() {
            return Err("it has no pair of texts".to_owned());
        }
        Ok(Self { name: name.to_owned(), pairs })
    }

    /// Puts the bug into the sources in this folder. Says why not if a text does not occur exactly once.
    pub(crate) fn apply(&self, sources: &Path) -> Result<(), String> {
        let places: Vec<_> = self.pairs.iter().map(|pair| pair.find(sources)).collect::<Result<_, _>>()?;
        // From the end of each file, so that the lines before keep their numbers.
        let mut edits: Vec<_> = places.iter().zip(&self.pairs).collect();
        edits.sort_by_key(|(place, _)| std::cmp::Reverse(place.first));
        for (place, pair) in edits {
            let text = fs::read_to_string(&place.file).unwrap();
            let mut lines: Vec<_> = text.lines().collect();
            lines.splice(place.first..place.first + place.count, pair.new.iter().map(String::as_str));
            fs::write(&place.file, lines.join("\n") + "\n").unwrap();
        }
        Ok(())
    }
}

impl Pair {
    fn find(&self, sources: &Path) -> Result<Place, String> {
        let wanted: Vec<_> = self.old.iter().map(|line| line.trim()).collect();
        let mut places = Vec::new();
        for file in rust_files(sources) {
            let text = fs::read_to_string(&file).unwrap();
            let lines: Vec<_> = text.lines().map(str::trim).collect();
            for (first, part) in lines.windows(wanted.len()).enumerate() {
                if part == wanted {
                    places.push(Place { file: file.clone(), first, count: wanted.len() });
                }
            }
        }
        match places.len() {
            1 => places.pop().ok_or_else(String::new),
            times => Err(format!("this text occurs {times} times under src, not once:\n{}", self.old.join("\n"))),
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_pair_replaces_the_one_place_where_its_text_stands() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deep")).unwrap();
    let file = folder.path().join("deep/a.rs");
    let bug = |old: &str| Exhibit::parse("bug", &format!("note\n--- old\n{old}\n--- new\nx\ny\n")).unwrap();
    fs::write(&file, "a\n    b\n        c\nb\nd\n").unwrap();
    assert!(bug("b").apply(folder.path()).unwrap_err().contains("2 times"));
    assert!(bug("e").apply(folder.path()).unwrap_err().contains("0 times"));
    bug("b\n    c").apply(folder.path()).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "a\nx\ny\nb\nd\n");
}

#[test]
fn an_exhibit_without_a_note_or_a_change_is_none() {
    for text in ["--- old\na\n--- new\nb\n", "note\n--- old\na\n", "note\n", "note\n--- old\na\n--- new\na\n"] {
        assert!(Exhibit::parse("bug", text).is_err(), "{text:?}");
    }
}
