//! `cargo demo`: builds the sample, starts it, and prints lines to try that work as printed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cargo;
use crate::node::{self, Configuration, Node};
use crate::process::{find, root};

/// What the command line says.
#[derive(Debug, Default)]
pub struct Options {
    pub release: bool,
    pub port: Option<u16>,
    pub admin_port: Option<u16>,
    pub check: bool,
}

/// Builds and starts the sample; ends with the node.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    let file = root().join("configs/demo/node.toml");
    let configuration = Configuration::read(&file)?;
    let file = if options.check {
        file_on_free_ports(&configuration)?
    } else {
        file_to_serve(&configuration, file, &options)?
    };

    cargo::ensure_wasm_target()?;
    cargo::build_function("tidegate-demo-items", "items")?;
    let binary = match options.check {
        true => cargo::build_workspace()?,
        false => cargo::build_node(options.release)?,
    };

    // The terminal's Ctrl-C reaches the node as well, which drains; we stay to see it end.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut command = Command::new(binary);
    command
        .args(["serve", "--json"])
        .arg(&file)
        .current_dir(root());
    let node = node::start(&mut command, Duration::from_secs(60), |line| {
        println!("{line}")
    })?;
    let attempts = attempts(&configuration, node.address)?;
    if options.check {
        return check(node, &attempts);
    }
    print_welcome(&configuration, &node, &attempts);
    watch(node, &stop)
}

/// A line to try, and the status that it promises.
pub struct Attempt {
    pub says: &'static str,
    pub line: String,
    pub status: u16,
}

/// The lines to try against the demo at `address`.
pub fn attempts(
    configuration: &Configuration,
    address: SocketAddr,
) -> anyhow::Result<Vec<Attempt>> {
    let api = configuration
        .text(&["api", "0", "id"])
        .context("the demo has no [[api]]")?;
    let key = configuration
        .text(&["key", "0", "value"])
        .context("the demo has no [[key]]")?;
    let items = format!("http://{address}/_aws/execute-api/{api}/dev/items");
    let with_key = format!("-H 'x-api-key: {key}'");
    let attempt = |says, line, status| Attempt { says, line, status };
    Ok(vec![
        attempt(
            "put an item in",
            format!(
                "curl -i -X PUT {items}/lamp {with_key} -H 'content-type: application/json' -d '{}'",
                r#"{"name":"Lamp","price":19.5}"#
            ),
            201,
        ),
        attempt("list the items", format!("curl -i {items} {with_key}"), 200),
        attempt(
            "get that one",
            format!("curl -i {items}/lamp {with_key}"),
            200,
        ),
        attempt("be refused: no API key", format!("curl -i {items}"), 403),
    ])
}

/// Runs each line through a shell and compares the status that it promises.
fn check(node: Node, attempts: &[Attempt]) -> anyhow::Result<ExitCode> {
    if find("curl").is_none() {
        bail!("curl is not there to try the lines with; your distribution has it as `curl`");
    }
    let mut wrong = Vec::new();
    for attempt in attempts {
        let line = format!(
            "{} --silent --output /dev/null --write-out '%{{http_code}}' --max-time 30",
            attempt.line
        );
        let output = Command::new("sh").args(["-c", &line]).output()?;
        let status = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!("{status} {}", attempt.line);
        if status != attempt.status.to_string() {
            wrong.push(format!(
                "{} gave {status}, not {}",
                attempt.line, attempt.status
            ));
        }
    }
    node.guard.stop(Duration::from_secs(35))?;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_welcome(configuration: &Configuration, node: &Node, attempts: &[Attempt]) {
    let text =
        |path: &[&str], default: &str| configuration.text(path).unwrap_or(default).to_owned();
    let (region, suffix) = (
        text(&["node", "region"], "local"),
        text(&["node", "suffix"], "localhost"),
    );
    let api = text(&["api", "0", "id"], "items");
    println!("\nTidegate is ready ({} ms).\n", node.start.as_millis());
    println!(
        "  dev      http://{api}.execute-api.{region}.{suffix}:{}/dev/items",
        node.address.port()
    );
    println!(
        "  prod     http://{api}.execute-api.{region}.{suffix}:{}/prod/items",
        node.address.port()
    );
    if let Some(admin) = node.admin {
        println!("  metrics  http://{admin}/metrics");
    }
    println!("\nTry, in another terminal:\n");
    for attempt in attempts {
        println!("  # {}\n  {}\n", attempt.says, attempt.line);
    }
    println!(
        "Edit configs/demo/items.openapi.yaml while it runs: the next request sees it. Ctrl-C drains and ends.\n"
    );
}

/// Waits for the node's end, or for a signal, which is passed on.
fn watch(mut node: Node, stop: &AtomicBool) -> anyhow::Result<ExitCode> {
    loop {
        if let Some(status) = node.guard.child().try_wait()? {
            bail!("the node ended by itself with {status}; its messages are above");
        }
        if stop.load(Ordering::Relaxed) {
            eprintln!("\ndraining …");
            node.guard.stop(Duration::from_secs(35))?;
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The demo's own file, or a copy of it on the ports that were asked for.
fn file_to_serve(
    configuration: &Configuration,
    file: PathBuf,
    options: &Options,
) -> anyhow::Result<PathBuf> {
    let (mut listener, mut admin) = configuration.addresses()?;
    let moved = options.port.is_some() || options.admin_port.is_some();
    listener.set_port(options.port.unwrap_or(listener.port()));
    admin.set_port(options.admin_port.unwrap_or(admin.port()));
    node::ensure_free(listener, "--port")?;
    node::ensure_free(admin, "--admin-port")?;
    if !moved {
        return Ok(file);
    }
    configuration.moved(&root().join("target/demo/node.toml"), listener, admin, None)
}

/// A copy on free ports with an empty data directory of its own.
fn file_on_free_ports(configuration: &Configuration) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/demo-check");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let (listener, admin) = node::free_addresses()?;
    configuration.moved(
        &folder.join("node.toml"),
        listener,
        admin,
        Some(&folder.join("data")),
    )
}
