//! `tidegate check`: what startup would refuse, before it has to.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use tidegate_model::{Problems, config};
use tidegate_sandbox::{Runtime, Settings};

use crate::builtin;
use crate::deploy::Deployer;
use crate::services::nothing::NoServices;
use crate::telemetry::metrics::Metrics;

/// Checks files and prints every problem; fails where there is one.
///
/// Runs the code that startup runs, in the same order: files that can be read are compiled, and where that is well, their
/// components are loaded and configured.
pub fn run(files: &[PathBuf], json: bool) -> Result<ExitCode> {
    let mut problems = tidegate_model::check::check(files, &builtin::names());
    if problems.is_empty() {
        for file in files.iter().filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "toml")
        }) {
            problems.extend(deployable(file)?);
        }
    }
    if json {
        let listed = (&problems).into_iter().map(|problem| {
            serde_json::json!({
                "file": problem.place.file,
                "line": problem.place.line,
                "message": problem.message,
                "hint": problem.hint,
            })
        });
        println!(
            "{}",
            serde_json::json!({ "problems": listed.collect::<Vec<_>>() })
        );
    } else if problems.is_empty() {
        println!(
            "{} {} well-formed",
            files.len(),
            if files.len() == 1 {
                "file is"
            } else {
                "files are"
            }
        );
    } else {
        println!("{problems}");
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Loads and configures the components that a node names.
fn deployable(file: &Path) -> Result<Problems> {
    let node = match config::load(file) {
        Ok(node) => node,
        Err(problems) => return Ok(problems),
    };
    let sandbox = Arc::new(Runtime::new(Settings::default())?);
    let deployer = Deployer::new(sandbox, Arc::new(NoServices), Metrics::new(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime
        .block_on(deployer.deploy(&node, &Default::default(), None, None))
        .err()
        .unwrap_or_default())
}
