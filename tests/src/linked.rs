//! An origin and its edges, as processes on this machine.

use std::net::SocketAddr;
use std::process::Command;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::node::{Stopped, TestNode};
use crate::openapi::{Api, Operation};
use crate::origin::TestOrigin;
use crate::setup::{NODE_FILE, Setup, binary};
use crate::wait::until;

/// Adds what makes a node an origin: other nodes reach it at a free port of 127.0.0.1.
pub fn origin(setup: Setup) -> Setup {
    setup.toml("[link]\naddress = '127.0.0.1:0'")
}

/// Makes a node an origin named `name`.
pub fn origin_named(name: &str, text: &str) -> Setup {
    let heading = format!(
        "[node]\nname = '{name}'\nregion = 'local'\nsuffix = 'localhost'\nthreads = 2\ndata = 'data'\nrole = 'origin'\n"
    );
    origin(TestNode::with(&format!("{heading}{text}")))
}

/// The key that [`api_to`] wants.
pub const API_KEY: &str = "a-key-that-is-long-enough";

fn keyed(operation: Operation) -> Operation {
    operation.field("security", serde_json::json!([{ "api_key": [] }]))
}

/// An API whose routes need a key and lead to `upstream`.
pub fn api_to(upstream: &TestOrigin) -> Api {
    let uri = format!("http://{}/{{proxy}}", upstream.address());
    let scheme = serde_json::json!({ "type": "apiKey", "name": "x-api-key", "in": "header" });
    Api::new()
        .security_scheme("api_key", scheme)
        .route("GET /mock", Operation::mock("said at the edge"))
        .route("ANY /to/{proxy+}", keyed(Operation::proxy(&uri)))
        .route(
            "ANY /open/{proxy+}",
            Operation::proxy(&format!("http://{}/{{proxy}}", upstream.address())),
        )
}

/// An origin that serves [`api_to`].
pub async fn origin_to(upstream: &TestOrigin) -> TestNode {
    origin_named("home", "")
        .api(&api_to(upstream))
        .key(API_KEY, &["api/test"])
        .start()
        .await
}

/// Starts an edge that has joined `origin`; its way there leads to `addresses`, or straight.
pub async fn edge(name: &str, origin: &TestNode, addresses: &[SocketAddr]) -> TestNode {
    edge_with(name, origin, addresses, "").await
}

/// Starts an edge with more in its configuration.
pub async fn edge_with(
    name: &str,
    origin: &TestNode,
    addresses: &[SocketAddr],
    more: &str,
) -> TestNode {
    let node = edge_setup(name, origin, addresses, more).start().await;
    ready(&node).await;
    node
}

/// A node that has joined as an edge, and is not started yet.
pub fn edge_setup(name: &str, origin: &TestNode, addresses: &[SocketAddr], more: &str) -> Setup {
    follower_setup(name, "edge", origin, addresses, more)
}

/// A node that has joined, and is not started yet.
pub fn follower_setup(
    name: &str,
    role: &str,
    origin: &TestNode,
    addresses: &[SocketAddr],
    more: &str,
) -> Setup {
    let straight = [origin.link()];
    let addresses = if addresses.is_empty() {
        &straight
    } else {
        addresses
    };
    let mut text = format!(
        "[node]\nname = '{name}'\nregion = 'far'\nthreads = 2\ndata = 'data'\nrole = '{role}'\n"
    );
    for address in addresses {
        text.push_str(&format!("[[origin]]\naddress = '{address}'\n"));
    }
    text.push_str(more);
    let setup = TestNode::with(&text).written_down();
    let token = token(origin, role);
    let joined = Command::new(binary())
        .args(["node", "join", &token])
        .arg(setup.folder().join(NODE_FILE))
        .output()
        .expect("the command starts");
    let said = [joined.stdout, joined.stderr].concat();
    assert!(
        joined.status.success(),
        "{name} did not join: {}",
        String::from_utf8_lossy(&said)
    );
    setup
}

/// A join token for a node of that role.
pub fn token(origin: &TestNode, role: &str) -> String {
    let asked = Command::new(binary())
        .args(["node", "token", "--json", "--role", role, "--origin"])
        .arg(origin.link().to_string())
        .args(["--admin", &origin.admin_address().to_string()])
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(
        asked.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    let answer: Value = serde_json::from_str(&said).expect("JSON");
    answer["token"].as_str().expect("a token").to_owned()
}

/// Waits until a node serves what its origins do.
pub async fn ready(node: &TestNode) {
    until("the edge is ready", async || {
        (node.admin("/readyz").await.status == 200).then_some(())
    })
    .await;
}

/// The snapshot that a node serves.
pub async fn snapshot(node: &TestNode) -> String {
    let about = node.admin("/tidegate/v1/node").await.json();
    about["snapshot"].as_str().expect("a snapshot").to_owned()
}

/// Waits until all nodes serve what `origin` does.
pub async fn in_step(origin: &TestNode, nodes: &[&TestNode]) {
    until("all nodes serve the same", async || {
        let newest = snapshot(origin).await;
        for node in nodes {
            if snapshot(node).await != newest {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// What an origin says of the nodes that link to it.
pub async fn nodes(origin: &TestNode) -> Vec<Value> {
    let answer = origin.admin("/tidegate/v1/nodes").await.json();
    answer["nodes"].as_array().expect("a list").clone()
}

/// Sends a change to a node's admin address.
pub async fn put(node: &TestNode, path: &str) -> crate::Reply {
    let request = Request::builder()
        .method("PUT")
        .uri(path)
        .header("host", node.admin_address().to_string())
        .body(Bytes::new());
    node.ask_admin(request.expect("a request")).await
}

/// Starts an edge again, without waiting for a snapshot.
pub async fn restarted(stopped: Stopped) -> TestNode {
    stopped.start().await
}

/// Passes TCP on to `to`, and nothing else: as a network does that lets no UDP through.
pub async fn without_udp(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    address
}
