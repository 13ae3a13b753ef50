//! `tidegate plugin logs`: what plugins of a running node say.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;
use tidegate_model::uri;

use crate::cli::admin::Node;

/// Prints what was said, and with `follow` what is, until the node ends or Ctrl-C.
pub fn run(node: &Node, plugin: Option<&str>, follow: bool, json: bool) -> Result<ExitCode> {
    node.follow(&path(plugin, follow, false), |line| print(line, json))?;
    Ok(ExitCode::SUCCESS)
}

/// Where a node tells it.
pub fn path(plugin: Option<&str>, follow: bool, from_now: bool) -> String {
    let plugin = plugin.map(|plugin| format!("&plugin={}", uri::encode_query(plugin)));
    let from = if from_now { "&from=now" } else { "" };
    format!(
        "/tidegate/v1/logs?follow={follow}{from}{}",
        plugin.unwrap_or_default()
    )
}

/// Prints a line as it came, or for people.
///
/// # Errors
///
/// Where nobody reads any more.
pub fn print(line: &str, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{line}")?;
    } else {
        let parsed: Value = serde_json::from_str(line)?;
        writeln!(out, "{}", text(&parsed, out.is_terminal()))?;
    }
    out.flush()?;
    Ok(())
}

/// `12:03:04.567 info  items/dev GET /items: authorizer guard [id] message`; lines that follow the first are set in.
fn text(line: &Value, colours: bool) -> String {
    if let Some(missed) = line["missed"].as_u64() {
        return format!("… {missed} lines were gone before they could be read");
    }
    let member = |name: &str| line[name].as_str().unwrap_or_default();
    let level = member("level");
    let (on, off) = match (colours, level) {
        (true, "error" | "fault") => ("\x1b[31m", "\x1b[0m"),
        (true, "warn") => ("\x1b[33m", "\x1b[0m"),
        _ => ("", ""),
    };
    let id = match line["request_id"].as_str() {
        Some(id) => format!(" [{id}]"),
        None => String::new(),
    };
    format!(
        "{} {on}{level:<5}{off} {}{id} {}",
        time_of_day(line["time_ms"].as_u64().unwrap_or_default()),
        member("binding"),
        member("message").replace('\n', "\n    ")
    )
}

/// UTC, as the node's own log has it.
fn time_of_day(time_ms: u64) -> String {
    let (seconds, ms) = (time_ms / 1000, time_ms % 1000);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    format!(
        "{:02}:{:02}:{:02}.{ms:03}",
        hours % 24,
        minutes % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_told_with_what_they_are_about() {
        let cases = [
            (
                json!({ "time_ms": 45_296_007, "level": "info", "binding": "b", "request_id": "r", "message": "a\nb" }),
                "12:34:56.007 info  b [r] a\n    b",
            ),
            (
                json!({ "time_ms": 0, "level": "fault", "binding": "b", "message": "trapped" }),
                "00:00:00.000 fault b trapped",
            ),
            (
                json!({ "missed": 3 }),
                "… 3 lines were gone before they could be read",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(text(&line, false), expected);
        }
    }
}
