//! `tidegate node`: how nodes come to know each other.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use tidegate_model::config::{self, DurationText};
use tidegate_model::uri;

use super::admin::Node;
use crate::identity::join::{JoinFailure, join};
use crate::identity::{Identity, JoinToken, Peer};
use crate::node::host_name;

/// What can be done about nodes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token by which one new node can join a running origin.
    Token {
        /// What the new node may be.
        #[arg(long, value_enum, default_value_t)]
        role: Role,
        /// The only name that the new node may have.
        #[arg(long)]
        name: Option<String>,
        /// How long the token can be used, once: "15m", at most "168h".
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        lifetime: String,
        /// How the new node reaches the origin, instead of `names` in its [link]; may be given again for others.
        #[arg(long, value_name = "HOST:PORT")]
        origin: Vec<String>,
        #[command(flatten)]
        node: Node,
    },
    /// List the nodes that link to a running origin: what each serves, how it is reached.
    List {
        #[command(flatten)]
        node: Node,
    },
    /// Give this node an identity: a key, and a certificate from the origin that made the token.
    Join {
        /// What `tidegate node token` printed; "-" reads it from standard input, where other users cannot see it.
        token: String,
        /// The node's configuration: its name, role, region and data directory.
        #[arg(default_value = "tidegate.toml")]
        file: PathBuf,
        /// Join although the node has an identity, which it loses.
        #[arg(long)]
        force: bool,
    },
}

/// What a new node is to be.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Role {
    #[default]
    Edge,
    Origin,
}

/// Runs a command.
///
/// # Errors
/// What the origin says, or why it cannot be asked.
pub fn run(command: Command, json: bool) -> Result<ExitCode> {
    match command {
        Command::Token {
            role,
            name,
            lifetime,
            origin,
            node,
        } => token(role, name.as_deref(), &lifetime, &origin, &node, json),
        Command::List { node } => list(&node, json),
        Command::Join { token, file, force } => join_by(&token, &file, force, json),
    }
}

fn list(node: &Node, json: bool) -> Result<ExitCode> {
    let answer = node.get("/tidegate/v1/nodes")?;
    if json {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
    let this = &answer["this"];
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let short = |value: &Value| {
        text(value)
            .chars()
            .take(SNAPSHOT_DIGITS)
            .collect::<String>()
    };
    rows.push(vec![
        text(&this["name"]),
        text(&this["role"]),
        text(&this["region"]),
        "this".to_owned(),
        short(&this["snapshot"]),
        text(&this["version"]),
    ]);
    let nodes = answer["nodes"].as_array();
    for node in nodes.into_iter().flatten() {
        let rtt = node["rttMs"].as_f64().map(|rtt| format!("{rtt:.1} ms"));
        rows.push(vec![
            text(&node["name"]),
            text(&node["role"]),
            text(&node["region"]),
            text(&node["health"]),
            short(&node["snapshot"]),
            text(&node["version"]),
            text(&node["transport"]),
            rtt.unwrap_or_default(),
            text(&node["requests"]),
        ]);
    }
    print!("{}", aligned(&rows));
    for node in nodes.into_iter().flatten() {
        if let Some(problem) = node["problem"].as_str() {
            println!("{}: {problem}", text(&node["name"]));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns as wide as their widest cell, two spaces apart.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate();
        let line: String = cells
            .map(|(column, cell)| format!("{cell:<width$}", width = width(column) + 2))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

const HEADINGS: [&str; 9] = [
    "NAME", "ROLE", "REGION", "HEALTH", "SNAPSHOT", "VERSION", "LINK", "RTT", "REQUESTS",
];
/// Enough to tell one from another.
const SNAPSHOT_DIGITS: usize = 8;

fn token(
    role: Role,
    name: Option<&str>,
    lifetime: &str,
    origins: &[String],
    node: &Node,
    json: bool,
) -> Result<ExitCode> {
    DurationText::parse(lifetime).map_err(|problem| anyhow!("--for: {problem}"))?;
    let role = match role {
        Role::Edge => "edge",
        Role::Origin => "origin",
    };
    let mut path = format!(
        "/tidegate/v1/nodes/tokens?role={role}&for={}",
        uri::encode_query(lifetime)
    );
    if let Some(name) = name {
        path.push_str(&format!("&name={}", uri::encode_query(name)));
    }
    if !origins.is_empty() {
        path.push_str(&format!(
            "&origins={}",
            uri::encode_query(&origins.join(","))
        ));
    }
    let answer = node.put(&path)?;
    if json {
        println!("{answer}");
    } else {
        // Nothing else on standard output, so that it can be piped.
        println!("{}", answer["token"].as_str().unwrap_or_default());
        eprintln!("One node can join with it within {lifetime}: tidegate node join TOKEN CONFIG");
    }
    Ok(ExitCode::SUCCESS)
}

fn join_by(token: &str, file: &std::path::Path, force: bool, json: bool) -> Result<ExitCode> {
    let token = match token {
        "-" => std::io::read_to_string(std::io::stdin()).context("the token on standard input")?,
        text => text.to_owned(),
    };
    let token = JoinToken::parse(&token)?;
    let node = config::load(file).map_err(|problems| anyhow!("{problems}"))?;
    let peer = Peer {
        name: node.name.clone().unwrap_or_else(host_name),
        role: node.role.into(),
        region: node.region.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(join(&token, &peer, &node.data, force)) {
        Ok(identity) => {
            joined(&identity, json);
            Ok(ExitCode::SUCCESS)
        }
        Err(JoinFailure::Refused { code, message }) if json => {
            println!("{}", json!({ "code": code, "message": message }));
            Ok(ExitCode::FAILURE)
        }
        Err(failure) => Err(failure.into()),
    }
}

fn joined(identity: &Identity, json: bool) {
    let Peer { name, role, region } = identity.peer();
    let until = identity.valid_until();
    if json {
        let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        println!(
            "{}",
            json!({ "name": name, "role": role, "region": region, "validUntil": since.as_secs() })
        );
    } else {
        let left = until.duration_since(SystemTime::now());
        let days = left.unwrap_or(Duration::ZERO).as_secs().div_ceil(86400);
        println!(
            "\"{name}\" is {role} in {region}; its certificate holds for {days} days and renews itself"
        );
    }
}
