//! `tidegate plugin deploy`: a new plugin, or a new version of one, until it takes traffic.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;
use tidegate_model::uri;

use super::credentials::Credentials;
use super::source::{self, Artifact};
use super::versions::{PLUGINS, short};
use crate::cli::admin::Node;

/// Hands a component to a node, under the name that its `plugin.toml` says unless another is given.
pub fn run(
    from: &str,
    name: Option<String>,
    credentials: &Credentials,
    node: &Node,
    json: bool,
) -> Result<ExitCode> {
    let artifact = source::read(from, credentials)?;
    let said = || artifact.plugin.as_ref().map(|(name, _)| name.clone());
    let files = || Some(artifact.path.file_stem()?.to_string_lossy().into_owned());
    let name = name.or_else(said).or_else(files);
    let name = name.with_context(|| format!("{from} says no name: give one, --name NAME"))?;
    let deployed = send(node, &name, artifact)?;
    if json {
        println!("{deployed}");
    } else {
        println!("{}", text(&name, &deployed));
    }
    Ok(ExitCode::SUCCESS)
}

/// Hands it over and waits until every worker of the node serves it; gives what the node says.
///
/// # Errors
///
/// What the node says; it serves what it served then.
pub fn send(node: &Node, plugin: &str, artifact: Artifact) -> Result<Value> {
    let path = format!("{PLUGINS}/{}?new=true", uri::encode_query(plugin));
    node.put_component(&path, artifact)
}

/// For people.
pub fn text(plugin: &str, deployed: &Value) -> String {
    let cases = match deployed["cases_passed"].as_u64() {
        None | Some(0) => String::new(),
        Some(1) => ", its case passed".to_owned(),
        Some(count) => format!(", its {count} cases passed"),
    };
    let bindings = deployed["bindings"].as_array();
    let names = bindings.into_iter().flatten().filter_map(Value::as_str);
    let places: String = names.map(|name| format!("\n    {name}")).collect();
    let places = match places.as_str() {
        "" => "\n    no API binds it yet: `plugin: NAME` under x-tidegate-bindings".to_owned(),
        _ => places,
    };
    format!(
        "{plugin}: version {} serves after {:.0} ms{cases}{places}",
        short(&deployed["version"]),
        deployed["took_ms"].as_f64().unwrap_or_default()
    )
}
