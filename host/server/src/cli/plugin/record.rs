//! `tidegate plugin record`: requests that pass a plugin of a running node become cases that `test` runs.

use std::fs::OpenOptions;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use tidegate_model::uri;

use crate::cli::admin::Node;

/// What is recorded.
#[derive(Debug, Args)]
pub struct Recording {
    /// The plugin's name on the node.
    plugin: String,
    /// How many requests, up to 1000.
    #[arg(short = 'n', long, default_value_t = 10)]
    count: u16,
    /// The file to add the cases to, such as cases/recorded.toml in the plugin's folder; standard output unless given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keep the values of authorization, cookie, proxy-authorization, set-cookie and x-api-key, which are "redacted" else.
    #[arg(long)]
    keep_secrets: bool,
}

/// Goes on until so many requests have come, or Ctrl-C; each is in the file when it is told of.
pub fn run(node: &Node, recording: &Recording, json: bool) -> Result<ExitCode> {
    let Recording {
        plugin,
        count,
        output,
        keep_secrets,
    } = recording;
    let path = format!(
        "/tidegate/v1/recordings?plugin={}&count={count}&secrets={keep_secrets}",
        uri::encode_query(plugin)
    );
    let mut out: Box<dyn Write> = match output {
        None => Box::new(stdout()),
        Some(file) => Box::new(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .with_context(|| file.display().to_string())?,
        ),
    };
    if !json {
        eprintln!("Recording the next {count} requests that pass {plugin}; Ctrl-C ends it.");
    }
    let mut recorded = 0;
    node.follow(&path, |line| {
        let case: Value = serde_json::from_str(line).context("the node's answer")?;
        match (json, output) {
            (true, None) => writeln!(out, "{line}")?,
            _ => {
                let text = toml::to_string(&json!({ "case": [case] }))?;
                out.write_all(format!("{text}\n").as_bytes())?;
            }
        }
        out.flush()?;
        recorded += 1;
        if !json {
            let name = case["name"].as_str().unwrap_or_default();
            eprintln!("{recorded} of {count}  {name}");
        }
        Ok(())
    })?;
    if let Some(file) = output {
        match json {
            true => println!("{}", json!({ "recorded": recorded, "file": file })),
            false => eprintln!(
                "{} has them. Look through it before you share it: only fields that are known to be secret are redacted. \
                 What the plugin gets elsewhere (secrets, API keys, replies of servers) is for you to add.",
                file.display()
            ),
        }
    }
    Ok(ExitCode::SUCCESS)
}
