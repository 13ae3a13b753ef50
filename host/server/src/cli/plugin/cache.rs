//! What is kept of compiled components while their author works: `build/cache`, of the newest build only.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder beside a component that `build` made.
pub fn beside(component: &Path) -> Option<PathBuf> {
    let folder = component.parent()?.join(FOLDER);
    folder.is_dir().then_some(folder)
}

/// Forgets what was compiled of other components than the one of this hash: each edit makes another, and one in Python is
/// tens of megabytes of machine code.
pub fn forget_others(folder: &Path, hash: &str) {
    let others = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "cwasm"))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with(hash)
        });
    for artifact in others {
        _ = fs::remove_file(artifact); // what stays costs disk, and nothing else
    }
}

/// In a plugin's build folder.
pub const FOLDER: &str = "cache";
