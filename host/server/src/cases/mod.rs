//! A plugin's own cases: requests, and what it is to make of them.
//!
//! `tidegate plugin test` runs those of a plugin's folder. `build` writes them into the component, and a node runs them on a
//! version that is to take another's place ([`health`]). [`record`] makes cases of requests that pass a running node.

pub(crate) mod answers;
mod case;
mod diff;
pub mod health;
pub mod record;
pub mod run;
mod services;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use case::Suite;
pub use diff::Difference;
pub use run::Ran;

use case::CaseFile;

/// Reads a file of cases.
///
/// # Errors
///
/// What an author has to mend, with its place.
pub fn read(path: &Path) -> Result<Suite> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(shown)?;
    let file: CaseFile = toml::from_str(&text).with_context(shown)?;
    file.compile().with_context(shown)
}

/// One file, as a component carries it.
#[derive(Debug, Serialize, Deserialize)]
struct Carried {
    file: String,
    /// What the file says, as JSON.
    content: Value,
}

/// What a component carries of these files.
///
/// # Errors
///
/// Where one cannot be read, or all of them are more than a component may carry.
pub fn section(files: &[PathBuf]) -> Result<String> {
    let carried = files.iter().map(|path| {
        read(path)?; // what is wrong with it is said with its place
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Carried {
            file: name.to_string_lossy().into_owned(),
            content: toml::from_str(&text)?,
        })
    });
    let text = serde_json::to_string(&carried.collect::<Result<Vec<_>>>()?)?;
    ensure!(
        text.len() <= SECTION_BYTES_MAX,
        "the cases have {} bytes; a component carries at most {SECTION_BYTES_MAX}",
        text.len()
    );
    Ok(text)
}

/// The cases that a component carries, by the files that they were in.
///
/// # Errors
///
/// Where they are none.
pub fn carried(section: &str) -> Result<Vec<(String, Suite)>> {
    ensure!(
        section.len() <= SECTION_BYTES_MAX,
        "they have {} bytes; a component carries at most {SECTION_BYTES_MAX}",
        section.len()
    );
    let files: Vec<Carried> = serde_json::from_str(section)?;
    let suite = |carried: Carried| {
        let file: CaseFile =
            serde_json::from_value(carried.content).with_context(|| carried.file.clone())?;
        let suite = file.compile().with_context(|| carried.file.clone())?;
        Ok((carried.file, suite))
    };
    files.into_iter().map(suite).collect()
}

/// Hundreds of cases; what a node reads of a component before it trusts it has a bound.
const SECTION_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_carries_what_the_files_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first.toml");
        let text =
            "configuration = { a = 1 }\nsecrets = { s = 'x' }\n[[case]]\nname = 'x'\nexpect = {}\n";
        std::fs::write(&path, text).unwrap();
        let section = section(&[path]).unwrap();
        let [(file, suite)] = &carried(&section).unwrap()[..] else {
            panic!("{section}");
        };
        assert_eq!(file, "first.toml");
        assert_eq!(suite.cases[0].name, "x");
        assert_eq!(
            suite.cases[0].configuration,
            Some(serde_json::json!({ "a": 1 }))
        );
        assert_eq!(suite.surroundings.secrets["s"], "x");
    }

    #[test]
    fn what_is_no_cases_is_said_to_be() {
        for text in [
            "",
            "{}",
            "[{}]",
            r#"[{"file":"a","content":{"case":[{"nam":1}]}}]"#,
        ] {
            carried(text).unwrap_err();
        }
    }
}
