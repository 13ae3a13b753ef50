//! An origin in Europe, and edges near and far from it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use crate::client::{Connection, Reply};
use crate::linked::{ready, snapshot, token};
use crate::network::{Missing, Network, Path, Region};
use crate::node::TestNode;
use crate::openapi::{Api, Operation};
use crate::origin::{TestOrigin, text};
use crate::setup::{NODE_FILE, Setup, binary};
use crate::wait::until;

/// Nodes in regions.
pub struct World {
    pub network: Network,
    pub origin: TestNode,
    pub edges: Vec<Edge>,
}

/// An edge in a region of its own.
pub struct Edge {
    pub region: &'static str,
    pub node: TestNode,
}

/// Where the origin is.
pub const HOME: &str = "eu-central";
/// Where edges are, and their round trips to the origin in milliseconds.
pub const AWAY: [(&str, u64); 3] = [("eu-west", 20), ("us-east", 80), ("ap-southeast", 150)];
/// The share of packets that is lost on the way to or from [`HOME`].
pub const LOSS: f64 = 0.01;

/// The regions, without nodes. Edges have no way to each other.
///
/// # Errors
/// What the machine lacks.
pub fn network(seed: u64) -> Result<Network, Missing> {
    let away = AWAY.map(|(region, _)| region);
    let names: Vec<&str> = [HOME].into_iter().chain(away).collect();
    let network = Network::start(&names, seed)?;
    for (region, rtt_ms) in AWAY {
        let path = Path {
            rtt: Duration::from_millis(rtt_ms),
            loss: LOSS,
            bytes_per_second: None,
        };
        network.connect(HOME, region, path);
    }
    Ok(network)
}

impl World {
    /// Starts an origin with what `with` gives it, and edges that join it.
    pub async fn start(network: Network, with: impl FnOnce(Setup) -> Setup) -> Self {
        let origin = origin(&network, HOME, with).await;
        let mut edges = Vec::new();
        for (region, _) in AWAY {
            let node = edge(&network, region, &origin).await;
            edges.push(Edge { region, node });
        }
        Self {
            network,
            origin,
            edges,
        }
    }

    /// Where the origin is.
    pub fn home(&self) -> &Region {
        self.network.region(HOME)
    }

    /// Waits until all edges serve what the origin does.
    pub async fn in_step(&self) {
        for edge in &self.edges {
            in_step_over(&self.network, &self.origin, edge).await;
        }
    }
}

async fn edge(network: &Network, region: &'static str, origin: &TestNode) -> TestNode {
    follower(network, region, "edge", (HOME, origin), &[origin.link()]).await
}

/// Starts a node that follows `origin` by the ways that lead to `addresses`; an origin has a link of its own.
pub async fn follower(
    network: &Network,
    region: &str,
    role: &str,
    (home, origin): (&str, &TestNode),
    addresses: &[SocketAddr],
) -> TestNode {
    let here = network.region(region);
    let at = here.address();
    let mut text = format!(
        "[node]\nname = '{role}-{region}'\nregion = '{region}'\nthreads = 1\ndata = 'data'\nrole = '{role}'\n\
         [[listener]]\naddress = '{at}:{LISTENER}'\n"
    );
    for address in addresses {
        text.push_str(&format!("[[origin]]\naddress = '{address}'\n"));
    }
    if role == "origin" {
        text.push_str(&format!("[link]\naddress = '{at}:{LINK}'\n"));
    }
    let setup = TestNode::with(&text).written_down();
    let token = network
        .region(home)
        .within(async { token(origin, role) })
        .await;
    let join = async {
        Command::new(binary())
            .args(["node", "join", &token])
            .arg(setup.folder().join(NODE_FILE))
            .output()
            .expect("the command starts")
    };
    let joined = here.within(join).await;
    let said = String::from_utf8_lossy(&joined.stderr).into_owned();
    assert!(joined.status.success(), "{region} did not join: {said}");
    here.within(async {
        let node = setup.start().await;
        ready(&node).await;
        node
    })
    .await
}

/// An origin at `region`'s address, with what `with` gives it.
pub async fn origin(
    network: &Network,
    region: &str,
    with: impl FnOnce(Setup) -> Setup,
) -> TestNode {
    let here = network.region(region);
    let at = here.address();
    let text = format!(
        "[node]\nname = 'origin'\nregion = '{region}'\nthreads = 1\ndata = 'data'\nrole = 'origin'\n\
         [[listener]]\naddress = '{at}:{LISTENER}'\n[link]\naddress = '{at}:{LINK}'"
    );
    here.within(with(TestNode::with(&text)).start()).await
}

/// Waits until an edge serves what the origin does.
pub async fn in_step_over(network: &Network, origin: &TestNode, edge: &Edge) {
    until("the edge serves what the origin does", async || {
        let newest = network.region(HOME).within(snapshot(origin)).await;
        let there = network
            .region(edge.region)
            .within(snapshot(&edge.node))
            .await;
        (there == newest).then_some(())
    })
    .await;
}

/// Somebody in a region who asks a node, on a connection that is kept.
pub struct Viewer<'w> {
    region: &'w Region,
    address: SocketAddr,
    kept: Option<Connection>,
}

impl<'w> Viewer<'w> {
    /// Asks the node at `address` from `region`.
    pub fn new(region: &'w Region, address: SocketAddr) -> Self {
        Self {
            region,
            address,
            kept: None,
        }
    }

    /// Asks for a path of the stage `test` of the API `api`.
    ///
    /// # Errors
    /// Where there is no whole answer. The next request has a new connection.
    pub async fn get(&mut self, path: &str) -> Result<Reply, String> {
        self.get_with(path, &[]).await
    }

    /// As [`Self::get`], with further fields.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_with(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Reply, String> {
        let mut request = Request::builder()
            .uri(format!("/_aws/execute-api/api/test{path}"))
            .header("host", self.address.to_string());
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::new()).expect("a request");
        let mut connection = match self.kept.take().filter(|kept| !kept.is_closed()) {
            Some(connection) => connection,
            None => {
                let connecting = self.region.within(Connection::http1(self.address));
                connecting.await.map_err(|error| error.to_string())?
            }
        };
        let reply = connection
            .ask(request)
            .await
            .map_err(|error| format!("{error:?}"))?;
        self.kept = Some(connection);
        Ok(reply)
    }
}

const LISTENER: u16 = 8080;
const LINK: u16 = 7443;

/// The definition of an API that tells its version and is a proxy of `upstream`.
pub fn definition(version: &str, upstream: &TestOrigin) -> String {
    let uri = format!("http://{}/{{proxy}}", upstream.address());
    let api = Api::new()
        .route("GET /version", Operation::mock(version))
        .route("ANY /to/{proxy+}", Operation::proxy(&uri));
    api.text()
}

/// Says its path; what is below `/kept` may be cached for so long.
pub async fn upstream(kept: Duration) -> TestOrigin {
    TestOrigin::start(move |request| async move {
        let path = request.uri().path().to_owned();
        let cache = match path.starts_with("/kept") {
            true => format!("max-age={}", kept.as_secs()),
            false => "no-store".to_owned(),
        };
        let mut response = Response::new(text(path));
        let value = cache.try_into().expect("a field's value");
        response.headers_mut().insert("cache-control", value);
        response
    })
    .await
}
