//! Rust: cargo makes the component by itself; the guest library comes from the binary.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::super::manifest::Manifest;
use super::super::{embedded, tool};

pub fn build(manifest: &Manifest) -> Result<Vec<u8>> {
    let cargo = tool::find("cargo", "install Rust from https://rustup.rs")?;
    if !target_is_there()? {
        bail!(
            "the Rust target wasm32-wasip2 is missing; to get it: rustup target add wasm32-wasip2"
        );
    }
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--target", "wasm32-wasip2"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(&manifest.folder)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit());
    let output = command.output().context("cargo does not start")?;
    if !output.status.success() {
        bail!(
            "`cargo build` ended with {}; its messages are above",
            output.status
        );
    }
    let component = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| made(line, manifest))
        .next_back();
    let component = component.context(
        "cargo built no component: does Cargo.toml have `[lib]` with `crate-type = [\"cdylib\"]`?",
    )?;
    std::fs::read(&component).with_context(|| component.display().to_string())
}

/// The guest library, with the package settings that it takes from the workspace in the repository.
pub fn lay_out_library(manifest: &Manifest) -> Result<()> {
    let folder = manifest.build_folder().join("contract/sdk/rust");
    for (path, content) in embedded::below("sdk/rust") {
        if path == "Cargo.toml" {
            let text = String::from_utf8_lossy(content);
            embedded::write_changed(&folder.join(path), standalone(&text).as_bytes())?;
        } else if path.starts_with("src/") {
            embedded::write_changed(&folder.join(path), content)?;
        }
    }
    embedded::lay_out("wit", &manifest.build_folder().join("contract/wit"))
}

fn standalone(manifest: &str) -> String {
    // The longer name first: the other is a part of it.
    manifest
        .replace(
            "rust-version.workspace = true",
            concat!("rust-version = \"", env!("CARGO_PKG_RUST_VERSION"), "\""),
        )
        .replace(
            "version.workspace = true",
            concat!("version = \"", env!("CARGO_PKG_VERSION"), "\""),
        )
        .replace("edition.workspace = true", "edition = \"2024\"")
        .replace("license.workspace = true", "license = \"Apache-2.0\"")
        .replace("publish.workspace = true", "publish = false")
}

/// The component that a line of cargo's tells of.
fn made(line: &str, manifest: &Manifest) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let ours = message["reason"] == "compiler-artifact"
        && message["manifest_path"].as_str().map(PathBuf::from)
            == Some(manifest.folder.join("Cargo.toml"));
    let files = message["filenames"].as_array().filter(|_| ours)?;
    files
        .iter()
        .filter_map(Value::as_str)
        .find(|file| file.ends_with(".wasm"))
        .map(PathBuf::from)
}

fn target_is_there() -> Result<bool> {
    let rustc = tool::find("rustc", "install Rust from https://rustup.rs")?;
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", "wasm32-wasip2"])
        .output()
        .context("rustc does not start")?;
    Ok(std::path::Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_needs_no_workspace_once_it_is_laid_out() {
        let manifest = standalone(embedded::text("sdk/rust/Cargo.toml").unwrap());
        assert!(!manifest.contains("workspace = true"), "{manifest}");
        let table: toml::Table = toml::from_str(&manifest).unwrap();
        assert_eq!(
            table["package"]["rust-version"].as_str(),
            Some(env!("CARGO_PKG_RUST_VERSION"))
        );
    }
}
