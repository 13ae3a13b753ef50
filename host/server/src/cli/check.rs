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
use crate::versions::{Components, Versions};

/// Checks files and prints every problem; fails where there is one.
///
/// Runs the code that startup runs, in the same order: files that can be read are compiled, and where that is well, their
/// components are loaded and configured. Of a node's data it reads which versions of plugins it was handed, as startup does,
/// and changes nothing.
pub fn run(files: &[PathBuf], json: bool) -> Result<ExitCode> {
    let mut problems = Problems::default();
    for file in files {
        let deployed = deployed(file)?;
        let deployed = deployed.keys().map(String::as_str);
        let known: Vec<&str> = builtin::names().into_iter().chain(deployed).collect();
        problems.extend(tidegate_model::check::check(&[file], &known));
    }
    let mut problems = problems.sorted();
    if problems.is_empty() {
        for file in files.iter().filter(|file| is_node(file)) {
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

fn is_node(file: &Path) -> bool {
    let extension = file.extension();
    extension.is_some_and(|extension| extension == "toml")
}

/// The versions of plugins that a node was handed, in force; none where the file is no node's.
fn deployed(file: &Path) -> Result<Components> {
    if !is_node(file) {
        return Ok(Components::new());
    }
    match config::load(file) {
        Ok(node) => Ok(Versions::of(&node)?.components()),
        Err(_) => Ok(Components::new()), // said where it is checked
    }
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
        .block_on(deployer.deploy(&node, &deployed(file)?, None, None))
        .err()
        .unwrap_or_default())
}
