//! `cargo bench-gateway`: the node beside nginx under the same load, one core each, in interleaved rounds.
//!
//! The server under test has core 0; the load generator and the upstream share core 1. The figure to trust is CPU time per
//! request of the process under test: it moves far less with what else the machine does than requests per second.

mod link;
mod load;
mod million;
mod registry;
mod report;
mod steps;
mod swap;
mod systems;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cargo;
use crate::node::{self, Configuration};
use crate::process::{self, find, root};
use load::{Load, Sample};
use report::Row;
use steps::Step;
use systems::Bed;

pub use systems::serve_upstream;

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    pub rounds: u32,
    /// Of load in one round.
    pub seconds: u32,
    pub connections: u32,
    /// Of the case `swap-memory`.
    pub swaps: u32,
    /// Leave out what takes minutes, unless it is named.
    pub quick: bool,
    /// Only the cases of these names; all where empty.
    pub only: Vec<String>,
    /// A node built before, instead of today's in the release profile.
    pub binary: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 5,
            seconds: 5,
            connections: 64,
            swaps: 10_000,
            quick: false,
            only: Vec::new(),
            binary: None,
        }
    }
}

impl Options {
    fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == case)
    }
}

/// Measures every case, prints the table and writes `target/bench-gateway.json`.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    for (tool, package) in [("nginx", "nginx"), ("taskset", "util-linux")] {
        if find(tool).is_none() {
            eprintln!(
                "{tool} is missing, measuring without it; to get it: apt-get install {package}"
            );
        }
    }
    if find("wrk").is_none() {
        bail!("wrk, the load generator, is missing; to get it: apt-get install wrk");
    }
    cargo::ensure_wasm_target()?;
    cargo::build_function("tidegate-demo-items", "items")?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => cargo::build_node(true)?,
    };
    let folder = root().join("target/bench");
    fs::create_dir_all(&folder)?;

    let mut rows = Vec::new();
    if [
        "bare",
        "pipeline",
        "function",
        "cache-hit",
        "cache-hit-latency",
        "link-miss",
    ]
    .into_iter()
    .chain(steps::cases())
    .any(|case| options.wants(case))
    {
        let mut bed = Bed::start(&binary, &folder)?;
        let region = match options.wants("link-miss") {
            true => Some(link::Region::start(&binary, &folder, bed.upstream)?),
            false => None,
        };
        bed.loads.extend(region.iter().map(link::Region::load));
        let steps = steps::build(&binary, &folder, |case| options.wants(case))?;
        let (measured, costs) = measure_rounds(&bed, &binary, &steps, options)?;
        rows.extend(report::rows(&measured, NGINX));
        let nginx = measured.get(NGINX).map(Vec::as_slice);
        rows.extend(report::steps(&costs, nginx));
    }
    if options.wants("idle-rss") || options.wants("start") {
        rows.extend(
            measure_idle(&binary, options.rounds)?
                .into_iter()
                .filter(|row| options.wants(&row.case)),
        );
    }
    if options.wants("swap") {
        rows.extend(swap::swaps(&binary, &folder, options.rounds)?);
    }
    if options.wants("swap-memory") {
        rows.extend(swap::leaks(&binary, &folder, options.swaps)?);
    }
    if options.wants("many-plugins") {
        rows.extend(swap::many(
            &binary,
            &folder,
            options.rounds,
            options.seconds,
        )?);
    }
    if options.wants("cache-million") && !(options.quick && options.only.is_empty()) {
        rows.push(million::run(&binary, &folder)?);
    }
    let file = root().join("target/bench-gateway.json");
    fs::write(&file, report::json(&rows))?;
    let (table, verdicts) = (report::table(&rows), report::verdicts(&rows));
    println!("{table}{verdicts}\nwritten to {}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// The run that every ratio is against.
const NGINX: &(&str, &str) = &("bare", "nginx");

type Measured = BTreeMap<(&'static str, &'static str), Vec<Sample>>;
/// By case: microseconds of CPU time for a call, in each round.
type StepCosts = BTreeMap<&'static str, Vec<f64>>;

/// Runs the load against every system in turn, and makes the step calls, round by round, so that a slow minute of the machine hits
/// all alike.
fn measure_rounds(
    bed: &Bed,
    binary: &Path,
    steps: &[Step],
    options: &Options,
) -> anyhow::Result<(Measured, StepCosts)> {
    let wanted = |load: &&Load| options.wants(load.case) || (load.case, load.system) == *NGINX;
    let loads: Vec<&Load> = bed.loads.iter().filter(wanted).collect();
    let bar = ProgressBar::new(u64::from(options.rounds) * (loads.len() + steps.len()) as u64);
    let style = "{spinner} {msg:32} {bar:30} {pos}/{len} · {eta} left";
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(120));
    for load in &loads {
        bar.set_message(format!("warming {} {}", load.case, load.system));
        load.run(&bed.folder, 1, options.connections)?;
    }
    let artifacts = bed.folder.join("artifacts");
    let (mut measured, mut costs) = (Measured::new(), StepCosts::new());
    for round in 1..=options.rounds {
        for load in &loads {
            bar.set_message(format!("round {round}: {} {}", load.case, load.system));
            let sample = load.run(&bed.folder, options.seconds, options.connections)?;
            if bar.is_hidden() {
                eprintln!(
                    "round {round}: {:17} {:16} {:8.0}/s {:6.1} µs",
                    load.case, load.system, sample.requests_per_s, sample.cpu_us
                );
            }
            measured
                .entry((load.case, load.system))
                .or_default()
                .push(sample);
            bar.inc(1);
        }
        for step in steps {
            bar.set_message(format!("round {round}: {}", step.name()));
            for (case, cost) in step.measure(binary, &artifacts)? {
                if bar.is_hidden() {
                    eprintln!("round {round}: {case:17} {cost:8.3} µs");
                }
                costs.entry(case).or_default().push(cost);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok((measured, costs))
}

/// The node with the demo: its memory when nothing happens, and its start with everything compiled before.
fn measure_idle(binary: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let configuration = Configuration::read(&root().join("configs/demo/node.toml"))?;
    let folder = root().join("target/bench/demo");
    let mut starts = Vec::new();
    let mut resident = Vec::new();
    // One more: the first start compiles, and is not counted.
    for round in 0..=rounds {
        let (listener, admin) = node::free_addresses()?;
        let file = configuration.moved(
            &folder.join("node.toml"),
            listener,
            admin,
            Some(&folder.join("data")),
        )?;
        let mut command = Command::new(binary);
        command
            .args(["serve", "--json"])
            .arg(&file)
            .current_dir(root());
        let node = node::start(&mut command, Duration::from_secs(120), |_| {})?;
        if round > 0 {
            starts.push(node.start.as_micros() as f64);
            // What a start leaves behind is given back within the first second or not at all.
            std::thread::sleep(Duration::from_secs(1));
            resident.push(process::resident_bytes(node.guard.id())? as f64);
        }
        node.guard
            .stop(Duration::from_secs(35))
            .context("after measuring the start")?;
    }
    Ok(vec![report::idle(&resident), report::start(&starts)])
}
