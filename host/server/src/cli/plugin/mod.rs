//! `tidegate plugin`: an author's loop, from an empty folder to a component that was tried.
//!
//! A plugin is a folder with a `plugin.toml` ([`manifest`]) and the language's own files. `new` writes one, `build` makes the
//! component ([`build`]), `test` runs the folder's cases in the sandbox that the node runs plugins in ([`test`]), `check`
//! and `inspect` say what a component is. The contract and the guest libraries are in the binary ([`embedded`]), so all of
//! it works outside the repository and without a network, but for what a language's own package manager fetches. `push` and
//! `pull` speak to registries ([`push`]), `list`, `swap`, `promote` and `rollback` to a running node ([`versions`]), as do
//! `deploy`, `logs` and `dev`.

mod build;
mod check;
mod component;
mod credentials;
mod deploy;
mod dev;
mod embedded;
mod encode;
mod inspect;
mod language;
mod lines;
mod logs;
mod manifest;
mod new;
mod push;
mod record;
mod registry;
mod saved;
mod sign;
mod source;
mod test;
mod tool;
mod versions;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;

use super::admin::Node;
use credentials::Credentials;
use language::Language;
pub use manifest::check_name;
pub use source::Artifact;

/// What can be done with plugins.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new plugin into the folder NAME.
    New {
        /// What it is written in.
        #[arg(long, value_name = "L")]
        lang: Language,
        /// What it is asked at; a `function` is a wasi:http component.
        #[arg(long, value_name = "S", value_parser = PossibleValuesParser::new(new::steps()))]
        step: String,
        /// Lower case letters, digits and dashes.
        name: String,
    },
    /// Make the component: build/NAME.wasm.
    Build {
        /// The plugin's folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Build the plugin and run its cases (cases/*.toml) in the node's own sandbox.
    Test {
        /// The plugin's folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Run a component that is built already.
        #[arg(long, value_name = "FILE")]
        component: Option<PathBuf>,
        /// Where compiled components are kept; build/cache in the folder unless given.
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
    },
    /// Build the plugin on every save and put it into a running node; print what it says there.
    Dev {
        /// The plugin's folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Its name on the node; the one in plugin.toml unless given.
        #[arg(long = "name", value_name = "NAME")]
        plugin: Option<String>,
        #[command(flatten)]
        node: Node,
    },
    /// Say whether a node could load a component, and what is wrong where it could not.
    Check {
        /// The component.
        component: PathBuf,
        /// Where compiled components are kept; the folder `cache` beside the component, if there is one, unless given.
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
    },
    /// Say what a component is: steps, imports, the grants that it needs, size, its configuration's schema.
    Inspect {
        /// The component.
        component: PathBuf,
        /// Where compiled components are kept; the folder `cache` beside the component, if there is one, unless given.
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
    },
    /// Put a component into an OCI registry, and print its digest.
    Push {
        /// Where: HOST/NAME:TAG, with or without oci:// before it.
        reference: String,
        /// The component, or a plugin's folder.
        #[arg(default_value = ".")]
        from: PathBuf,
        #[command(flatten)]
        credentials: Credentials,
    },
    /// Get a component from an OCI registry.
    Pull {
        /// Which: HOST/NAME:TAG or HOST/NAME@DIGEST, with or without oci:// before it.
        reference: String,
        /// Where to put it; NAME.wasm in this folder unless given.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        credentials: Credentials,
    },
    /// Make a key that signs plugins, NAME.key, and the one by which nodes verify them, NAME.pub.
    Keygen {
        /// The files' name, without an ending.
        name: PathBuf,
    },
    /// Sign a component: the signature goes beside it, into FILE.sig, and with it where it is pushed or swapped in.
    Sign {
        /// The component, or a plugin's folder.
        #[arg(default_value = ".")]
        from: PathBuf,
        /// The private key: NAME.key of `keygen`, or any Ed25519 key in PEM (PKCS #8).
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Say whether a component is what somebody has signed.
    Verify {
        /// The component: a file, a plugin's folder, or oci://HOST/NAME:TAG.
        from: String,
        /// Their public key: NAME.pub, or its one line. Several may be given: one of them has to have signed.
        #[arg(long = "key", value_name = "KEY", required = true)]
        keys: Vec<String>,
        #[command(flatten)]
        credentials: Credentials,
    },
    /// List the plugins of a running node and their versions.
    List {
        #[command(flatten)]
        node: Node,
    },
    /// Put another version of a plugin in force on a running node, for all requests or for some of them.
    Swap {
        /// The plugin's name on the node.
        plugin: String,
        /// The component: a file, a plugin's folder, or oci://HOST/NAME:TAG.
        component: String,
        /// Only for some requests: a share ("10%") or a header ("x-canary: yes"). It is rolled back by itself where its
        /// faults, its 5xx responses or its latency exceed the old version's. At an origin, edges split their requests as it
        /// does, and what they see counts.
        #[arg(long, value_name = "SPLIT")]
        canary: Option<String>,
        /// Promote the canary after this time ("60s") and its --min-requests, where it was not rolled back.
        #[arg(long = "for", value_name = "TIME", requires = "canary")]
        promote_after: Option<String>,
        #[command(flatten)]
        bounds: versions::BoundArguments,
        /// Show both versions' figures until the canary ends.
        #[arg(long, requires = "canary")]
        watch: bool,
        #[command(flatten)]
        credentials: Credentials,
        #[command(flatten)]
        node: Node,
    },
    /// Put a new plugin, or a new version of one, in force on a running node, and wait until it takes traffic.
    Deploy {
        /// The component: a file, a plugin's folder (what was built there), or oci://HOST/NAME:TAG.
        #[arg(default_value = ".")]
        from: String,
        /// Its name on the node; the one in plugin.toml or in the registry, or the file's, unless given.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        credentials: Credentials,
        #[command(flatten)]
        node: Node,
    },
    /// Show what plugins and functions of a running node logged, printed and failed of.
    Logs {
        /// Only this one's, by its name on the node.
        plugin: Option<String>,
        /// Go on as more comes.
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        node: Node,
    },
    /// Write down requests that pass a plugin of a running node, as cases that `test` runs.
    Record {
        #[command(flatten)]
        recording: record::Recording,
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
        /// Only end its canary: refused where that has ended by itself, rather than going back.
        #[arg(long)]
        canary: bool,
        #[command(flatten)]
        node: Node,
    },
}

/// Runs a command.
///
/// # Errors
/// What the author has to mend, or what the node says.
pub fn run(command: Command, json: bool) -> Result<ExitCode> {
    match command {
        Command::New { lang, step, name } => new::run(lang, &step, &name),
        Command::Build { folder } => build::run(&folder, json),
        Command::Test {
            folder,
            component,
            cache,
        } => test::run(&folder, component.as_deref(), cache.as_deref(), json),
        Command::Check { component, cache } => check::run(&component, cache, json),
        Command::Inspect { component, cache } => inspect::run(&component, cache, json),
        Command::Push {
            reference,
            from,
            credentials,
        } => push::push(&reference, &from, &credentials, json),
        Command::Pull {
            reference,
            output,
            credentials,
        } => push::pull(&reference, output, &credentials, json),
        Command::Keygen { name } => sign::keygen(&name, json),
        Command::Sign { from, key } => sign::sign(&from, &key, json),
        Command::Verify {
            from,
            keys,
            credentials,
        } => sign::verify(&from, &keys, &credentials, json),
        Command::List { node } => versions::list(&node, json),
        Command::Swap {
            plugin,
            component,
            canary,
            promote_after,
            bounds,
            watch,
            credentials,
            node,
        } => {
            let swap = versions::Swap {
                plugin,
                component,
                canary,
                promote_after,
                bounds,
                watch,
                credentials,
            };
            versions::swap(&node, &swap, json)
        }
        Command::Dev {
            folder,
            plugin,
            node,
        } => dev::run(&folder, plugin, &node, json),
        Command::Deploy {
            from,
            name,
            credentials,
            node,
        } => deploy::run(&from, name, &credentials, &node, json),
        Command::Logs {
            plugin,
            follow,
            node,
        } => logs::run(&node, plugin.as_deref(), follow, json),
        Command::Record { recording, node } => record::run(&node, &recording, json),
        Command::Promote { plugin, node } => versions::change(&node, &plugin, "promote", json),
        Command::Rollback {
            plugin,
            canary,
            node,
        } => {
            let what = if canary {
                "rollback?canary=only"
            } else {
                "rollback"
            };
            versions::change(&node, &plugin, what, json)
        }
    }
}
