//! Builds the built-in plugins as components and lists them for `src/builtin.rs`; lists the contract and the guest libraries
//! for `src/cli/plugin/embedded.rs`.
//!
//! The plugins are built by a cargo of their own, in a directory of their own: another target, another profile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = root();
    let plugins = plugins(&root);
    for watched in ["plugins", "wit", "sdk"] {
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
    fs::write(out.join("embedded.rs"), embedded(&root)).expect("OUT_DIR is writable");
}

/// The files of wit/ and sdk/, what Go's bindings import, which the crate that makes them has inside, and the WIT of WASI,
/// which functions are built for.
fn embedded(root: &Path) -> String {
    let mut files = Vec::new();
    for folder in ["wit", "sdk"] {
        list(&root.join(folder), folder, &mut files);
    }
    let runtime = package_folder("wit-bindgen-go").join("src/pkg/wit");
    list(&runtime, "go-runtime/wit", &mut files);
    let wasi = package_folder("wasmtime-wasi-http").join("wit/deps");
    list(&wasi, "wasi", &mut files);
    files.sort();
    let entry = |(name, file): &(String, PathBuf)| {
        format!(
            "({name:?}, include_bytes!({:?}) as &[u8]),\n",
            file.display().to_string()
        )
    };
    format!("[\n{}]", files.iter().map(entry).collect::<String>())
}

fn list(folder: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.filter_map(|entry| entry.ok()) {
        let (path, own) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        if ["target", "node_modules", "__pycache__", "build", ".venv"].contains(&own.as_str()) {
            continue;
        }
        match path.is_dir() {
            true => list(&path, &format!("{name}/{own}"), files),
            false => files.push((format!("{name}/{own}"), path)),
        }
    }
}

/// Where cargo has the source of a dependency.
fn package_folder(name: &str) -> PathBuf {
    let output = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .args(["metadata", "--format-version", "1", "--locked"])
        // A build has not fetched what other platforms need.
        .arg("--filter-platform")
        .arg(env::var_os("TARGET").expect("cargo sets it"))
        .arg("--manifest-path")
        .arg(env::var_os("CARGO_MANIFEST_PATH").expect("cargo sets it"))
        .output()
        .expect("cargo starts");
    // One package is one object; its manifest's path is the only string that ends this way.
    let text = String::from_utf8_lossy(&output.stdout);
    let manifest = text
        .split("\"manifest_path\":\"")
        .filter_map(|rest| rest.split('"').next())
        .find(|path| path.contains(&format!("/{name}-")) && path.ends_with("/Cargo.toml"))
        .unwrap_or_else(|| panic!("cargo knows no package {name}"));
    PathBuf::from(manifest)
        .parent()
        .expect("a file is in a folder")
        .to_owned()
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
