//! Cargo as a child: builds with a progress bar, and the artifacts they made.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::process::{find, root};

/// A `cargo` command in the repository's root: the cargo that runs us.
pub fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Adds the `wasm32-wasip2` target through rustup where it is missing.
///
/// # Errors
/// Says how to get the target where rustup is not there to ask.
pub fn ensure_wasm_target() -> anyhow::Result<()> {
    if wasm_target_installed() {
        return Ok(());
    }
    if find("rustup").is_none() {
        bail!(
            "the Rust target {WASM_TARGET} is missing, and rustup is not there to add it: install rustup from \
             https://rustup.rs, or your distribution's package of the standard library for {WASM_TARGET}"
        );
    }
    eprintln!("adding the Rust target {WASM_TARGET}");
    let status = Command::new("rustup")
        .args(["target", "add", WASM_TARGET])
        .current_dir(root())
        .status()?;
    if !status.success() {
        bail!("`rustup target add {WASM_TARGET}` failed; is there a connection to the network?");
    }
    Ok(())
}

/// Builds the node and gives the path of its binary. The node's build script builds the built-in plugins.
pub fn build_node(release: bool) -> anyhow::Result<PathBuf> {
    let profile = if release { "release" } else { "dev" };
    let artifacts = build(
        "the node",
        &[
            "--package",
            "tidegate",
            "--bin",
            "tidegate",
            "--profile",
            profile,
        ],
    )?;
    node_among(artifacts)
}

/// Builds all that the tests are made of, and gives the path of the node's binary. In one run, so that every dependency is
/// built once, with the features that all of them want together.
pub fn build_workspace() -> anyhow::Result<PathBuf> {
    let artifacts = build(
        "the node and its tests",
        &["--workspace", "--lib", "--bins", "--tests"],
    )?;
    node_among(artifacts)
}

fn node_among(artifacts: Vec<PathBuf>) -> anyhow::Result<PathBuf> {
    artifacts
        .into_iter()
        .find(|path| path.file_stem().is_some_and(|stem| stem == "tidegate"))
        .context("cargo built no tidegate")
}

/// Builds a function's package to a component and puts it at `target/functions/NAME.wasm`, where the configurations look.
pub fn build_function(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let component = build_component(&format!("the function {name}"), &["--package", package])?;
    let folder = root().join("target/functions");
    fs::create_dir_all(&folder)?;
    let place = folder.join(format!("{name}.wasm"));
    // A rename: a node that watches the file never sees half of it.
    let draft = folder.join(format!(".{name}.wasm"));
    fs::copy(component, &draft)?;
    fs::rename(&draft, &place)?;
    Ok(place)
}

/// Builds a guest of tests/fixtures to a component and gives its path.
pub fn build_guest(name: &str) -> anyhow::Result<PathBuf> {
    let arguments = ["--package", "tidegate-fixture-guests", "--example", name];
    build_component(&format!("the guest {name}"), &arguments)
}

fn build_component(what: &str, package: &[&str]) -> anyhow::Result<PathBuf> {
    let arguments = [
        package,
        &["--target", WASM_TARGET, "--profile", "component"],
    ]
    .concat();
    let mut artifacts = build(what, &arguments)?.into_iter();
    artifacts
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        })
        .with_context(|| format!("cargo built no component for {what}"))
}

/// Runs `cargo build` with a bar of the packages done, and gives the paths of what it made. Compiler messages are shown.
fn build(what: &str, arguments: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let started = Instant::now();
    let mut progress = Progress::new(what, packages_of(arguments));
    let mut child = command()
        .arg("build")
        .args(arguments)
        .args(["--quiet", "--message-format", "json-render-diagnostics"])
        .args([
            "--color",
            if std::io::stderr().is_terminal() {
                "always"
            } else {
                "never"
            },
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let diagnostics = child.stderr.take().context("no stderr")?;
    let bar = progress.bar.clone();
    let diagnostics = std::thread::spawn(move || {
        for line in BufReader::new(diagnostics).lines().map_while(Result::ok) {
            bar.suspend(|| eprintln!("{line}"));
        }
    });

    let mut artifacts = Vec::new();
    for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
        if let Ok(message) = serde_json::from_str::<Value>(&line?) {
            progress.note(&message);
            artifacts.extend(made(&message));
        }
    }
    let status = child.wait()?;
    let _ = diagnostics.join();
    progress.bar.finish_and_clear();
    if !status.success() {
        bail!("building {what} failed; the compiler's messages are above");
    }
    eprintln!("built {what} in {:.1} s", started.elapsed().as_secs_f64());
    Ok(artifacts)
}

/// The files that a `compiler-artifact` message of one of our binaries or components names.
fn made(message: &Value) -> Vec<PathBuf> {
    if message["reason"] != "compiler-artifact" {
        return Vec::new();
    }
    let paths = |value: &Value| value.as_str().map(PathBuf::from);
    let files = message["filenames"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(paths);
    files.chain(paths(&message["executable"])).collect()
}

/// How many packages a build touches; 0 where cargo cannot tell.
fn packages_of(arguments: &[&str]) -> u64 {
    let package = arguments
        .iter()
        .position(|argument| *argument == "--package")
        .and_then(|at| arguments.get(at + 1));
    let target = arguments
        .iter()
        .position(|argument| *argument == "--target")
        .and_then(|at| arguments.get(at + 1));
    let mut tree = command();
    tree.args([
        "tree",
        "--quiet",
        "--prefix",
        "none",
        "--edges",
        "normal,build",
        "--format",
        "{p}",
    ]);
    tree.args(
        package
            .map(|package| ["--package", package])
            .into_iter()
            .flatten(),
    );
    tree.args(
        target
            .map(|target| ["--target", target])
            .into_iter()
            .flatten(),
    );
    let Ok(output) = tree.stderr(Stdio::null()).output() else {
        return 0;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let packages: BTreeSet<&str> = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect();
    packages.len() as u64
}

/// A bar on a terminal; elsewhere a line now and then, so that a log shows that the build lives.
struct Progress {
    bar: ProgressBar,
    what: String,
    seen: BTreeSet<String>,
    said: Instant,
}

impl Progress {
    fn new(what: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        let style = "{spinner} building {msg} {bar:30} compiled {pos}/{len} · {elapsed}";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if bar.is_hidden() {
            eprintln!("building {what}");
        }
        Self {
            bar,
            what: what.into(),
            seen: BTreeSet::new(),
            said: Instant::now(),
        }
    }

    fn note(&mut self, message: &Value) {
        if message["reason"] != "compiler-artifact"
            || message["target"]["kind"][0] == "custom-build"
        {
            return;
        }
        if let Some(package) = message["package_id"].as_str() {
            self.seen.insert(package.to_owned());
        }
        let done = self.seen.len() as u64;
        self.bar
            .set_length(self.bar.length().unwrap_or(0).max(done));
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.said.elapsed() > Duration::from_secs(15) {
            self.said = Instant::now();
            eprintln!(
                "building {}: compiled {done}/{}",
                self.what,
                self.bar.length().unwrap_or(done)
            );
        }
    }
}

fn wasm_target_installed() -> bool {
    // The compiler's own word: it holds with and without rustup.
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .current_dir(root())
        .output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// What guests are built for.
pub const WASM_TARGET: &str = "wasm32-wasip2";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn artifacts_are_files_and_executables_of_artifact_messages_only() {
        let artifact = json!({"reason": "compiler-artifact", "filenames": ["/t/a.wasm"], "executable": "/t/a"});
        assert_eq!(
            made(&artifact),
            [PathBuf::from("/t/a.wasm"), PathBuf::from("/t/a")]
        );
        assert!(made(&json!({"reason": "build-finished", "filenames": ["/t/b"]})).is_empty());
        assert!(
            made(&json!({"reason": "compiler-artifact", "filenames": [], "executable": null}))
                .is_empty()
        );
    }
}
