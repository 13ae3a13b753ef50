//! `tidegate bench-compile`: how long a plugin is compiled, for the benchmark's table.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use tidegate_sandbox::{Runtime, Settings};

/// Compiles a plugin on as many threads as a node does, which are in nobody's way here, keeps nothing, and prints microseconds.
pub fn run(component: &Path) -> Result<ExitCode> {
    let bytes = std::fs::read(component).with_context(|| component.display().to_string())?;
    let runtime = Runtime::new(Settings::default())?;
    let began = Instant::now();
    runtime.plugin(&bytes)?;
    let took = began.elapsed().as_micros();
    println!("{}", serde_json::json!({ "compile_us": took }));
    Ok(ExitCode::SUCCESS)
}
