//! `tidegate cache`: what the cache of a running node holds.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use tidegate_model::uri;

use super::admin::Node;

/// What can be done with a cache.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what the cache holds, and what it did.
    Show {
        #[command(flatten)]
        node: Node,
    },
    /// Remove stored responses, or mark them stale.
    Purge {
        #[command(flatten)]
        what: What,
        /// Mark them stale: the origin is asked whether they still hold.
        #[arg(long)]
        soft: bool,
        #[command(flatten)]
        node: Node,
    },
}

/// Which responses.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// One URL, with its query: "http://host/path?query", or "/path?query" for every host. The path is the one below
    /// the stage.
    #[arg(long)]
    url: Option<String>,
    /// All URLs that begin so.
    #[arg(long)]
    prefix: Option<String>,
    /// What the origin called it, in Surrogate-Key or Cache-Tag.
    #[arg(long)]
    tag: Option<String>,
    /// An API ("orders") or one of its stages ("orders/prod").
    #[arg(long)]
    stage: Option<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
}

impl What {
    fn parameter(&self) -> String {
        let named = [
            ("url", &self.url),
            ("prefix", &self.prefix),
            ("tag", &self.tag),
            ("stage", &self.stage),
        ];
        let named = named
            .into_iter()
            .find_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        match named {
            Some((name, value)) => format!("{name}={}", uri::encode_query(value)),
            None => "all=true".to_owned(),
        }
    }
}

/// Runs a command.
///
/// # Errors
/// What the node says.
pub fn run(command: Command, json: bool) -> Result<ExitCode> {
    match command {
        Command::Show { node } => {
            let figures = node.get("/tidegate/v1/cache")?;
            if json {
                println!("{figures}");
            } else {
                println!("entries    {}", figures["entries"]);
                println!("bytes      {}", figures["bytes"]);
                println!("evictions  {}", figures["evictions"]);
                for (outcome, count) in figures["requests"].as_object().into_iter().flatten() {
                    println!("{outcome:<11}{count}");
                }
                for (figure, value) in figures["disk"].as_object().into_iter().flatten() {
                    println!("disk {figure:<11}{value}");
                }
            }
        }
        Command::Purge { what, soft, node } => {
            let soft = if soft { "&soft=true" } else { "" };
            let path = format!("/tidegate/v1/cache/purge?{}{soft}", what.parameter());
            let answer = node.put(&path)?;
            if json {
                println!("{answer}");
            } else {
                println!("{} purged", answer["purged"]);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
