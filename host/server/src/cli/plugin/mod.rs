//! `tidegate plugin`: the versions of plugins that a running node serves.

mod versions;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::admin::Node;

/// What can be done with plugins.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the plugins of a running node and their versions.
    List {
        #[command(flatten)]
        node: Node,
    },
    /// Put another version of a plugin in force on a running node, for all requests or for some of them.
    Swap {
        /// The plugin's name on the node.
        plugin: String,
        /// The component.
        component: PathBuf,
        /// Only for some requests: a share ("10%") or a header ("x-canary: yes"). It is rolled back by itself where its
        /// faults, its 5xx responses or its latency exceed the old version's.
        #[arg(long, value_name = "SPLIT")]
        canary: Option<String>,
        /// Promote the canary after this time ("60s"), where it was not rolled back.
        #[arg(long = "for", value_name = "TIME", requires = "canary")]
        promote_after: Option<String>,
        #[command(flatten)]
        bounds: versions::BoundArguments,
        /// Show both versions' figures until the canary ends.
        #[arg(long, requires = "canary")]
        watch: bool,
        #[command(flatten)]
        node: Node,
    },
    /// Make the canary of a plugin its only version.
    Promote {
        /// The plugin's name on the node.
        plugin: String,
        #[command(flatten)]
        node: Node,
    },
    /// End the canary of a plugin, or go back to the version before.
    Rollback {
        /// The plugin's name on the node.
        plugin: String,
        #[command(flatten)]
        node: Node,
    },
}

/// Runs a command.
///
/// # Errors
/// What the node or the files say.
pub fn run(command: Command, json: bool) -> Result<ExitCode> {
    match command {
        Command::List { node } => versions::list(&node, json),
        Command::Swap {
            plugin,
            component,
            canary,
            promote_after,
            bounds,
            watch,
            node,
        } => {
            let swap = versions::Swap {
                plugin,
                component,
                canary,
                promote_after,
                bounds,
                watch,
            };
            versions::swap(&node, &swap, json)
        }
        Command::Promote { plugin, node } => versions::change(&node, &plugin, "promote", json),
        Command::Rollback { plugin, node } => versions::change(&node, &plugin, "rollback", json),
    }
}
