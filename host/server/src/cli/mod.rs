//! The command line.

mod admin;
mod bench_compile;
mod bench_step;
mod cache;
mod check;
mod node;
mod plugin;
mod serve;
mod top;

pub use plugin::check_name;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser, Subcommand};

/// A self-hosted API gateway whose pipeline steps are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
struct Arguments {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or Ctrl-C; it reloads when its files change, or on SIGHUP.
    Serve {
        /// The node's configuration (TOML).
        file: PathBuf,
    },
    /// Say everything that is wrong with configurations (.toml) and API definitions (OpenAPI, .yaml or .json).
    Check {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Write, build, test and look at plugins; see and change which versions of them a running node serves.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// See what the cache of a running node holds, and purge it.
    #[command(subcommand)]
    Cache(cache::Command),
    /// Let other nodes join this one, and join another.
    #[command(subcommand)]
    Node(node::Command),
    /// Show what each plugin and function of a running node costs, live: calls, faults, CPU, memory, calls of the host.
    Top(top::Arguments),
    /// Print a completion script for a shell: `source <(tidegate completion bash)`.
    Completion {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
    /// Measure how long compiling a plugin takes, for the benchmark.
    #[command(hide = true)]
    BenchCompile {
        /// The component.
        component: PathBuf,
    },
    /// Measure single step calls, for the benchmark.
    #[command(hide = true)]
    BenchStep {
        /// An authorizer that looks up five headers.
        component: PathBuf,
        /// Warm calls only: an interpreter's fresh instances take minutes.
        #[arg(long)]
        warm: bool,
        /// Keep what is compiled there.
        #[arg(long)]
        artifacts: Option<PathBuf>,
    },
}

/// Runs the command that the arguments name. `began` is when the process did.
pub fn run(began: Instant) -> ExitCode {
    let Arguments { json, command } = Arguments::parse();
    let done = match command {
        Command::Serve { file } => serve::run(&file, json, began),
        Command::Check { files } => check::run(&files, json),
        Command::Plugin(command) => plugin::run(command, json),
        Command::Cache(command) => cache::run(command, json),
        Command::Node(command) => node::run(command, json),
        Command::Top(arguments) => top::run(&arguments, json),
        Command::Completion { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "tidegate",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::BenchCompile { component } => bench_compile::run(&component),
        Command::BenchStep {
            component,
            warm,
            artifacts,
        } => bench_step::run(&component, warm, artifacts),
    };
    done.unwrap_or_else(|error| {
        if json {
            println!("{}", serde_json::json!({ "error": format!("{error:#}") }));
        }
        eprintln!("tidegate: {error:#}");
        ExitCode::FAILURE
    })
}
