//! `tidegate plugin test`: the folder's cases, in the sandbox that the node runs plugins in.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_sandbox::{Function, Plugin, Runtime, Settings};

use super::build;
use super::inspect;
use super::manifest::{Kind, Manifest};
use crate::cases::{self, Difference, Ran, Suite};

/// Builds, unless a component is given, and runs every case; fails where one does.
pub fn run(
    folder: &Path,
    component: Option<&Path>,
    kept: Option<&Path>,
    json: bool,
) -> Result<ExitCode> {
    let manifest = Manifest::read(folder)?;
    let component = match component {
        Some(component) => component.to_owned(),
        None => {
            build::build(&manifest)?;
            manifest.component()
        }
    };
    let bytes = std::fs::read(&component).with_context(|| component.display().to_string())?;
    let mut settings = Settings {
        instances_max: 64, // a Python component alone has 38 core instances
        ..Settings::default()
    };
    match kept {
        Some(kept) => settings.artifacts = Some(kept.to_owned()),
        None => {
            settings.artifacts = Some(manifest.build_folder().join(inspect::ARTIFACTS));
            settings.artifact_bytes_max = 0; // the newest build's only: each edit makes another
        }
    }
    let runtime = Runtime::new(settings)?;
    let subject = match manifest.kind {
        Kind::Steps(_) => Subject::Plugin(runtime.plugin(&bytes)?),
        Kind::Function => Subject::Function(runtime.function(&bytes)?),
    };
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut results = Vec::new();
    let files = manifest.case_files()?;
    ensure!(
        !files.is_empty(),
        "there are no cases in {}: a file of any name that ends in .toml",
        manifest.folder.join("cases").display()
    );
    for file in files {
        tokio.block_on(run_file(&subject, &file, &mut results))?;
    }
    report(&results, &manifest, json);
    Ok(match results.iter().all(CaseResult::passed) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

enum Subject {
    Plugin(Arc<Plugin>),
    Function(Arc<Function>),
}

struct CaseResult {
    file: PathBuf,
    name: String,
    differences: Vec<Difference>,
    log: Vec<String>,
}

impl CaseResult {
    fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

async fn run_file(subject: &Subject, file: &Path, results: &mut Vec<CaseResult>) -> Result<()> {
    let Suite {
        surroundings,
        cases,
    } = cases::read(file)?;
    for case in cases {
        let Ran { differences, log } = match subject {
            Subject::Plugin(plugin) => {
                cases::run::plugin(plugin, &surroundings, &case, &json!({})).await?
            }
            Subject::Function(function) => {
                cases::run::function(function, &surroundings, &case).await
            }
        };
        results.push(CaseResult {
            file: file.to_owned(),
            name: case.name,
            differences,
            log,
        });
    }
    Ok(())
}

fn report(results: &[CaseResult], manifest: &Manifest, json: bool) {
    let failed = results.iter().filter(|result| !result.passed()).count();
    let passed = results.len() - failed;
    if json {
        let cases: Vec<Value> = results.iter().map(result_json).collect();
        println!(
            "{}",
            json!({ "plugin": manifest.name, "version": manifest.version, "passed": passed, "failed": failed, "cases": cases })
        );
        return;
    }
    for result in results {
        let mark = if result.passed() { "ok  " } else { "FAIL" };
        println!("{mark} {}", result.name);
        if !result.passed() {
            println!("    in {}", result.file.display());
            for difference in &result.differences {
                print!("{}", difference.text());
            }
            for line in &result.log {
                println!("    log: {line}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
}

fn result_json(result: &CaseResult) -> Value {
    let differences: Vec<Value> = result
        .differences
        .iter()
        .map(|difference| {
            json!({
                "pointer": difference.pointer,
                "expected": difference.expected,
                "actual": difference.actual,
            })
        })
        .collect();
    json!({
        "name": result.name,
        "file": result.file,
        "passed": result.passed(),
        "differences": differences,
        "log": result.log,
    })
}
