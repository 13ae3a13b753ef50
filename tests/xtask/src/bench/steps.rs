//! Single step calls, each measured inside a process of its own: an authorizer with five header look-ups, in Rust without an SDK
//! and in every language of the SDKs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::systems;
use crate::cargo;
use crate::process::{root, said};

/// A component, and what is measured of it.
pub struct Step {
    component: PathBuf,
    /// A case, and what `tidegate bench-step` calls its figure.
    figures: Vec<(&'static str, &'static str)>,
}

/// The cases of the component without an SDK.
const PLAIN: [(&str, &str); 2] = [("step-call", WARM), ("fresh-instance", "fresh_instance_ns")];
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
const WARM: &str = "warm_call_ns";

/// The cases' names.
pub fn cases() -> impl Iterator<Item = &'static str> {
    let plain = PLAIN.iter().map(|(case, _)| *case);
    plain.chain(GUESTS.iter().map(|(case, ..)| *case))
}

/// Builds those that are wanted; a language whose plugin does not build is left out, with the reason.
pub fn build(
    binary: &Path,
    folder: &Path,
    wants: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<Step>> {
    let folder = folder.join("guests");
    _ = fs::remove_dir_all(&folder); // of the last time, where there was one
    fs::create_dir_all(&folder)?;
    let mut steps = Vec::new();
    let plain: Vec<_> = PLAIN.into_iter().filter(|(case, _)| wants(case)).collect();
    if !plain.is_empty() {
        steps.push(Step {
            component: cargo::build_guest("five-headers")?,
            figures: plain,
        });
    }
    for (case, language, source, place) in GUESTS.into_iter().filter(|(case, ..)| wants(case)) {
        match build_guest(binary, &folder, language, source, place) {
            Ok(component) => steps.push(Step {
                component,
                figures: vec![(case, WARM)],
            }),
            Err(error) => eprintln!("{case} is left out: {error:#}"),
        }
    }
    Ok(steps)
}

/// What an author types, but for the source.
fn build_guest(
    binary: &Path,
    folder: &Path,
    language: &str,
    source: &str,
    place: &str,
) -> anyhow::Result<PathBuf> {
    let plugin = |arguments: &[&str]| {
        let mut command = Command::new(binary);
        command.arg("plugin").args(arguments).current_dir(folder);
        said(&mut command)
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
    Ok(own.join(format!("build/{language}.wasm")))
}

impl Step {
    /// The cases, each with its CPU time for a call in microseconds. What was compiled in another round is in `artifacts`.
    pub fn measure(
        &self,
        binary: &Path,
        artifacts: &Path,
    ) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let mut command = systems::pinned(0, binary);
        command
            .arg("bench-step")
            .arg(&self.component)
            .arg("--artifacts")
            .arg(artifacts);
        if self.figures.iter().all(|(_, figure)| *figure == WARM) {
            command.arg("--warm");
        }
        let output = said(&mut command).context("`tidegate bench-step`")?;
        let printed: Value =
            serde_json::from_str(&output).context("`tidegate bench-step` printed no JSON")?;
        let figures = self.figures.iter();
        let figures = figures.map(|(case, figure)| {
            let nanoseconds = printed[figure].as_f64();
            let nanoseconds = nanoseconds
                .with_context(|| format!("`tidegate bench-step` printed no {figure}"))?;
            Ok((*case, nanoseconds / 1e3))
        });
        figures.collect()
    }

    /// What it is called where progress is shown.
    pub fn name(&self) -> &'static str {
        self.figures[0].0
    }
}
