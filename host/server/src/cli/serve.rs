//! `tidegate serve`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tidegate_model::config;

use crate::node::{self, Ready};
use crate::telemetry;

/// Runs a node; prints where it can be reached once it can be.
pub fn run(file: &Path, json: bool, began: Instant) -> Result<ExitCode> {
    let node = match config::load(file) {
        Ok(node) => node,
        Err(problems) => bail!("the configuration cannot be used:\n{problems}"),
    };
    telemetry::log::start(&node.log)
        .map_err(anyhow::Error::msg)
        .context("[log]")?;
    node::serve(file, node, began, |ready| announce(ready, json))?;
    Ok(ExitCode::SUCCESS)
}

fn announce(ready: &Ready, json: bool) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away is no reason not to serve.
    _ = if json {
        writeln!(out, "{}", serde_json::json!({ "ready": ready }))
    } else {
        let listeners = ready.listeners.iter().map(|listener| {
            let scheme = if listener.tls { "https" } else { "http" };
            format!("{scheme}://{}", listener.address)
        });
        let listeners = listeners.collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "ready in {} ms: {listeners}; admin http://{}",
            ready.took_ms, ready.admin
        )
    };
    _ = out.flush();
}
