//! `tidegate plugin check`: whether a node could load a component, and what it would take and give there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::inspect::Description;

/// Loads it as a node would.
pub fn run(component: &Path, cache: Option<PathBuf>, json: bool) -> Result<ExitCode> {
    let outcome = Description::of(component, cache);
    if json {
        let told = match &outcome {
            Ok(description) => serde_json::json!({ "ok": true, "component": description.json() }),
            Err(error) => serde_json::json!({ "ok": false, "error": format!("{error:#}") }),
        };
        println!("{told}");
        return Ok(match outcome {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        });
    }
    print!("{}: {}", component.display(), outcome?.summary());
    Ok(ExitCode::SUCCESS)
}
