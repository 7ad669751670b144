//! The words that start this program once more, from any folder: for a service, and for the process that takes our place.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The words with the program's path from the root. Links are followed when it starts, not now: then it may be another
/// version.
pub(super) fn start_again(words: &[OsString], file: Option<&Path>) -> Result<Vec<OsString>, String> {
    let (program, options) = words.split_first().ok_or("the program has no name")?;
    let program = absolute_program(program.as_ref())?.into_os_string();
    let absolute = |word: &OsString| file.and_then(|file| with_absolute(word, file)).unwrap_or_else(|| word.clone());
    Ok(std::iter::once(program).chain(options.iter().map(absolute)).collect())
}

/// Where the program is, from the root: if it was started by its name alone, as the shell finds it.
fn absolute_program(name: &Path) -> Result<PathBuf, String> {
    if name.components().count() > 1 {
        return std::path::absolute(name).map_err(|error| format!("{}: {error}", name.display()));
    }
    let found = in_folders(name, &std::env::var_os("PATH").unwrap_or_default());
    found.map_or_else(|| std::env::current_exe().map_err(|error| format!("{}: {error}", name.display())), Ok)
}

/// The first program of that name in these folders, which are written as in PATH.
fn in_folders(name: &Path, folders: &OsStr) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let found = std::env::split_paths(folders).map(|folder| folder.join(name)).find(is_program);
    found.and_then(|path| std::path::absolute(path).ok())
}

/// The word with the path of the file from the root, if it is that path, alone or behind its option.
fn with_absolute(word: &OsStr, file: &Path) -> Option<OsString> {
    let before = word.to_str()?.strip_suffix(file.to_str()?)?;
    let is_short = before.starts_with('-') && !before.starts_with("--") && before.trim_end_matches('=').ends_with('c');
    let path = std::path::absolute(file).ok()?;
    (before.is_empty() || is_short || before == "--config=").then(|| {
        let mut word = OsString::from(before);
        word.push(path);
        word
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_file_is_named_from_the_root_however_it_was_written() {
        let here = std::path::absolute("r.toml").unwrap().display().to_string();
        for (file, shown) in [
            (&["-c", "r.toml"][..], vec!["-c".to_owned(), here.clone()]),
            (&["-cr.toml"], vec![format!("-c{here}")]),
            (&["-c=r.toml"], vec![format!("-c={here}")]),
            (&["-vc", "r.toml"], vec!["-vc".to_owned(), here.clone()]),
            (&["--config", "r.toml"], vec!["--config".to_owned(), here.clone()]),
            (&["--config=r.toml"], vec![format!("--config={here}")]),
        ] {
            let line = words(&[&["/usr/bin/tproxy"], file, &["--port-file", "/x/r.toml"]].concat());
            let again = start_again(&line, Some(Path::new("r.toml"))).unwrap();
            let expected = [&["/usr/bin/tproxy".to_owned()][..], &shown, &["--port-file".into(), "/x/r.toml".into()]];
            assert_eq!(again, expected.concat().iter().map(OsString::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_program_is_named_from_the_root_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("current");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        assert_eq!(absolute_program(&link).unwrap(), link);
        let relative = absolute_program(Path::new("./sh")).unwrap();
        assert_eq!(relative, std::env::current_dir().unwrap().join("sh"));
        // As the shell finds it.
        assert!(absolute_program(Path::new("sh")).unwrap().ends_with("sh"));
        assert_eq!(absolute_program(Path::new("no-such-program")).unwrap(), std::env::current_exe().unwrap());
    }

    #[test]
    fn a_folder_and_a_file_that_is_no_program_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("a/relay")).unwrap();
        std::fs::create_dir(at("b")).unwrap();
        std::fs::write(at("b/relay"), "").unwrap();
        std::fs::create_dir(at("c")).unwrap();
        std::os::unix::fs::symlink("/bin/sh", at("c/relay")).unwrap();
        let folders = std::env::join_paths(["none", "a", "b", "c"].map(at)).unwrap();
        assert_eq!(in_folders(Path::new("relay"), &folders), Some(at("c/relay")));
    }
}
