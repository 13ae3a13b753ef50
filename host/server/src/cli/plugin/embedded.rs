//! The contract and the guest libraries, as they were when the binary was built.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Path in the repository and content of every file of wit/ and sdk/, put here by the build script.
const FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files below a folder, with their paths below it.
pub fn below(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().filter_map(move |(path, content)| {
        let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
        Some((rest, *content))
    })
}

/// One file as text.
pub fn text(path: &str) -> Option<&'static str> {
    let (_, content) = FILES.iter().find(|(known, _)| *known == path)?;
    std::str::from_utf8(content).ok()
}

/// Writes the files below a folder; those that are the same already are left alone, so that compilers see no change.
pub fn lay_out(folder: &str, to: &Path) -> Result<()> {
    for (path, content) in below(folder) {
        write_changed(&to.join(path), content)?;
    }
    Ok(())
}

/// Writes a file unless it has this content.
pub fn write_changed(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|known| known == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(path, content).with_context(|| path.display().to_string())
}
