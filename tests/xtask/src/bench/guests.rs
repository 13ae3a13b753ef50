//! One authorizer with five header look-ups in every language of the SDKs, called warm.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::report::{self, Row};
use super::systems;
use crate::process::root;

/// A case, the language's name for `tidegate plugin new`, and where its source is: in tests/bench/guests and in a plugin.
const GUESTS: [(&str, &str, &str, &str); 7] = [
    ("guest-rust", "rust", "rust.rs", "src/lib.rs"),
    ("guest-c", "c", "c.c", "plugin.c"),
    ("guest-cpp", "cpp", "cpp.cpp", "plugin.cpp"),
    ("guest-zig", "zig", "zig.zig", "plugin.zig"),
    ("guest-go", "go", "go.go", "plugin.go"),
    (
        "guest-javascript",
        "javascript",
        "javascript.js",
        "plugin.js",
    ),
    ("guest-python", "python", "python.py", "plugin.py"),
];

/// The cases' names.
pub fn cases() -> impl Iterator<Item = &'static str> {
    GUESTS.iter().map(|(case, ..)| *case)
}

/// Measures those that are wanted; a language whose plugin does not build is left out, with the reason.
pub fn measure(
    binary: &Path,
    folder: &Path,
    nginx_cpu_us: Option<f64>,
    wants: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<Row>> {
    let folder = folder.join("guests");
    _ = fs::remove_dir_all(&folder); // of the last time, where there was one
    fs::create_dir_all(&folder)?;
    let mut rows = Vec::new();
    for (case, language, source, place) in GUESTS.iter().filter(|(case, ..)| wants(case)) {
        if let Err(error) = build(binary, &folder, language, source, place) {
            eprintln!("{case} is left out: {error:#}");
            continue;
        }
        let component = folder.join(format!("{language}/build/{language}.wasm"));
        let mut command = systems::pinned(0, binary);
        command.args(["bench-step", "--warm"]).arg(component);
        let figures = run(&mut command).with_context(|| (*case).to_owned())?;
        rows.push(report::step(case, &figures, "warm_call_ns", nginx_cpu_us)?);
    }
    Ok(rows)
}

/// What an author types, but for the source.
fn build(
    binary: &Path,
    folder: &Path,
    language: &str,
    source: &str,
    place: &str,
) -> anyhow::Result<()> {
    let plugin = |arguments: &[&str]| {
        let mut command = Command::new(binary);
        command.arg("plugin").args(arguments).current_dir(folder);
        run(&mut command)
    };
    plugin(&["new", "--lang", language, "--step", "authorizer", language])?;
    let own = folder.join(language);
    fs::copy(
        root().join("tests/bench/guests").join(source),
        own.join(place),
    )?;
    // The template's grants, configuration and cases are another plugin's.
    fs::write(
        own.join("plugin.toml"),
        format!(
            "name = \"{language}\"\nversion = \"0.1.0\"\nlanguage = \"{language}\"\nsteps = [\"authorizer\"]\n"
        ),
    )?;
    fs::remove_dir_all(own.join("cases"))?;
    plugin(&["build", language])?;
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
