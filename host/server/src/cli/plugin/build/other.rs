//! Any other language: the author's own command makes a core module, or a component at once.

use std::process::Command;

use anyhow::{Context, Result};

use super::super::manifest::Manifest;
use super::super::{encode, tool};

pub fn build(manifest: &Manifest) -> Result<Vec<u8>> {
    // The contract and the plugin's world lie in build/wit, for a generator that wants them.
    encode::resolve(manifest)?;
    let (program, arguments) = manifest
        .command
        .split_first()
        .context("plugin.toml has no `command`")?;
    tool::run(
        Command::new(program)
            .args(arguments)
            .current_dir(&manifest.folder),
    )?;
    let core = manifest.core();
    let module = std::fs::read(&core)
        .with_context(|| format!("`{program}` has to write {}", core.display()))?;
    match module.get(4..8) {
        Some(CORE_MODULE) => encode::embed_and_encode(manifest, module),
        _ => Ok(module),
    }
}

/// The version and layer of a core module (WebAssembly core specification, section 5.5.16); a component has others.
const CORE_MODULE: &[u8] = &[1, 0, 0, 0];
