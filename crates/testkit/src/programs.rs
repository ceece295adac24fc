//! Where the programs are that run with Renkei in a test. `scripts/prerequisites` installs them,
//! sets a variable for each, and writes the same into a file of its cache, so that `cargo test`
//! finds them by itself.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The program or folder that `variable` names, such as `RENKEI_PYTHON`; panics with the command
/// that brings it.
pub fn program(variable: &str) -> PathBuf {
    find_program(variable).unwrap_or_else(|missing| panic!("{missing}"))
}

/// The same; the error says what is missing and which command brings it.
pub fn find_program(variable: &str) -> Result<PathBuf, String> {
    let path = match env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => cache()
            .and_then(|cache| fs::read_to_string(cache.join("programs")).ok())
            .and_then(|list| value(&list, variable))
            .ok_or_else(|| {
                format!("{variable} is not set, and the cache does not name it; {BRING}")
            })?,
    };
    if path.exists() {
        return Ok(path);
    }
    let path = path.display();
    Err(format!(
        "{variable} names {path}, which is not there; {BRING}"
    ))
}

const BRING: &str = "run `scripts/test` once, which installs what the tests need";

/// The Python interpreter with the packages that tests need.
pub fn python() -> PathBuf {
    program("RENKEI_PYTHON")
}

/// The cache of `scripts/prerequisites`.
fn cache() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    set("RENKEI_CACHE").map(PathBuf::from).or_else(|| {
        let base = set("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(Path::new(&set("HOME")?).join(".cache")));
        base.map(|base| base.join("renkei"))
    })
}

/// The value of one line `NAME=VALUE`.
fn value(list: &str, name: &str) -> Option<PathBuf> {
    list.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| PathBuf::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_cache_names_a_program() {
        let list = "RENKEI_PYTHON=/a/python\nRENKEI_KAFKA=/b=c/libs\n";
        let found = |name| value(list, name);
        assert_eq!(found("RENKEI_KAFKA"), Some(PathBuf::from("/b=c/libs")));
        assert_eq!(found("RENKEI_JAVA"), None);
    }

    #[test]
    fn a_missing_program_is_named_with_the_command_that_brings_it() {
        let missing = find_program("RENKEI_NOTHING").expect_err("there is no such program");
        assert!(missing.contains("RENKEI_NOTHING"), "{missing}");
        assert!(missing.contains("scripts/test"), "{missing}");
    }
}
