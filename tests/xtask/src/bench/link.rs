//! A miss through the link: an edge and its origin, both on the core of the servers under test.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::load::Load;
use super::systems::pinned;
use crate::node::{self, Node};
use crate::process::said;

/// An origin and an edge.
pub struct Region {
    origin: Node,
    edge: Node,
}

impl Region {
    /// Starts both, with one API that is a proxy of `upstream`.
    pub fn start(binary: &Path, folder: &Path, upstream: SocketAddr) -> anyhow::Result<Self> {
        let (folder, link) = (folder.join("region"), node::free_addresses()?.0);
        let (home, far) = (folder.join("origin"), folder.join("edge"));
        for folder in [&home, &far] {
            // The certificates of an earlier run are another authority's.
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            fs::create_dir_all(folder)?;
        }
        fs::write(home.join("miss.openapi.json"), DEFINITION)?;
        let text = format!(
            "[node]\nname = 'origin'\nrole = 'origin'\nthreads = 1\ndata = 'data'\n[link]\naddress = '{link}'\n\
             [[listener]]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n[log]\nlevel = 'warn'\n\
             [upstream.backend]\ntargets = ['http://{upstream}']\n\
             [[api]]\nid = 'miss'\ndefinition = 'miss.openapi.json'\nstage.s = {{}}\n"
        );
        fs::write(home.join("node.toml"), text)?;
        let origin = start(binary, &home)?;
        let admin = origin.admin.context("the origin told no admin address")?;
        let text = format!(
            "[node]\nname = 'edge'\nrole = 'edge'\nthreads = 1\ndata = 'data'\n[[origin]]\naddress = '{link}'\n\
             [[listener]]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n[log]\nlevel = 'warn'\n"
        );
        fs::write(far.join("node.toml"), text)?;
        let token = said(
            Command::new(binary)
                .args(["node", "token", "--origin"])
                .arg(link.to_string())
                .args(["--admin", &admin.to_string()]),
        )?;
        said(
            Command::new(binary)
                .args(["node", "join", token.trim()])
                .arg(far.join("node.toml")),
        )?;
        let edge = start(binary, &far)?;
        wait_for_snapshot(&edge)?;
        Ok(Self { origin, edge })
    }

    /// What is asked of the edge; both nodes' CPU time counts.
    pub fn load(&self) -> Load {
        Load {
            case: "link-miss",
            system: "tidegate",
            url: format!("http://{}/s/miss", self.edge.address),
            headers: vec!["Host: miss.execute-api.local.localhost".to_owned()],
            pid: self.edge.guard.id(),
            beside: Some(self.origin.guard.id()),
            rotate: None,
            at_half: false,
        }
    }
}

fn start(binary: &Path, folder: &Path) -> anyhow::Result<Node> {
    let mut command = pinned(0, binary);
    command
        .args(["serve", "--json"])
        .arg(folder.join("node.toml"));
    node::start(&mut command, Duration::from_secs(120), |_| {})
}

/// The edge answers 404 until it has what its origin serves.
fn wait_for_snapshot(edge: &Node) -> anyhow::Result<()> {
    let admin = edge.admin.context("the edge told no admin address")?;
    let until = Instant::now() + Duration::from_secs(60);
    while !is_ready(admin).unwrap_or(false) {
        if Instant::now() > until {
            bail!("the edge has no snapshot after a minute");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn is_ready(admin: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(admin)?;
    write!(
        stream,
        "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

const DEFINITION: &str = r#"{
  "openapi": "3.0.3",
  "info": { "title": "miss", "version": "1" },
  "paths": {
    "/miss": {
      "get": {
        "responses": { "200": { "description": "ok" } },
        "x-amazon-apigateway-integration": { "type": "http_proxy", "httpMethod": "GET", "uri": "http://backend/" }
      }
    }
  }
}
"#;
