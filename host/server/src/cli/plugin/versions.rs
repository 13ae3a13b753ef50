//! `tidegate plugin list`, `swap`, `promote`, `rollback`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tidegate_model::canary::Bounds;
use tidegate_model::uri;

use super::credentials::Credentials;
use super::source;
use crate::cli::admin::Node;

/// What `swap` was told.
pub struct Swap {
    pub plugin: String,
    /// Where it is.
    pub component: String,
    pub canary: Option<String>,
    pub promote_after: Option<String>,
    pub bounds: BoundArguments,
    pub watch: bool,
    pub credentials: Credentials,
}

/// What a canary is rolled back for, against the old version over the same time.
#[derive(Debug, clap::Args)]
pub struct BoundArguments {
    /// Requests before it is judged. Default 20.
    #[arg(long, value_name = "NUMBER", requires = "canary")]
    min_requests: Option<String>,
    /// Percentage points of requests with faults that it may have more. Default 1.
    #[arg(long, value_name = "PERCENT", requires = "canary")]
    max_faults: Option<String>,
    /// Percentage points of 5xx responses that it may have more. Default 1.
    #[arg(long, value_name = "PERCENT", requires = "canary")]
    max_failures: Option<String>,
    /// Times the old version's mean latency that it may take. Default 1.5.
    #[arg(long, value_name = "FACTOR", requires = "canary")]
    max_latency: Option<String>,
}

/// Prints every plugin of the node.
pub fn list(node: &Node, json: bool) -> Result<ExitCode> {
    let plugins = node.get(PLUGINS)?;
    if json {
        println!("{plugins}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{:<20} {:<12} {:<9} {:>8}  canary",
        "plugin", "version", "source", "bindings"
    );
    for plugin in plugins.as_array().into_iter().flatten() {
        println!(
            "{:<20} {:<12} {:<9} {:>8}  {}",
            text(&plugin["plugin"]),
            short(&plugin["version"]),
            text(&plugin["source"]),
            plugin["bindings"].as_array().map_or(0, Vec::len),
            canary(&plugin["canary"])
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Hands a component to the node.
pub fn swap(node: &Node, swap: &Swap, json: bool) -> Result<ExitCode> {
    let artifact = source::read(&swap.component, &swap.credentials)?;
    let mut path = format!("{PLUGINS}/{}", swap.plugin);
    let [min_requests, max_faults, max_failures, max_latency] = Bounds::NAMES;
    let parameters = [
        ("canary", &swap.canary),
        ("for", &swap.promote_after),
        (min_requests, &swap.bounds.min_requests),
        (max_faults, &swap.bounds.max_faults),
        (max_failures, &swap.bounds.max_failures),
        (max_latency, &swap.bounds.max_latency),
    ];
    for (name, value) in parameters {
        if let Some(value) = value {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(name);
            path.push('=');
            path.push_str(&uri::encode_query(value));
        }
    }
    let swapped = node.put_component(&path, artifact)?;
    if json {
        println!("{swapped}");
    } else {
        println!(
            "{}: version {} {} after {:.0} ms",
            swap.plugin,
            // The canary that is told of otherwise is one that has ended.
            short(match &swap.canary {
                Some(_) => &swapped["canary"]["version"],
                None => &swapped["version"],
            }),
            match &swap.canary {
                Some(split) => format!("serves requests of {split}"),
                None => "serves".to_owned(),
            },
            swapped["took_ms"].as_f64().unwrap_or_default()
        );
    }
    if swap.watch {
        return watch(node, &swap.plugin, json);
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends `promote` or `rollback`.
pub fn change(node: &Node, plugin: &str, what: &str, json: bool) -> Result<ExitCode> {
    let report = node.put(&format!("{PLUGINS}/{plugin}/{what}"))?;
    if json {
        println!("{report}");
    } else {
        println!(
            "{plugin}: version {} ({}) serves",
            short(&report["version"]),
            text(&report["source"])
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the figures of both versions until the canary has ended; fails where it was not promoted.
fn watch(node: &Node, plugin: &str, json: bool) -> Result<ExitCode> {
    let live = !json && std::io::stdout().is_terminal();
    let mut shown = String::new();
    loop {
        let plugins = node.get(PLUGINS)?;
        let of_plugin = |entry: &&Value| entry["plugin"] == plugin;
        let report = plugins.as_array().into_iter().flatten().find(of_plugin);
        let state = report.map_or(&Value::Null, |report| &report["canary"]);
        if state.is_null() {
            bail!("the node knows of no canary of {plugin} any more: was it started again?");
        }
        let line = if json {
            state.to_string()
        } else {
            canary(state)
        };
        if line != shown {
            let mut out = std::io::stdout().lock();
            if live {
                write!(out, "\r\x1b[2K{line}")?;
            } else {
                writeln!(out, "{line}")?;
            }
            out.flush()?;
            shown = line;
        }
        if let Some(outcome) = state["outcome"].as_str() {
            if live {
                println!();
            }
            return Ok(if outcome == "promoted" {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// `10%: new 120 requests, 0 5xx, 0 faults, 1.2 ms · old …`.
fn canary(canary: &Value) -> String {
    if canary.is_null() {
        return "–".to_owned();
    }
    let figures = |side: &Value| {
        format!(
            "{} requests, {} 5xx, {} faults, {:.2} ms",
            side["requests"],
            side["failures"],
            side["faults"],
            side["mean_ms"].as_f64().unwrap_or_default()
        )
    };
    let outcome = canary["outcome"].as_str().unwrap_or("running");
    format!(
        "{} of {}, {outcome} · new: {} · old: {}",
        text(&canary["split"]),
        short(&canary["version"]),
        figures(&canary["canary"]),
        figures(&canary["stable"])
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("–")
}

/// Enough of a hash to tell versions apart.
pub fn short(value: &Value) -> &str {
    let hash = text(value);
    hash.get(..12).unwrap_or(hash)
}

pub const PLUGINS: &str = "/tidegate/v1/plugins";
/// As often as a person can read it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
