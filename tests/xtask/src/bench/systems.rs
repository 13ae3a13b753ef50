//! What is measured: the upstream, nginx, the node and `wasmtime serve`, each started on its core.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use super::load::Load;
use crate::cargo;
use crate::node::{self, Node};
use crate::process::{Guard, children, find};

/// Everything that runs while the loads are measured.
pub struct Bed {
    pub folder: PathBuf,
    pub loads: Vec<Load>,
    /// What all proxies ask.
    pub upstream: SocketAddr,
    _node: Node,
    _others: Vec<Guard>,
}

impl Bed {
    /// Starts the upstream and every server there is.
    pub fn start(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut others = Vec::new();
        let mut loads = Vec::new();
        let nginx = find("nginx");
        let upstream = match &nginx {
            Some(nginx) => start_nginx_upstream(nginx, folder, &mut others)?,
            None => start_own_upstream(&mut others)?,
        };
        if let Some(nginx) = &nginx {
            let (address, worker) = start_nginx_proxy(nginx, folder, upstream, &mut others)?;
            loads.push(Load {
                case: "bare",
                system: "nginx",
                url: format!("http://{address}/"),
                headers: Vec::new(),
                pid: worker,
                beside: None,
                rotate: None,
                at_half: false,
            });
        }
        if let Some(nginx) = &nginx {
            let (address, worker) = start_nginx_cache(nginx, folder, upstream, &mut others)?;
            loads.extend(cache_loads("nginx", address, worker));
        }
        match find("varnishd") {
            Some(varnish) => {
                let (address, worker) = start_varnish(&varnish, folder, upstream, &mut others)?;
                loads.extend(cache_loads("varnish", address, worker));
            }
            None => eprintln!(
                "varnish is missing, measuring without it; to get it: apt-get install varnish"
            ),
        }
        let hello = cargo::build_function("tidegate-bench-hello", "bench-hello")?;
        let node = start_node(binary, folder, upstream, &hello)?;
        loads.extend(node_loads(&node));
        match find("wasmtime") {
            Some(wasmtime) => loads.push(start_wasmtime(&wasmtime, &hello, &mut others)?),
            None => eprintln!(
                "wasmtime is missing, measuring without `wasmtime serve`; to get it: cargo install --locked wasmtime-cli"
            ),
        }
        Ok(Self {
            folder: folder.into(),
            loads,
            upstream,
            _node: node,
            _others: others,
        })
    }
}

/// A command bound to one core, where taskset is there to bind it.
pub fn pinned(core: u32, program: &Path) -> Command {
    let Some(taskset) = find("taskset") else {
        return Command::new(program);
    };
    let mut command = Command::new(taskset);
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// Answers every request on a free port with 1 KiB: the upstream of machines without nginx. Prints its port; ends with the
/// process.
pub fn serve_upstream() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    for connection in listener.incoming() {
        let connection = connection?;
        std::thread::spawn(move || answer(connection));
    }
    Ok(())
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{}",
        BODY_BYTES,
        "x".repeat(BODY_BYTES)
    );
    let mut buffer = [0; 8192];
    let mut held = 0;
    loop {
        let read = connection.read(&mut buffer[held..])?;
        if read == 0 {
            return Ok(());
        }
        held += read;
        // The load is GET requests without bodies: a request ends with its header section.
        while let Some(end) = buffer[..held]
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
        {
            buffer.copy_within(end + 4..held, 0);
            held -= end + 4;
            connection.write_all(reply.as_bytes())?;
        }
        if held == buffer.len() {
            return Ok(());
        }
    }
}

const BODY_BYTES: usize = 1024;

pub(super) fn start_own_upstream(others: &mut Vec<Guard>) -> anyhow::Result<SocketAddr> {
    let mut command = pinned(1, &std::env::current_exe()?);
    let mut guard = Guard::spawn(
        "the upstream",
        command.arg("upstream").stdout(Stdio::piped()),
    )?;
    let output = guard.child().stdout.take().context("no standard output")?;
    let mut port = String::new();
    BufReader::new(output).read_line(&mut port)?;
    others.push(guard);
    Ok(SocketAddr::from((
        [127, 0, 0, 1],
        port.trim().parse().context("the upstream gave no port")?,
    )))
}

pub(super) fn start_nginx_upstream(
    nginx: &Path,
    folder: &Path,
    others: &mut Vec<Guard>,
) -> anyhow::Result<SocketAddr> {
    let server = format!(
        "default_type text/plain; location / {{ return 200 '{}'; }}",
        "x".repeat(BODY_BYTES)
    );
    let (address, guard) = start_nginx(nginx, &folder.join("nginx-upstream"), 1, "", &server)?;
    others.push(guard);
    Ok(address)
}

/// nginx as a plain proxy; gives its address and the worker's id.
fn start_nginx_proxy(
    nginx: &Path,
    folder: &Path,
    upstream: SocketAddr,
    others: &mut Vec<Guard>,
) -> anyhow::Result<(SocketAddr, u32)> {
    let backend = format!(
        "upstream backend {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}"
    );
    let server = "location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ''; }";
    let (address, guard) = start_nginx(nginx, &folder.join("nginx-proxy"), 0, &backend, server)?;
    let worker = *children(guard.id())?
        .first()
        .context("nginx has no worker")?;
    others.push(guard);
    Ok((address, worker))
}

/// nginx as a cache; gives its address and the worker's id.
fn start_nginx_cache(
    nginx: &Path,
    folder: &Path,
    upstream: SocketAddr,
    others: &mut Vec<Guard>,
) -> anyhow::Result<(SocketAddr, u32)> {
    let http = format!(
        "upstream backend {{ server {upstream}; keepalive 128; }}\n\
         proxy_cache_path cached keys_zone=cached:16m max_size=256m use_temp_path=off;"
    );
    let server = "location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ''; \
                  proxy_cache cached; proxy_cache_valid 200 1h; proxy_cache_lock on; }";
    let (address, guard) = start_nginx(nginx, &folder.join("nginx-cache"), 0, &http, server)?;
    // The process that minds the cache's size comes after the worker.
    let worker = *children(guard.id())?
        .first()
        .context("nginx has no worker")?;
    others.push(guard);
    Ok((address, worker))
}

/// Varnish with the same memory; gives its address and the id of the process that serves.
fn start_varnish(
    varnish: &Path,
    folder: &Path,
    upstream: SocketAddr,
    others: &mut Vec<Guard>,
) -> anyhow::Result<(SocketAddr, u32)> {
    let (address, _) = node::free_addresses()?;
    let mut command = pinned(0, varnish);
    command
        .arg("-F")
        .args(["-a", &address.to_string()])
        .args(["-b", &upstream.to_string()])
        .args(["-s", "malloc,256m", "-t", "3600"])
        .arg("-n")
        .arg(folder.join("varnish"));
    let mut guard = Guard::spawn("varnish", command.stderr(Stdio::null()))?;
    await_port(address, &mut guard)?;
    let worker = *children(guard.id())?
        .first()
        .context("varnish has no worker")?;
    others.push(guard);
    Ok((address, worker))
}

/// As many hits as there can be, and half as many.
fn cache_loads(system: &'static str, address: SocketAddr, pid: u32) -> [Load; 2] {
    [("cache-hit", false), ("cache-hit-latency", true)].map(|(case, at_half)| Load {
        case,
        system,
        url: format!("http://{address}/"),
        headers: Vec::new(),
        pid,
        beside: None,
        rotate: None,
        at_half,
    })
}

/// Starts nginx with one worker on a free port, and waits until it accepts.
fn start_nginx(
    nginx: &Path,
    folder: &Path,
    core: u32,
    http: &str,
    server: &str,
) -> anyhow::Result<(SocketAddr, Guard)> {
    fs::create_dir_all(folder)?;
    let (address, _) = node::free_addresses()?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {kind};"))
        .collect();
    let text = format!(
        "worker_processes 1; daemon off; pid nginx.pid; error_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 100000000; {temporary}\n{http}\n\
         server {{ listen {address}; {server} }} }}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = pinned(core, nginx);
    command
        .arg("-p")
        .arg(folder)
        .arg("-e")
        .arg("stderr")
        .arg("-c")
        .arg(&file);
    let mut guard = Guard::spawn("nginx", &mut command)?;
    await_port(address, &mut guard)?;
    Ok((address, guard))
}

fn start_wasmtime(wasmtime: &Path, hello: &Path, others: &mut Vec<Guard>) -> anyhow::Result<Load> {
    let (address, _) = node::free_addresses()?;
    let mut command = pinned(0, wasmtime);
    command
        .args([
            "serve",
            "-S",
            "cli",
            "-O",
            "pooling-allocator=y",
            "--addr",
            &address.to_string(),
        ])
        .arg(hello);
    let mut guard = Guard::spawn("wasmtime serve", command.stderr(Stdio::null()))?;
    await_port(address, &mut guard)?;
    let pid = guard.id();
    others.push(guard);
    Ok(Load {
        case: "function",
        system: "wasmtime-serve",
        url: format!("http://{address}/"),
        headers: Vec::new(),
        pid,
        beside: None,
        rotate: None,
        at_half: false,
    })
}

/// Waits until a server takes connections.
pub fn await_port(address: SocketAddr, guard: &mut Guard) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).is_err() {
        if let Some(status) = guard.child().try_wait()? {
            bail!("the server for {address} ended with {status}");
        }
        if Instant::now() > until {
            bail!("nothing listens on {address}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The node with one API that has a route for each case.
fn start_node(
    binary: &Path,
    folder: &Path,
    upstream: SocketAddr,
    hello: &Path,
) -> anyhow::Result<Node> {
    let definition = folder.join("bench.openapi.json");
    fs::write(&definition, serde_json::to_string_pretty(&api())?)?;
    let file = folder.join("node.toml");
    let text = format!(
        "[node]\nname = 'bench'\nregion = 'local'\nsuffix = 'localhost'\nthreads = 1\ndata = 'data'\n\
         [[listener]]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n[log]\nlevel = 'warn'\n\
         [upstream.backend]\ntargets = ['http://{upstream}']\n\
         [function.reuse]\ncomponent = '{hello}'\n\
         [function.request]\ncomponent = '{hello}'\nisolation = 'request'\n\
         [[api]]\nid = 'bench'\ndefinition = 'bench.openapi.json'\n[api.stage.s]\n\
         [api.stage.s.route.'GET /cached']\ncache = {{ ttl = '3600s' }}\n\
         [[key]]\nname = 'bench'\nvalue = '{KEY}'\nstages = ['bench/s']\n",
        hello = hello.display()
    );
    fs::write(&file, text)?;
    let mut command = pinned(0, binary);
    node::start(
        command.args(["serve", "--json"]).arg(&file),
        Duration::from_secs(120),
        |_| {},
    )
}

fn api() -> serde_json::Value {
    let operation = |integration: serde_json::Value, bindings: serde_json::Value| {
        json!({"get": {
            "responses": {"200": {"description": "ok"}},
            "x-amazon-apigateway-integration": integration,
            "x-tidegate-bindings": bindings,
        }})
    };
    let proxy = json!({"type": "http_proxy", "httpMethod": "GET", "uri": "http://backend/"});
    let function = |name: &str| json!([{"step": "integration", "plugin": "function", "configuration": {"function": name}}]);
    let steps = json!([
        {"step": "authorizer", "plugin": "api-key", "configuration": {}, "grants": {"api-keys": true}},
        {"step": "throttle", "plugin": "token-bucket", "grants": {"rate-limit": true},
         "configuration": {"bucket": "route", "rate": 1e6, "burst": 1_000_000}},
        {"step": "request-transform", "plugin": "header-transform", "configuration":
            {"request": {"headers": {"set": {"x-stage": "${context.stage}", "x-request": "${context.requestId}"}, "remove": ["x-api-key"]}}}},
        {"step": "response-transform", "plugin": "header-transform", "configuration":
            {"response": {"headers": {"set": {"x-served-by": "tidegate"}, "remove": ["server"]}}}},
    ]);
    // What stands before a hit: a caller that is known, and a throttle.
    let gatekeeping = json!([
        {"step": "authorizer", "plugin": "api-key", "configuration": {}, "grants": {"api-keys": true}},
        {"step": "throttle", "plugin": "token-bucket", "grants": {"rate-limit": true},
         "configuration": {"bucket": "cached", "rate": 1e6, "burst": 1_000_000}},
    ]);
    let mut document = json!({
        "openapi": "3.0.3",
        "info": {"title": "bench", "version": "1"},
        "paths": {
            "/bare": operation(proxy.clone(), json!([])),
            "/pipeline": operation(proxy.clone(), steps),
            "/cached": operation(proxy, gatekeeping),
            "/reuse": operation(json!(null), function("reuse")),
            "/request": operation(json!(null), function("request")),
        },
    });
    for path in ["/reuse", "/request"] {
        if let Some(operation) = document["paths"][path]["get"].as_object_mut() {
            operation.remove("x-amazon-apigateway-integration");
        }
    }
    document
}

fn node_loads(node: &Node) -> Vec<Load> {
    let load = |case, system, path: &str, key: bool| {
        let mut headers = vec!["Host: bench.execute-api.local.localhost".to_owned()];
        headers.extend(key.then(|| format!("x-api-key: {KEY}")));
        Load {
            case,
            system,
            url: format!("http://{}/s/{path}", node.address),
            headers,
            pid: node.guard.id(),
            beside: None,
            rotate: None,
            at_half: false,
        }
    };
    vec![
        load("bare", "tidegate", "bare", false),
        load("pipeline", "tidegate", "pipeline", true),
        load("cache-hit", "tidegate", "cached", true),
        Load {
            at_half: true,
            ..load("cache-hit-latency", "tidegate", "cached", true)
        },
        load("function", "tidegate-reuse", "reuse", false),
        load("function", "tidegate-request", "request", false),
    ]
}

const KEY: &str = "a-key-only-for-the-benchmark";
