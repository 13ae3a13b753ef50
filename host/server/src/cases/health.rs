//! Whether a version that is to take another's place does what its author says: its own cases, run on this node.
//!
//! They run after the bindings were configured and before anything is served by them, over surroundings that are only text:
//! the node's keys, secrets and servers are not touched. A case whose configuration is `"binding"` is run with that of each.
//! A node that starts runs none: what it served before, it serves again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tidegate_model::Problems;
use tidegate_model::config::Node;
use tidegate_model::deployment::Snapshot;
use tidegate_sandbox::{Function, Plugin, Step};

use super::{Ran, run};
use crate::deploy::{Deployed, LinkedFunction};

/// Runs the cases of every plugin that has a binding in `snapshot` and another version in `before`; gives how many passed of
/// each.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing behind.
pub async fn check(
    snapshot: &Snapshot,
    plugins: &BTreeMap<String, Arc<Plugin>>,
    before: &Deployed,
    problems: &mut Problems,
) -> BTreeMap<String, usize> {
    let served: HashSet<&str> = before
        .bindings
        .iter()
        .map(|binding| binding.plugin().hash.as_str())
        .collect();
    let mut passed = BTreeMap::new();
    for (name, plugin) in plugins {
        let bound = snapshot.bindings.iter().zip(&snapshot.places);
        let mut bound = bound.filter(|(spec, _)| spec.plugin == *name).peekable();
        let Some((_, place)) = bound.peek().copied() else {
            continue;
        };
        if served.contains(plugin.hash.as_str()) {
            continue;
        }
        let configurations: Vec<(Step, &Value)> = bound
            .map(|(spec, _)| (crate::deploy::step(spec.step), &spec.configuration))
            .collect();
        match of(plugin, &configurations).await {
            Ok(0) => {}
            Ok(count) => drop(passed.insert(name.clone(), count)),
            Err(error) => problems.add(place, format!("plugin \"{name}\": {error:#}")),
        }
    }
    passed
}

/// Runs the cases of every function whose version `before` has not.
///
/// # Cancel safety
///
/// As [`check`].
pub async fn check_functions(
    node: &Node,
    functions: &BTreeMap<String, LinkedFunction>,
    before: &Deployed,
    problems: &mut Problems,
) {
    let served: HashSet<&str> = before
        .functions
        .values()
        .map(|linked| linked.function.hash.as_str())
        .collect();
    for (name, linked) in functions {
        if served.contains(linked.function.hash.as_str()) {
            continue;
        }
        let ran = tokio::time::timeout(PATIENCE, of_function(&linked.function));
        let failed = match ran.await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("its cases took longer than {PATIENCE:?}"),
        };
        problems.add(
            &node.functions[name].place,
            format!("function \"{name}\": {failed}"),
        );
    }
}

async fn of_function(function: &Arc<Function>) -> Result<()> {
    let Some(section) = &function.cases else {
        return Ok(());
    };
    let suites = super::carried(section).context(UNREADABLE)?;
    for (file, suite) in &suites {
        for case in &suite.cases {
            let ran = run::function(function, &suite.surroundings, case).await;
            agree(&ran, &case.name, file)?;
        }
    }
    Ok(())
}

/// Runs the cases that a plugin carries; gives how many. Those of a step that is bound nowhere are left out.
///
/// # Errors
///
/// The first that fails, with what was expected and what came.
pub async fn of(plugin: &Arc<Plugin>, configurations: &[(Step, &Value)]) -> Result<usize> {
    let Some(section) = plugin.cases() else {
        return Ok(0);
    };
    match tokio::time::timeout(PATIENCE, run_all(plugin, section, configurations)).await {
        Ok(ran) => ran,
        Err(_) => bail!("its cases took longer than {PATIENCE:?}"),
    }
}

async fn run_all(
    plugin: &Arc<Plugin>,
    section: &str,
    configurations: &[(Step, &Value)],
) -> Result<usize> {
    let suites = super::carried(section).context(UNREADABLE)?;
    let none = json!({});
    let mut count = 0;
    for (file, suite) in &suites {
        for case in &suite.cases {
            let step = case.step_of(plugin)?;
            let with: Vec<&Value> = match case.configuration {
                Some(_) => vec![&none], // it has its own
                None => configurations
                    .iter()
                    .filter(|(of, _)| *of == step)
                    .map(|(_, configuration)| *configuration)
                    .collect(),
            };
            for configuration in &with {
                let ran = run::plugin(plugin, &suite.surroundings, case, configuration).await?;
                agree(&ran, &case.name, file)?;
            }
            count += usize::from(!with.is_empty());
        }
    }
    Ok(count)
}

fn agree(ran: &Ran, case: &str, file: &str) -> Result<()> {
    if !ran.differences.is_empty() {
        bail!("its case \"{case}\" of {file} fails:\n{}", shown(ran));
    }
    Ok(())
}

fn shown(ran: &Ran) -> String {
    let differences = ran.differences.iter().map(|difference| difference.text());
    let log = ran.log.iter().map(|line| format!("    log: {line}\n"));
    let text: String = differences.chain(log).collect();
    text.trim_end().to_owned()
}

const UNREADABLE: &str = "the cases that it carries cannot be read";
/// Hundreds of cases in the slowest language.
const PATIENCE: Duration = Duration::from_secs(30);
