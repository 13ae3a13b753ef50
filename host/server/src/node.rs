//! A running node: puts its parts together, serves until it is told to end, and takes new snapshots meanwhile.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use tidegate_model::balance::{Balance, HealthThresholds};
use tidegate_model::config::{self, Node, Role, Signatures};
use tidegate_model::headers::Via;
use tidegate_sandbox::threads::take_short_turns;
use tidegate_sandbox::{Runtime, Settings as SandboxSettings};
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

use crate::admin::{Admin, Logs, Tokens};
use crate::cache::Cache;
use crate::cache::behind::Behind;
use crate::cache::disk::{self, Disk};
use crate::cache::store::Store;
use crate::control::{self, Control, Signals, draw_up, followed_node};
use crate::deploy::{Deployed, Deployer};
use crate::descriptors;
use crate::drain::{self, Drain, Outcome};
use crate::link::dial::Dialer;
use crate::link::host::{Host, Shared};
use crate::link::origins::Origins;
use crate::link::{self, quic};
use crate::listen::tls::{Identity, Tls};
use crate::listen::{self, accept};
use crate::membership::{LinkSockets, Membership};
use crate::memory;
use crate::reload::Files;
use crate::services::NodeServices;
use crate::services::client::Client;
use crate::services::keys::Keys;
use crate::services::quota::keeper::Keeper;
use crate::services::quota::ledger::{self, Ledger};
use crate::services::rate_limit::Buckets;
use crate::serving::Serving;
use crate::store::embedded::Embedded;
use crate::sync::follow::{Follower, Standing};
use crate::sync::manifest::Manifest;
use crate::telemetry::lines::Lines;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sparing::Sparing;
use crate::upstream::{self, Directory, Upstreams};
use crate::versions::{Components, Versions};
use crate::worker::{self, Worker};

/// Where a node can be reached, once it is ready.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Ready {
    pub listeners: Vec<ReadyListener>,
    pub admin: SocketAddr,
    /// Where other nodes link to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<SocketAddr>,
    /// From the start of the process to here.
    pub took_ms: u128,
}

/// A bound listener.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ReadyListener {
    pub address: SocketAddr,
    pub tls: bool,
}

/// Serves until SIGTERM or SIGINT, and then until the requests under way are answered. `ready` is called once.
///
/// # Errors
///
/// What keeps the node from starting.
pub fn serve(path: &Path, node: Node, began: Instant, ready: impl FnOnce(&Ready)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let served = LocalSet::new().block_on(&runtime, Starting { path, node, began }.run(ready));
    runtime.shutdown_background(); // a component that is still being compiled is for nobody
    served
}

struct Starting<'a> {
    path: &'a Path,
    node: Node,
    began: Instant,
}

impl Starting<'_> {
    async fn run(self, ready: impl FnOnce(&Ready)) -> Result<()> {
        let Self { path, node, began } = self;
        descriptors::take_all();
        let workers = node.threads.map_or_else(cores, usize::from);
        let name = node.name.clone().unwrap_or_else(host_name);
        let own = node;
        let membership = Membership::of(&own, &name)?.map(Arc::new);
        let last = membership.as_deref().filter(|it| it.follows);
        let last = last.and_then(Membership::last);
        let node = own.clone();
        let directory = Directory::new(upstream_settings(&node)?, workers).context("upstreams")?;
        let admin_socket = bind(node.admin.address, 1)?.remove(0);
        let admin = admin_socket.local_addr().context("the admin address")?;

        let metrics = Metrics::new(workers);
        metrics.watch_upstreams(directory.clone());
        let store = Arc::new(Embedded::open(&node.data).map_err(anyhow::Error::new)?);
        let lines = Lines::start().context("no thread for log lines")?;
        let client =
            Client::start(directory.clone(), admin).context("no thread for the HTTP client")?;
        let buckets = match own.role {
            Role::Edge => Buckets::leased(),
            Role::Origin | Role::All => Buckets::default(),
        };
        let services = Arc::new(NodeServices::new(
            buckets,
            client,
            store.clone(),
            lines,
            metrics.clone(),
        ));
        let (ledger, settlements) = ledger::channel();
        let far = membership.as_ref().is_some_and(|it| it.follows);
        let keeper = Keeper::new(services.quotas.clone(), ledger.clone(), name.clone(), far);
        let settings = SandboxSettings {
            artifacts: Some(own.data.join("artifacts")),
            artifact_bytes_max: node.artifacts.0,
            give_back: memory::give_back,
            ..SandboxSettings::default()
        };
        let sandbox = Arc::new(Runtime::new(settings)?);
        let deployer = Deployer::new(sandbox.clone(), services.clone(), metrics.clone());
        // Watched before they are read, so that no edit falls between.
        let mut files = Files::new().context("watching files")?;
        files.watch(path, &node);
        let versions = Versions::of(&node)?;
        let first = First {
            own: &own,
            path,
            name: &name,
            membership: membership.as_deref(),
            versions: &versions,
            deployer: &deployer,
            services: &services,
        };
        let (node, first) = first.deploy(node, last).await?;
        apply_state(&node, &services, &store)?;
        directory
            .update(upstream_settings(&node)?)
            .context("upstreams")?;
        let first = Arc::new(Serving::only(Arc::new(first)));
        metrics.serve(&first);
        let (snapshots, served) = watch::channel(first.clone());
        let serving = Arc::new(ArcSwap::new(first));
        let (commands, commanded) = control::channel();
        let commands = Arc::new(commands);

        let (trigger, drain) = drain::channel();
        let mut identities = Vec::new();
        let mut listeners = Vec::new();
        for listener in &node.listeners {
            let tls = match &listener.tls {
                None => None,
                Some(files) => {
                    let tls = Arc::new(tls_of(files, listener)?);
                    identities.push((files.clone(), tls.clone()));
                    Some(tls)
                }
            };
            let sockets = bind(listener.address, workers)?;
            listeners.push(Bound {
                sockets,
                tls,
                settings: listen_settings(&node, listener, workers),
            });
        }
        let addresses = listeners
            .iter()
            .map(Bound::ready)
            .collect::<Result<Vec<_>>>()?;
        let origins = match &membership {
            Some(membership) => membership.origins(&own)?,
            None => None,
        };
        let behind = origins.as_ref().map(|origins| origins.behind.clone());
        let cache = Arc::new(Cache::new(
            &node.cache,
            cache_store(&node, &services)?,
            behind.unwrap_or_else(|| Arc::new(Behind::new(0))),
            workers,
        ));
        let kept = cache.clone();
        metrics.watch_cache(cache.clone());
        let sockets = LinkSockets::bind(&own, workers)?;
        let link = match &sockets {
            Some(sockets) => Some(sockets.tcp[0].local_addr().context("the link's address")?),
            None => None,
        };
        let parts = WorkerParts {
            listeners,
            link: sockets,
            shared: membership
                .as_ref()
                .map(|it| it.shared(&name, sandbox.clone(), ledger)),
            origins: origins.clone().filter(|_| own.role == Role::Edge),
            directory: &directory,
            cache: &cache,
            served: &served,
            drain: &drain,
        };
        sandbox.give_way();
        let threads = start_workers(&node, workers, parts)?;
        if let (Some(membership), Some(origins)) = (&membership, origins) {
            let follower = Follower {
                dialer: Dialer::start(origins),
                standing: Standing::new(&membership.publisher),
                publisher: membership.publisher.clone(),
                commands: commands.clone(),
                cache: cache.clone(),
                runtime: sandbox,
                services: services.clone(),
                metrics: metrics.clone(),
                serving: serving.clone(),
                nodes: membership.nodes.clone(),
                relay: (own.role != Role::Edge).then(|| membership.purges.clone()),
                takes_code: own.signatures == Signatures::Off,
            };
            tokio::task::spawn_local(Rc::new(follower).run(settlements));
        } else {
            let nodes = membership.as_ref().map(|it| it.nodes.clone());
            tokio::task::spawn_local(Ledger::new(store.clone(), nodes).run(settlements));
        }
        let (end_keeping, ending) = oneshot::channel();
        let keeping = tokio::task::spawn_local(keeper.run(ending));

        if let Some(membership) = &membership {
            tokio::task::spawn_local(membership.clone().keep_own_certificate());
        }

        let drain_within = node.timeouts.drain;
        let service = Admin {
            name: name.clone(),
            region: own.region.clone(),
            role: own.role,
            workers,
            has_served: Cell::new(false),
            tokens: tokens_of(&own, membership.as_deref()),
            membership: membership.clone(),
            metrics: metrics.clone(),
            serving: serving.clone(),
            cache,
            logs: Logs::new(services.tail.clone(), serving.clone()),
            commands,
            drain: drain.clone(),
            began,
        };
        tokio::task::spawn_local(serve_admin(admin_socket, service, node.timeouts.clone()));
        let checked = directory.clone();
        tokio::task::spawn_local(async move { checked.check_health().await });

        let control = Control {
            path: path.to_owned(),
            own,
            node,
            name,
            membership,
            deployer,
            services,
            store,
            directory,
            identities,
            metrics,
            versions,
            workers,
            serving,
            snapshots,
            ended: None,
            trial: None,
        };
        // Who reads the ready line may send a signal at once.
        let signals = Signals::listen()?;
        let took_ms = began.elapsed().as_millis();
        tracing::info!(%admin, workers, took_ms, "ready");
        ready(&Ready {
            listeners: addresses,
            admin,
            link,
            took_ms,
        });

        control.run(files, signals, commanded).await;
        tracing::info!(within_ms = drain_within.as_millis(), "draining");
        trigger.pull(drain_within);
        let ending = move || {
            let outcomes = join(threads);
            kept.store.disk().inspect(|disk| disk.close());
            outcomes
        };
        let outcomes = tokio::task::spawn_blocking(ending)
            .await
            .context("waiting for the workers")?;
        drop(end_keeping);
        if tokio::time::timeout(GIVE_BACK_WAIT, keeping).await.is_err() {
            tracing::warn!("quotas: what was at hand is not given back");
        }
        let cut: usize = outcomes
            .iter()
            .map(|outcome| outcome.map_or(0, |outcome| cut_off(&outcome)))
            .sum();
        tracing::info!(cut_off = cut, "drained");
        Ok(())
    }
}

/// What a node serves from the start.
struct First<'a> {
    own: &'a Node,
    path: &'a Path,
    name: &'a str,
    membership: Option<&'a Membership>,
    versions: &'a Versions,
    deployer: &'a Deployer,
    services: &'a NodeServices,
}

impl First<'_> {
    /// The deployment, and the configuration that it is of: on a follower, its last snapshot's.
    async fn deploy(self, node: Node, last: Option<Manifest>) -> Result<(Node, Deployed)> {
        let Some(membership) = self.membership else {
            let deployed = self
                .deployed(&node, &self.versions.components(), None)
                .await?;
            return Ok((node, deployed));
        };
        if !membership.follows {
            let components = self.versions.components();
            let manifest = draw_up(membership, self.path, self.name, &node, &components).await?;
            let deployed = self.deployed(&node, &components, Some(manifest)).await?;
            if let Some(manifest) = &deployed.manifest {
                membership.publisher.publish(manifest.clone())?;
            }
            return Ok((node, deployed));
        }
        if let Some(last) = last {
            match self.follow(membership, &last).await {
                Ok(followed) => return Ok(followed),
                Err(error) => tracing::error!(
                    "the last snapshot cannot be served, waiting for an origin's: {error:#}"
                ),
            }
        }
        let deployed = self.deployed(&node, &Components::new(), None).await?;
        Ok((node, deployed))
    }

    async fn follow(&self, membership: &Membership, last: &Manifest) -> Result<(Node, Deployed)> {
        let (node, components) = followed_node(self.own, membership, Some(last))?;
        let deployed = self
            .deployed(&node, &components, Some(last.clone()))
            .await?;
        membership.publisher.publish(last.clone())?;
        tracing::info!(snapshot = &*deployed.published, "serving the last snapshot");
        Ok((node, deployed))
    }

    async fn deployed(
        &self,
        node: &Node,
        components: &Components,
        manifest: Option<Manifest>,
    ) -> Result<Deployed> {
        offer_secrets(node, self.services)?;
        let deployed = self.deployer.deploy(node, components, manifest, None).await;
        deployed.map_err(|problems| anyhow::anyhow!("{problems}"))
    }
}

/// A listener's sockets, one for each worker.
struct Bound {
    sockets: Vec<TcpListener>,
    tls: Option<Arc<Tls>>,
    settings: listen::Settings,
}

impl Bound {
    fn ready(&self) -> Result<ReadyListener> {
        let address = self.sockets[0]
            .local_addr()
            .context("a listener's address")?;
        Ok(ReadyListener {
            address,
            tls: self.tls.is_some(),
        })
    }
}

/// A worker's part of the link.
struct WorkerLink {
    udp: UdpSocket,
    tcp: TcpListener,
    quic_tls: rustls::ServerConfig,
    tcp_tls: rustls::ServerConfig,
    shared: Arc<Shared>,
}

/// What one worker thread starts with.
struct WorkerStart {
    shard: usize,
    settings: worker::Settings,
    workers: usize,
    sockets: Vec<(TcpListener, Option<Arc<Tls>>, listen::Settings)>,
    link: Option<WorkerLink>,
    origins: Option<Arc<Origins>>,
    directory: Arc<Directory>,
    cache: Arc<Cache>,
    snapshots: watch::Receiver<Arc<Serving>>,
    drain: drain::Signal,
}

/// What the workers of a node are made of.
struct WorkerParts<'a> {
    listeners: Vec<Bound>,
    link: Option<LinkSockets>,
    shared: Option<Arc<Shared>>,
    /// On an edge: where what is behind the cache is asked of.
    origins: Option<Arc<Origins>>,
    directory: &'a Arc<Directory>,
    cache: &'a Arc<Cache>,
    served: &'a watch::Receiver<Arc<Serving>>,
    drain: &'a drain::Signal,
}

fn start_workers(
    node: &Node,
    workers: usize,
    parts: WorkerParts<'_>,
) -> Result<Vec<JoinHandle<Result<Outcome>>>> {
    let mut sockets: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    let mut links: Vec<Option<_>> = (0..workers).map(|_| None).collect();
    if let (Some(LinkSockets { udp, tcp }), Some(shared)) = (parts.link, &parts.shared) {
        // Made once: a session that began at one worker is resumed at any.
        let (quic_tls, tcp_tls) = Membership::tls(&shared.identity)?;
        for (place, (udp, tcp)) in udp.into_iter().zip(tcp).enumerate() {
            links[place] = Some(WorkerLink {
                udp,
                tcp,
                quic_tls: quic_tls.clone(),
                tcp_tls: tcp_tls.clone(),
                shared: shared.clone(),
            });
        }
    }
    for listener in parts.listeners {
        for (worker, socket) in listener.sockets.into_iter().enumerate() {
            sockets[worker].push((socket, listener.tls.clone(), listener.settings.clone()));
        }
    }
    let settings = worker::Settings {
        body_bytes_max: node.limits.body.0,
        body_timeout: node.timeouts.body,
        via: Via::new("tidegate").context("the pseudonym in Via is a token")?,
        kept_for: links[0].as_ref().map(|link| link.shared.nodes.clone()),
    };
    let start = |(shard, (sockets, link))| {
        let start = WorkerStart {
            shard,
            workers,
            settings: settings.clone(),
            sockets,
            link,
            origins: parts.origins.clone(),
            directory: parts.directory.clone(),
            cache: parts.cache.clone(),
            snapshots: parts.served.clone(),
            drain: parts.drain.clone(),
        };
        thread::Builder::new()
            .name(format!("worker-{shard}"))
            .spawn(move || {
                take_short_turns();
                start.run()
            })
            .context("no thread for a worker")
    };
    let parts_of_each = sockets.into_iter().zip(links).enumerate();
    parts_of_each.map(start).collect()
}

impl WorkerStart {
    fn run(self) -> Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime")?;
        LocalSet::new().block_on(&runtime, self.serve())
    }

    async fn serve(mut self) -> Result<Outcome> {
        let upstreams = Upstreams::new(self.directory);
        let first = self.snapshots.borrow_and_update().clone();
        let dialer = self.origins.map(Dialer::start);
        let worker = Worker::new(
            self.settings,
            upstreams,
            self.cache,
            dialer,
            self.shard,
            &first,
        );
        drop(first); // else its plugins would stay until the worker ends
        let worker = Rc::new(worker);
        let adopting = worker.clone();
        let mut snapshots = self.snapshots;
        tokio::task::spawn_local(async move {
            while snapshots.changed().await.is_ok() {
                let serving = snapshots.borrow_and_update().clone();
                adopting.adopt(&serving);
            }
        });
        let drain = Drain::new();
        for (socket, tls, settings) in self.sockets {
            let accepting = accept::run(
                socket,
                Rc::new(settings),
                tls,
                worker.clone(),
                drain.clone(),
            );
            tokio::task::spawn_local(async move {
                if let Err(error) = accepting.await {
                    tracing::error!(%error, "a listener ended");
                }
            });
        }
        if let Some(link) = self.link {
            let WorkerLink {
                udp,
                tcp,
                quic_tls,
                tcp_tls,
                shared,
            } = link;
            let endpoint = quic::server(udp, quic_tls, self.shard, self.workers)?;
            let host = Rc::new(Host {
                worker: worker.clone(),
                shared,
                drain: drain.clone(),
                joining: Cell::new(0),
                sparing: Sparing::default(),
            });
            tokio::task::spawn_local(link::accept::quic(endpoint, host.clone(), drain.clone()));
            let accepting = link::accept::tcp(tcp, Arc::new(tcp_tls), host, drain.clone());
            tokio::task::spawn_local(async move {
                if let Err(error) = accepting.await {
                    tracing::error!(%error, "the link's TCP port ended");
                }
            });
        }
        let outcome = drain.run(self.drain).await;
        worker.finish().await;
        Ok(outcome)
    }
}

/// What makes join tokens, where this node takes others and signs for them.
fn tokens_of(node: &Node, membership: Option<&Membership>) -> Option<Tokens> {
    Some(Tokens {
        authority: membership?.authority.clone()?,
        names: node.link.as_ref()?.names.clone(),
    })
}

async fn serve_admin(socket: TcpListener, service: Admin, timeouts: config::Timeouts) {
    let settings = listen::Settings {
        connections_max: ADMIN_CONNECTIONS_MAX,
        header_timeout: timeouts.header,
        keep_alive_timeout: timeouts.keep_alive,
        ..listen::Settings::default()
    };
    // It answers until the process ends: a draining node still says that it drains.
    if let Err(error) = accept::run(
        socket,
        Rc::new(settings),
        None,
        Rc::new(service),
        Drain::new(),
    )
    .await
    {
        tracing::error!(%error, "the admin address ended");
    }
}

/// Hands out the secrets that a deployment's plugins may read while they are configured, beside those in use; who may have
/// which is the grants' matter.
pub(crate) fn offer_secrets(node: &Node, services: &NodeServices) -> Result<()> {
    let mut secrets = BTreeMap::clone(&services.secrets.load());
    for (name, secret) in &node.secrets {
        if !secrets.contains_key(name) {
            secrets.insert(name.clone(), secret_value(name, &secret.source)?);
        }
    }
    services.secrets.store(Arc::new(secrets));
    Ok(())
}

/// Gives the services what deployments need beside snapshots: keys, secrets, tables.
pub(crate) fn apply_state(node: &Node, services: &NodeServices, store: &Embedded) -> Result<()> {
    let secrets = node
        .secrets
        .iter()
        .map(|(name, secret)| Ok((name.clone(), secret_value(name, &secret.source)?)));
    services
        .secrets
        .store(Arc::new(secrets.collect::<Result<_>>()?));
    services.keys.store(Arc::new(Keys::new(&node.keys)));
    store.declare(
        node.functions
            .values()
            .flat_map(|function| function.tables.clone())
            .collect(),
    );
    Ok(())
}

/// The cache's store, with its disk tier where there is to be one.
fn cache_store(node: &Node, services: &NodeServices) -> Result<Store> {
    let memory = node.cache.memory.0;
    let Some(settings) = &node.cache.disk else {
        return Ok(Store::new(memory));
    };
    let secrets = services.secrets.load();
    let settings = disk::Settings {
        bytes_max: settings.bytes.0,
        path: settings.path.clone(),
        secret: settings
            .secret
            .as_ref()
            .and_then(|name| secrets.get(name))
            .cloned(),
    };
    let shapes = Arc::default();
    let opened = Disk::open(&settings, &shapes)
        .with_context(|| format!("the cache on disk, {}", settings.path.display()))?;
    Ok(Store::over(memory, shapes, opened))
}

pub(crate) fn secret_value(name: &str, source: &config::SecretSource) -> Result<String> {
    match source {
        config::SecretSource::File(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("secret \"{name}\": {}", path.display()))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        config::SecretSource::Environment(variable) => {
            std::env::var(variable).with_context(|| format!("secret \"{name}\": ${variable}"))
        }
    }
}

fn bind(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>> {
    accept::bind(address, workers).with_context(|| format!("{address} cannot be listened on"))
}

fn tls_of(files: &config::ListenerTls, listener: &config::Listener) -> Result<Tls> {
    Tls::new(
        &identity_of(files)?,
        listener.protocols.http1,
        listener.protocols.http2,
    )
    .context("TLS")
}

pub(crate) fn identity_of(files: &config::ListenerTls) -> Result<Identity> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    Identity::from_pem(&certificate, &key).with_context(|| files.certificate.display().to_string())
}

fn listen_settings(node: &Node, listener: &config::Listener, workers: usize) -> listen::Settings {
    let (limits, timeouts) = (&node.limits, &node.timeouts);
    listen::Settings {
        connections_max: limits.connections.div_ceil(workers),
        http1: listener.protocols.http1,
        http2: listener.protocols.http2,
        header_bytes_max: usize::try_from(limits.head.0).unwrap_or(usize::MAX),
        headers_max: limits.headers,
        header_timeout: timeouts.header,
        keep_alive_timeout: timeouts.keep_alive,
        tls_handshake_timeout: timeouts.handshake,
        http2_streams_max: limits.streams,
        private: listener.private.clone().map(Arc::new),
        ..listen::Settings::default()
    }
}

pub(crate) fn upstream_settings(node: &Node) -> Result<Vec<upstream::Settings>> {
    node.upstreams.values().map(upstream_setting).collect()
}

fn join(threads: Vec<JoinHandle<Result<Outcome>>>) -> Vec<Option<Outcome>> {
    let outcome = |thread: JoinHandle<Result<Outcome>>| match thread.join() {
        Ok(Ok(outcome)) => Some(outcome),
        Ok(Err(error)) => {
            tracing::error!("a worker ended: {error:#}");
            None
        }
        Err(_) => None, // the panic has been printed
    };
    threads.into_iter().map(outcome).collect()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "tidegate".to_owned(), |name| name.trim().to_owned())
}

fn cut_off(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Clean => 0,
        Outcome::Cut { connections } => *connections,
    }
}

fn upstream_setting(upstream: &config::Upstream) -> Result<upstream::Settings> {
    let ca = match &upstream.tls.ca {
        None => None,
        Some(path) => Some(std::fs::read(path).with_context(|| {
            format!(
                "{}: upstream \"{}\": {} cannot be read",
                upstream.place,
                upstream.name,
                path.display()
            )
        })?),
    };
    let address = |target: &config::Target| upstream::TargetAddress {
        tls: target.scheme == config::Scheme::Https,
        host: target.host.clone(),
        port: target.port,
    };
    let health = upstream
        .health
        .as_ref()
        .map(|health| upstream::HealthCheck {
            path: health.path.clone(),
            interval: health.interval,
            timeout: health.timeout,
            thresholds: HealthThresholds {
                healthy: health.healthy,
                unhealthy: health.unhealthy,
            },
            status: health.status.clone(),
        });
    let ejection = upstream
        .ejection
        .as_ref()
        .map(|ejection| upstream::Ejection {
            failures: ejection.failures,
            period: ejection.duration,
        });
    Ok(upstream::Settings {
        name: upstream.name.clone(),
        targets: upstream.targets.iter().map(address).collect(),
        balance: match upstream.balance {
            config::Balance::RoundRobin => Balance::RoundRobin,
            config::Balance::LeastRequest => Balance::LeastRequest,
        },
        protocol: if upstream.http2 {
            upstream::Protocol::Http2
        } else {
            upstream::Protocol::Http1
        },
        tls: upstream::Tls {
            ca,
            server_name: upstream.tls.server_name.clone(),
        },
        connect_timeout: upstream.connect_timeout,
        first_byte_timeout: upstream.first_byte_timeout,
        body_idle_timeout: BODY_IDLE_TIMEOUT,
        idle_timeout: upstream.idle_timeout,
        connections_max: u32::try_from(upstream.connections_max).unwrap_or(u32::MAX),
        health,
        ejection,
        retries: upstream.retries,
    })
}

/// A flush, or a round trip to an origin.
const GIVE_BACK_WAIT: Duration = Duration::from_secs(2);
/// Between two pieces of a response's body.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// People, scrapers and health checks.
const ADMIN_CONNECTIONS_MAX: usize = 256;
