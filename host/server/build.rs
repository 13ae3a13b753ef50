//! Builds the built-in plugins as components and lists them for `src/builtin.rs`.
//!
//! They are built by a cargo of their own, in a directory of their own: another target, another profile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = root();
    let plugins = plugins(&root);
    for watched in ["plugins", "wit", "sdk/rust"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }

    let target = root.join("target/components");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.current_dir(&root).args([
        "build",
        "--quiet",
        "--profile",
        "component",
        "--target",
        "wasm32-wasip2",
    ]);
    cargo.arg("--target-dir").arg(&target);
    for plugin in &plugins {
        cargo.args(["-p", &format!("tidegate-plugin-{plugin}")]);
    }
    // What the outer cargo says about its own build is not meant for this one.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME"
            || text == "RUSTFLAGS"
            || text.starts_with("CLIPPY")
        {
            cargo.env_remove(&name);
        }
    }
    cargo
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTDOC");
    match cargo.status() {
        Ok(status) if status.success() => {}
        _ => panic!(
            "the built-in plugins were not built; is the target there? `rustup target add wasm32-wasip2`"
        ),
    }

    let entry = |plugin: &String| {
        let file = target.join(format!(
            "wasm32-wasip2/component/tidegate_plugin_{}.wasm",
            plugin.replace('-', "_")
        ));
        format!(
            "({plugin:?}, include_bytes!({:?}) as &[u8]),\n",
            file.display().to_string()
        )
    };
    let listing = format!("[\n{}]", plugins.iter().map(entry).collect::<String>());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("builtin.rs"), listing).expect("OUT_DIR is writable");
}

fn root() -> PathBuf {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    here.ancestors()
        .nth(2)
        .expect("host/server is two below the root")
        .to_owned()
}

/// The folders of plugins/, in order.
fn plugins(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("plugins")).expect("plugins/ is there");
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
