//! Plugin versions on a running node: how long a swap takes, what it costs the requests of its second, what ten thousand
//! leave behind, and what five hundred plugins on one node take.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::load::{Load, Sample};
use super::registry::Registry;
use super::report::{Row, median};
use crate::cargo;
use crate::node::{self, Node};
use crate::process::{own_bytes, resident_bytes, root, said};

/// A swap of versions that were never compiled here: from the first byte of the component to the answer that it takes traffic; with
/// what an operator types, from a registry that it was pushed to; and so on a node that has compiled no version before (`-first`).
/// Beside them how long only compiling takes. Then the latencies of a second with a swap in it beside the second before, with half
/// the load that the node can bear, and with all of it.
pub fn swaps(binary: &Path, folder: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let bed = Bed::start(binary, &folder.join("swap"), 1, distinct_code)?;
    let registry = Registry::start(&bed.folder)?;
    let mut rows = Vec::new();
    for (system, component, distinct) in components()? {
        let (mut took, mut bare) = (Vec::new(), Vec::new());
        let (mut pushed, mut first) = (Vec::new(), Vec::new());
        let samples = if component.len() > LARGE { 3 } else { SWAPS };
        let bar = bar(samples, &format!("swap {system}"));
        for sample in 0..samples {
            let version = distinct(&component);
            bare.push(compile(binary, &bed.folder, &version)?);
            let began = Instant::now();
            bed.swap("p0", &version)?;
            took.push(began.elapsed().as_secs_f64() * 1e6);
            if let Some(registry) = &registry {
                let file = bed.folder.join("pushed.wasm");
                let swap = |bed: &Bed| {
                    fs::write(&file, distinct(&component))?;
                    let reference = registry.push(binary, &file, sample)?;
                    let began = Instant::now();
                    bed.swap_from(binary, "p0", &reference)?;
                    anyhow::Ok(began.elapsed().as_secs_f64() * 1e6)
                };
                pushed.push(swap(&bed)?);
                let fresh = Bed::start(binary, &folder.join("swap-first"), 1, distinct_code)?;
                first.push(swap(&fresh)?);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let all = [
            ("-bare", bare),
            ("", took),
            ("-pushed", pushed),
            ("-first", first),
        ];
        for (which, took) in all.into_iter().filter(|(_, took)| !took.is_empty()) {
            rows.push(Row {
                case: "swap".into(),
                system: format!("{system}{which}"),
                p50_us: Some(median(took.iter().copied())),
                p99_us: took.iter().copied().reduce(f64::max),
                ..Row::default()
            });
        }
    }
    let load = bed.load("swap", "quiet-second", "/s/p0");
    bed.swap("p0", &distinct_code(&guest()?))?; // JavaScript's, which was the last one, lets nobody through
    load.run(&bed.folder, 1, CONNECTIONS)?; // the first second warms up
    let half = load.half(&bed.folder, CONNECTIONS)?;
    let rounds = rounds.max(1);
    rows.extend(seconds(&bed, rounds * 20, "", || {
        load.run_paced(&bed.folder, 1, half)
    })?);
    let full = || load.run(&bed.folder, 1, CONNECTIONS);
    rows.extend(seconds(&bed, rounds * 2, "-full", full)?);
    Ok(rows)
}

/// Pairs of seconds, without a swap and with one.
fn seconds(
    bed: &Bed,
    pairs: u32,
    load: &str,
    second: impl Fn() -> anyhow::Result<Sample> + Sync,
) -> anyhow::Result<[Row; 2]> {
    let component = guest()?;
    let (mut quiet, mut swapping) = (Vec::new(), Vec::new());
    let bar = bar(u64::from(pairs), &format!("swap-second{load}"));
    for _ in 0..pairs {
        quiet.push(second()?);
        let sample = std::thread::scope(|scope| {
            let running = scope.spawn(&second);
            std::thread::sleep(Duration::from_millis(300)); // in the middle of the second
            let swapped = bed.swap("p0", &distinct_code(&component));
            let sample = running
                .join()
                .map_err(|_| anyhow::anyhow!("the load panicked"))?;
            swapped.and(sample)
        })?;
        swapping.push(sample);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok([
        latencies(&format!("quiet-second{load}"), &quiet),
        latencies(&format!("swap-second{load}"), &swapping),
    ])
}

/// How long a process of its own takes to compile a component, in microseconds.
fn compile(binary: &Path, folder: &Path, component: &[u8]) -> anyhow::Result<f64> {
    let file = folder.join("bare.wasm");
    fs::write(&file, component)?;
    let output = Command::new(binary)
        .arg("bench-compile")
        .arg(&file)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let printed: Value = serde_json::from_str(&text).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("`tidegate bench-compile` printed no JSON: {text}{said}")
    })?;
    let took = printed["compile_us"].as_f64();
    took.context("`tidegate bench-compile` printed no compile_us")
}

/// Memory after 500 and after `count` swaps, every tenth beside an edit of the configuration: without traffic, then with it.
pub fn leaks(binary: &Path, folder: &Path, count: u32) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for traffic in [false, true] {
        let bed = Bed::start(binary, &folder.join("swap-memory"), 1, distinct_code)?;
        let load = bed.load("swap-memory", "tidegate", "/s/p0");
        let half = load.half(&bed.folder, CONNECTIONS)?;
        let swapped = AtomicBool::new(false);
        let memory = std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                while traffic && !swapped.load(Ordering::Relaxed) {
                    load.run_paced(&bed.folder, 1, half)?;
                }
                anyhow::Ok(())
            });
            let memory = swap_many(&bed, count);
            swapped.store(true, Ordering::Relaxed);
            let served = running
                .join()
                .map_err(|_| anyhow::anyhow!("the load panicked"))?;
            served.and(memory)
        })?;
        let load = if traffic { "-under-load" } else { "" };
        rows.extend(memory.into_iter().map(|(swaps, bytes)| Row {
            case: "swap-memory".into(),
            system: format!("after-{swaps}{load}"),
            rss_bytes: Some(bytes as f64),
            ..Row::default()
        }));
    }
    Ok(rows)
}

/// Swaps `count` times; gives the resident memory after 500 and in the end: the least of the last 50 moments, since a version that is
/// being compiled takes some for a while.
fn swap_many(bed: &Bed, count: u32) -> anyhow::Result<Vec<(u32, u64)>> {
    let component = guest()?;
    let versions: Vec<Vec<u8>> = (0..4).map(|_| distinct_code(&component)).collect();
    let mut memory = Vec::new();
    let (early, mut least) = (500.min(count), u64::MAX);
    let bar = bar(u64::from(count), "swaps");
    for swap in 1..=count {
        bed.swap("p0", &versions[swap as usize % versions.len()])?;
        if swap % 10 == 0 {
            bed.edit(swap)?;
        }
        for end in [early, count] {
            if (end.saturating_sub(50)..end).contains(&(swap - 1)) {
                least = resident_bytes(bed.node.guard.id())?.min(least);
            }
        }
        if swap == early || swap == count {
            memory.push((swap, std::mem::replace(&mut least, u64::MAX)));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(memory)
}

/// The same load on a node with one plugin; on one with 500, over the route of one of them, and over all of their routes. Those
/// have no code in common, as plugins in compiled languages; beside them 500 that have all of it, as interpreted ones.
pub fn many(binary: &Path, folder: &Path, rounds: u32, seconds: u32) -> anyhow::Result<Vec<Row>> {
    let alone = Bed::start(binary, &folder.join("one-plugin"), 1, distinct_code)?;
    let bed = Bed::start(binary, &folder.join("many-plugins"), MANY, distinct_code)?;
    let same = Bed::start(binary, &folder.join("same-code"), MANY, distinct)?;
    // Both rotate, which costs the load's generator more than a fixed request.
    let rotating = |bed: &Bed, system, paths| Load {
        beside: None,
        rotate: Some(paths),
        ..bed.load("many-plugins", system, "/s/p")
    };
    let loads = [
        rotating(&alone, "1-of-1", 1),
        rotating(&bed, "1-of-500", 1),
        rotating(&bed, "500-of-500", MANY),
        rotating(&same, "500-same-code", MANY),
    ];
    for load in &loads[2..] {
        load.run(&bed.folder, seconds.max(2), CONNECTIONS)?; // makes the instances
    }
    let mut samples = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        for (load, samples) in loads.iter().zip(&mut samples) {
            samples.push(load.run(&bed.folder, seconds, CONNECTIONS)?);
        }
    }
    // Resident memory counts a page once for each plugin that has it in common.
    let (own, shared) = (
        resident_bytes(bed.node.guard.id())?,
        own_bytes(same.node.guard.id())?,
    );
    let memory = [("500-plugins", own), ("500-plugins-same-code", shared)];
    let memory = memory.map(|(system, bytes)| Row {
        case: "many-plugins".into(),
        system: system.into(),
        rss_bytes: Some(bytes as f64),
        ..Row::default()
    });
    let figures = |system: &str, samples: &[Sample]| Row {
        case: "many-plugins".into(),
        cpu_us_per_request: Some(median(samples.iter().map(|sample| sample.cpu_us))),
        ..latencies(system, samples)
    };
    let rows = loads.iter().zip(&samples);
    let rows = rows.map(|(load, samples)| figures(load.system, samples));
    Ok(rows.chain(memory).collect())
}

fn latencies(system: &str, samples: &[Sample]) -> Row {
    Row {
        case: "swap".into(),
        system: system.into(),
        requests_per_s: Some(median(samples.iter().map(|sample| sample.requests_per_s))),
        p50_us: Some(median(samples.iter().map(|sample| sample.p50_us))),
        p99_us: Some(median(samples.iter().map(|sample| sample.p99_us))),
        p999_us: Some(median(samples.iter().map(|sample| sample.p999_us))),
        ..Row::default()
    }
}

/// A node with plugins `p0`, `p1` …, each the authorizer of a route of its name.
struct Bed {
    folder: PathBuf,
    node: Node,
    admin: SocketAddr,
}

impl Bed {
    /// Each plugin is what `distinct` makes of the same component.
    fn start(
        binary: &Path,
        folder: &Path,
        plugins: u32,
        distinct: Distinct,
    ) -> anyhow::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?; // what an earlier run compiled would be found there
        }
        fs::create_dir_all(folder)?;
        let component = guest()?;
        let mut text = "[node]\nname = 'bench'\nthreads = 1\ndata = 'data'\nsuffix = 'localhost'\n\
                        [[listener]]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n[log]\nlevel = 'warn'\n\
                        [[api]]\nid = 'bench'\ndefinition = 'api.json'\n[api.stage.s]\n"
            .to_owned();
        for place in 0..plugins {
            fs::write(folder.join(format!("p{place}.wasm")), distinct(&component))?;
            text.push_str(&format!("[plugin.p{place}]\ncomponent = 'p{place}.wasm'\n"));
        }
        fs::write(folder.join("node.toml"), text)?;
        fs::write(folder.join("api.json"), definition(plugins, 0).to_string())?;
        let mut command = Command::new(binary);
        command
            .args(["serve", "--json"])
            .arg(folder.join("node.toml"))
            .current_dir(root());
        let node = node::start(&mut command, Duration::from_secs(600), |_| {})?;
        let admin = node.admin.context("the node has no admin address")?;
        Ok(Self {
            folder: folder.to_owned(),
            node,
            admin,
        })
    }

    fn load(&self, case: &'static str, system: &'static str, path: &str) -> Load {
        Load {
            case,
            system,
            url: format!("http://{}{path}", self.node.address),
            headers: vec!["Host: bench.execute-api.local.localhost".to_owned()],
            pid: self.node.guard.id(),
            beside: None,
            rotate: None,
            at_half: false,
        }
    }

    /// Puts a version in force, and waits until it is.
    fn swap(&self, plugin: &str, component: &[u8]) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.admin)?;
        let head = format!(
            "PUT /tidegate/v1/plugins/{plugin} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/wasm\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            component.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(component)?;
        let mut answer = BufReader::new(stream);
        let mut status = String::new();
        answer.read_line(&mut status)?;
        if !status.starts_with("HTTP/1.1 200 ") {
            let mut rest = String::new();
            answer.read_to_string(&mut rest)?;
            bail!("the node refused the swap: {status}{rest}");
        }
        Ok(())
    }

    /// Puts a version in force that is in a registry, as an operator does.
    fn swap_from(&self, binary: &Path, plugin: &str, reference: &str) -> anyhow::Result<()> {
        let admin = self.admin.to_string();
        let mut command = Command::new(binary);
        said(command.args(["plugin", "swap", plugin, reference, "--admin", &admin]))?;
        Ok(())
    }

    /// Edits the definition, so that the node deploys anew.
    fn edit(&self, count: u32) -> anyhow::Result<()> {
        let beside = self.folder.join("draft");
        fs::write(&beside, definition(1, count).to_string())?;
        fs::rename(beside, self.folder.join("api.json"))?;
        Ok(())
    }
}

/// `count` stands in the bindings' configuration, so that each is another one.
fn definition(plugins: u32, count: u32) -> Value {
    let mut paths = Map::new();
    for place in 0..plugins {
        let operation = json!({
            "responses": {"200": {"description": "ok"}},
            "x-amazon-apigateway-integration": {
                "type": "mock",
                "requestTemplates": {"application/json": "{\"statusCode\": 200}"},
                "responses": {"default": {"statusCode": "200", "responseTemplates": {"text/plain": "hello"}}}
            },
            "x-tidegate-bindings": [
                {"step": "authorizer", "plugin": format!("p{place}"), "configuration": {"count": count}}
            ],
        });
        paths.insert(format!("/p{place}"), json!({"get": operation}));
    }
    json!({"openapi": "3.0.3", "info": {"title": "bench", "version": "1"}, "paths": paths})
}

/// The plugins that are swapped in, with what makes another version of each: Rust's, whose code changes, and JavaScript's where a
/// test built it, whose code is the interpreter's.
fn components() -> anyhow::Result<Vec<(&'static str, Vec<u8>, Distinct)>> {
    let mut components: Vec<(_, _, Distinct)> = vec![("tidegate-rust", guest()?, distinct_code)];
    let javascript = root().join("target/guests-javascript/authorizer.wasm");
    match fs::read(&javascript) {
        Ok(component) => components.push(("tidegate-javascript", component, distinct)),
        Err(_) => eprintln!(
            "{} is missing, measuring no JavaScript plugin; to get it: cargo test -p tidegate-tests guests",
            javascript.display()
        ),
    }
    Ok(components)
}

fn guest() -> anyhow::Result<Vec<u8>> {
    Ok(fs::read(cargo::build_guest("five-headers")?)?)
}

/// Makes a version that no other one is the same as.
type Distinct = fn(&[u8]) -> Vec<u8>;

/// The component with a custom section of its own: it does the same, and has another hash.
///
/// Source: the component model's binary format; a custom section is 0, its length, its name's length, its name.
fn distinct(component: &[u8]) -> Vec<u8> {
    use std::sync::atomic::AtomicU64;
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let nonce = format!("{}-{serial}", std::process::id());
    let mut section = vec![1, b'n'];
    section.extend_from_slice(nonce.as_bytes());
    let mut bytes = component.to_vec();
    bytes.push(0);
    bytes.push(u8::try_from(section.len()).expect("a process id and a serial are short"));
    bytes.extend_from_slice(&section);
    bytes
}

/// The component with a number of its own in its code.
///
/// Source: the guest, which has [`NUMBER`] once, as an i64.const; the core specification's binary format for that (LEB128).
fn distinct_code(component: &[u8]) -> Vec<u8> {
    use std::sync::atomic::AtomicU32;
    static SERIAL: AtomicU32 = AtomicU32::new(1);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let (before, after) = (
        signed_leb128(NUMBER),
        signed_leb128(NUMBER ^ i64::from(serial)),
    );
    let mut places = component.windows(before.len());
    let place = places.position(|octets| octets == before);
    let place = place.expect("the guest has the number");
    let mut bytes = component.to_vec();
    bytes[place..place + after.len()].copy_from_slice(&after); // as long: they begin with the same bits
    bytes
}

fn signed_leb128(mut number: i64) -> Vec<u8> {
    let mut octets = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        // The sign is that of the last octet's highest bit.
        if number == i64::from(low & 0x40 != 0).wrapping_neg() {
            octets.push(low);
            return octets;
        }
        octets.push(low | 0x80);
    }
}

fn bar(steps: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    let style = "{spinner} {msg:32} {bar:30} {pos}/{len} · {eta} left";
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_message(what.to_owned());
    bar
}

const CONNECTIONS: u32 = 16;
const SWAPS: u64 = 20;
const MANY: u32 = 500;
/// What the guest has in its code.
const NUMBER: i64 = 0x5469_6465_6761_7465;
/// Interpreters are compiled for seconds.
const LARGE: usize = 1 << 20;
