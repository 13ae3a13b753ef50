//! `tidegate check`: everything that is wrong with configurations and definitions, without starting anything.

use std::path::Path;

use crate::api::openapi;
use crate::config;
use crate::deployment::compile;
use crate::document::Document;
use crate::problem::Problems;

/// Checks files: a `.toml` is a node's configuration, with the definitions that it names; any other is an API definition.
/// Runs what startup and deployment run. `builtins` are the names of the plugins that the binary holds. Reads files.
///
/// Returns all problems by file and line; empty when all is well.
pub fn check(paths: &[impl AsRef<Path>], builtins: &[&str]) -> Problems {
    let mut problems = Problems::default();
    for path in paths {
        problems.extend(
            check_file(path.as_ref(), builtins)
                .err()
                .unwrap_or_default(),
        );
    }
    problems.sorted()
}

fn check_file(path: &Path, builtins: &[&str]) -> Result<(), Problems> {
    if path
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let node = config::load(path)?;
        return compile::load(&node, builtins).map(drop);
    }
    let document = Document::load(path)?;
    openapi::import("api", &document).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_all_files_are_listed_by_file() {
        let problems = check(&["no/such.yaml", "no/such.toml", "no/such.yaml"], &[]).to_string();
        let files: Vec<_> = problems
            .lines()
            .filter_map(|line| line.split(": ").next())
            .collect();
        assert_eq!(files, ["no/such.toml", "no/such.yaml"]);
    }

    #[test]
    fn a_file_is_checked_as_what_its_name_says() {
        let demo = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../configs/demo/items.openapi.yaml"
        );
        assert_eq!(check(&[demo], &[]).to_string(), "");
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/clippy.toml");
        let problems = check(&[manifest], &[]).to_string();
        assert!(
            problems.contains("unknown key `disallowed-methods`"),
            "{problems}"
        );
    }
}
