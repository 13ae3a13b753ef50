//! The node's own log, on standard error.

use std::io;

use tidegate_model::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts the log. `TIDEGATE_LOG` overrides the configured level.
///
/// # Errors
///
/// A sentence, where the level is not a filter.
pub fn start(log: &Log) -> Result<(), String> {
    let level = std::env::var("TIDEGATE_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(&level)
        .map_err(|error| format!("\"{level}\" is not a log level: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Human => lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("the log does not start: {error}"))
}
