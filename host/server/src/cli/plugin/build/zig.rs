//! Zig: its own compiler, for a core module without any system; the world is embedded and the module encoded.

use std::process::Command;

use anyhow::{Context, Result};

use super::super::manifest::Manifest;
use super::super::{encode, tool};

pub fn build(manifest: &Manifest) -> Result<Vec<u8>> {
    let work = manifest.build_folder();
    let library = work.join("library");
    let core = manifest.core();
    let mut command = compiler()?;
    command
        .args([
            "build-exe",
            "-target",
            "wasm32-freestanding",
            "-O",
            "ReleaseSafe", // a mistake traps, rather than that an authorizer decides by what lies there
        ])
        .args(["-fno-strip", "-fno-entry", "-rdynamic", "--dep", "tidegate"])
        .arg(format!(
            "-Mroot={}",
            manifest.folder.join(&manifest.source).display()
        ))
        .arg(format!(
            "-Mtidegate={}",
            library.join("tidegate.zig").display()
        ))
        .arg(format!("-femit-bin={}", core.display()))
        .current_dir(&work);
    tool::run(&mut command)?;
    let module = std::fs::read(&core).with_context(|| core.display().to_string())?;
    encode::embed_and_encode(manifest, module)
}

/// `zig`, or the one that pip installs.
fn compiler() -> Result<Command> {
    if let Some(zig) = tool::look_up("zig") {
        return Ok(Command::new(zig));
    }
    Ok(Command::new(tool::find("python-zig", GET)?))
}

const GET: &str = "Zig 0.17, from https://ziglang.org/download or by pip install ziglang";
