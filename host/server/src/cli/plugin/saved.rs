//! Which files of a plugin's folder are its author's, and which of them was saved last.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Whether a path in the plugin's folder is the author's, and not what a build makes.
pub fn is_source(folder: &Path, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(folder) else {
        return false;
    };
    let made = |part: Component<'_>| {
        let part = part.as_os_str().to_string_lossy();
        part.starts_with('.') || MADE.contains(&&*part)
    };
    let beside = inside
        .extension()
        .is_some_and(|kind| BESIDE.iter().any(|beside| kind == *beside));
    inside.components().next().is_some() && !beside && !inside.components().any(made)
}

/// The author's file that was saved last, by its path in the folder, where that was after `since`. What cannot be read is
/// passed over.
pub fn last(folder: &Path, since: SystemTime) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut last: Option<(SystemTime, PathBuf)> = None;
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(next).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| is_source(folder, &entry.path())) {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if let Ok(saved) = metadata.modified() {
                last = last.max(Some((saved, entry.path())));
            }
        }
    }
    let (saved, path) = last?;
    let inside = path.strip_prefix(folder).ok()?;
    (saved > since).then(|| inside.to_owned())
}

/// What is no part of a component: keys that sign it, others' components, and what people read.
const BESIDE: &[&str] = &["key", "pub", "wasm", "md"];
/// What builds write, beside what is hidden.
const MADE: &[&str] = &[
    "build",
    "target",
    "node_modules",
    "__pycache__",
    "Cargo.lock",
    "package-lock.json",
    "go.sum",
];

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_build_makes_starts_no_build() {
        let cases = [
            ("/p/src/lib.rs", true),
            ("/p/plugin.toml", true),
            ("/p/cases/first.toml", true),
            ("/p", false),
            ("/p/build/p.wasm", false),
            ("/p/target/release/x", false),
            ("/p/node_modules/a/b.js", false),
            ("/p/Cargo.lock", false),
            ("/p/team.key", false),
            ("/p/README.md", false),
            ("/p/.plugin.py.swp", false),
            ("/q/src/lib.rs", false),
        ];
        for (path, expected) in cases {
            assert_eq!(
                is_source(Path::new("/p"), Path::new(path)),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn the_file_that_was_saved_last_is_found_in_any_folder_but_those_of_builds() {
        let folder = tempfile::tempdir().unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (name, saved) in [
            ("plugin.toml", 10),
            ("src/parts/one.rs", 30),
            ("src/lib.rs", 20),
            ("build/p.wasm", 40),
            ("target/release/x", 50),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().set_modified(at(saved)).unwrap();
        }
        let found = last(folder.path(), at(29));
        assert_eq!(found.as_deref(), Some(Path::new("src/parts/one.rs")));
        assert_eq!(last(folder.path(), at(30)), None);
    }
}
