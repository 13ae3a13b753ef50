//! A million responses of 1 KiB in the cache: what memory they take.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::load::Load;
use super::report::Row;
use super::systems::{self, pinned};
use crate::node;
use crate::process::{find, resident_bytes};

/// Asks for a million paths, and gives the resident memory of the node that then has all of them.
pub fn run(binary: &Path, folder: &Path) -> anyhow::Result<Row> {
    let folder = folder.join("cache-million");
    fs::create_dir_all(&folder)?;
    let mut others = Vec::new();
    let upstream = match find("nginx") {
        Some(nginx) => systems::start_nginx_upstream(&nginx, &folder, &mut others)?,
        None => systems::start_own_upstream(&mut others)?,
    };
    let operation = json!({"get": {
        "parameters": [{"name": "proxy", "in": "path", "required": true, "schema": {"type": "string"}}],
        "responses": {"200": {"description": "ok"}},
        "x-amazon-apigateway-integration":
            {"type": "http_proxy", "httpMethod": "GET", "uri": "http://backend/{proxy}"},
    }});
    let api = json!({
        "openapi": "3.0.3", "info": {"title": "bench", "version": "1"}, "paths": {"/{proxy+}": operation},
    });
    fs::write(folder.join("bench.openapi.json"), api.to_string())?;
    let file = folder.join("node.toml");
    let text = format!(
        "[node]\nname = 'bench'\nregion = 'local'\nsuffix = 'localhost'\nthreads = 1\ndata = 'data'\n\
         [[listener]]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n[log]\nlevel = 'warn'\n\
         [cache]\nmemory = '4GiB'\n[upstream.backend]\ntargets = ['http://{upstream}']\n\
         [[api]]\nid = 'bench'\ndefinition = 'bench.openapi.json'\n[api.stage.s]\ncache = {{ ttl = '3600s' }}\n"
    );
    fs::write(&file, text)?;
    let mut command = pinned(0, binary);
    command.args(["serve", "--json"]).arg(&file);
    let node = node::start(&mut command, Duration::from_secs(120), |_| {})?;
    let admin = node.admin.context("the node has no admin address")?;
    let load = Load {
        case: "cache-million",
        system: "tidegate",
        url: format!("http://{}/s/", node.address),
        headers: vec!["Host: bench.execute-api.local.localhost".to_owned()],
        pid: node.guard.id(),
        beside: None,
        rotate: Some(OBJECTS),
        at_half: false,
    };
    let until = Instant::now() + PATIENCE;
    // Each run begins with the first path: the next one goes further, since hits are quick.
    let mut seconds = 60;
    while entries(admin)? < u64::from(OBJECTS) {
        if Instant::now() > until {
            bail!(
                "the cache has {} entries after {PATIENCE:?}",
                entries(admin)?
            );
        }
        load.run(&folder, seconds, CONNECTIONS)?;
        seconds *= 2;
    }
    Ok(Row {
        case: "cache-million".into(),
        system: "tidegate".into(),
        rss_bytes: Some(resident_bytes(node.guard.id())? as f64),
        ..Row::default()
    })
}

/// How many keys have stored responses.
fn entries(admin: SocketAddr) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(admin)?;
    write!(
        stream,
        "GET /tidegate/v1/cache HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n"
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let body = reply.split_once("\r\n\r\n").map(|(_, body)| body);
    let figures: Value = serde_json::from_str(body.unwrap_or_default())
        .with_context(|| format!("the node said: {reply}"))?;
    figures["entries"].as_u64().context("no number of entries")
}

const OBJECTS: u32 = 1_000_000;
const CONNECTIONS: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(900);
