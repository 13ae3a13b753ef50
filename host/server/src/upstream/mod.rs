//! Target → response: choosing a target, connecting, pooling, sending, checking health.
//!
//! A [`Directory`] is the node's: which upstreams there are, and how well their targets are. Each worker thread has its own
//! [`Upstreams`] on it, with its own connections. A [`Handle`] names one upstream there and stays usable while
//! configurations change: an upstream whose settings did not change keeps its connections.

mod connect;
mod error;
mod health;
mod http1;
mod http2;
mod pool;
mod replay;
mod send;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tidegate_model::balance::{Balance, HealthThresholds, Standing, may_eject};
use tidegate_model::config::StatusRanges;
use tidegate_model::retry::RetryBudget;
use tokio::sync::watch;

pub use error::{Disposition, UpstreamError};
pub use send::{Host, SendOptions};

use connect::Resolver;
use http1::Http1Pool;
use http2::{Http2Pool, OpenStream};

/// An upstream, as it was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    /// At least one.
    pub targets: Vec<TargetAddress>,
    pub balance: Balance,
    pub protocol: Protocol,
    /// For targets with `https`.
    pub tls: Tls,
    /// Name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Until the response's header section is there, all attempts together.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a response's body.
    pub body_idle_timeout: Duration,
    /// How long a connection is kept without a request; less where its server says that it closes it sooner.
    pub idle_timeout: Duration,
    /// Connections to each target; each worker has its share.
    pub connections_max: u32,
    pub health: Option<HealthCheck>,
    pub ejection: Option<Ejection>,
    /// Attempts after the first one.
    pub retries: u32,
}

impl Settings {
    /// An upstream with one target and everything else by default.
    pub fn new(name: impl Into<String>, target: TargetAddress) -> Self {
        Self {
            name: name.into(),
            targets: vec![target],
            balance: Balance::RoundRobin,
            protocol: Protocol::Http1,
            tls: Tls::default(),
            // A SYN that is lost is sent again after one second, and should then have its chance.
            connect_timeout: Duration::from_millis(2500),
            // API Gateway's integration timeout.
            first_byte_timeout: Duration::from_secs(29),
            body_idle_timeout: Duration::from_secs(30),
            // Below the 65–75 s after which common servers close; the side that closes first avoids the race.
            idle_timeout: Duration::from_secs(60),
            connections_max: 1024,
            health: None,
            ejection: None,
            retries: 1,
        }
    }
}

/// Where a target listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetAddress {
    /// `https`.
    pub tls: bool,
    /// A name or an IP address, without brackets.
    pub host: String,
    pub port: u16,
}

impl TargetAddress {
    /// Reads `http://host:port`; `None` where it is not that, or has a path.
    pub fn parse(uri: &str) -> Option<Self> {
        let uri = uri.parse::<http::Uri>().ok()?;
        matches!(uri.path(), "" | "/").then_some(())?;
        uri.query().is_none().then_some(())?;
        Self::of(&uri)
    }

    /// The server of an absolute URI; `None` where it is not `http` or `https`, or names none.
    pub fn of(uri: &http::Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri
            .host()?
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        (!host.is_empty()).then_some(Self { tls, host, port })
    }

    /// Host and port, the port only where it is not the scheme's own: a `Host` header's value.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// The HTTP that an upstream's targets speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http1,
    /// By ALPN under TLS, by prior knowledge in the clear.
    Http2,
}

/// How targets with `https` are verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM of the authorities to trust in place of the system's.
    pub ca: Option<Vec<u8>>,
    /// The name to ask for and to verify; default: the target's host.
    pub server_name: Option<String>,
}

/// Active health checks: a GET to each target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path and query.
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: HealthThresholds,
    /// The status codes that pass.
    pub status: StatusRanges,
}

/// Passive health: leaving out a target whose requests fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row.
    pub failures: u32,
    pub period: Duration,
}

/// Why an upstream cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("upstream {upstream}: no targets")]
    NoTargets { upstream: String },
    #[error("upstream {upstream}: {name:?} is not a server name")]
    ServerName { upstream: String, name: String },
    #[error("upstream {upstream}: the CA file is not PEM, or has no certificate")]
    Ca { upstream: String },
    #[error("upstream {upstream}: health check path {path:?} does not start with /")]
    HealthPath { upstream: String, path: String },
    #[error("upstream {upstream}: TLS cannot be set up")]
    Tls {
        upstream: String,
        #[source]
        source: rustls::Error,
    },
}

/// The upstreams of a node.
#[derive(Debug)]
pub struct Directory {
    groups: ArcSwap<HashMap<String, Arc<Group>>>,
    revision: AtomicU64,
    changed: watch::Sender<()>,
    workers: u32,
    clock: Clock,
    system_roots: OnceLock<Arc<RootCertStore>>,
}

/// What ejections are timed by: milliseconds since the directory was made fit into an atomic.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now_ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// An upstream as all workers share it.
#[derive(Debug)]
struct Group {
    settings: Settings,
    targets: Vec<Arc<Target>>,
    tls: Option<Arc<ClientConfig>>,
    clock: Clock,
    /// Connections of one worker to one target.
    share: u32,
}

/// A target as all workers share it. What is written with each request is in the workers' [`Counters`].
#[derive(Debug)]
pub(crate) struct Target {
    address: TargetAddress,
    host: HeaderValue,
    /// For TLS.
    server_name: Option<ServerName<'static>>,
    healthy: AtomicBool,
    /// Failures in a row.
    failures: AtomicU32,
    /// By the directory's clock; 0: not ejected.
    ejected_until_ms: AtomicU64,
    ejections: AtomicU64,
    counters: Mutex<Vec<Arc<Counters>>>,
}

/// What one worker counts of one target.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
    connects: AtomicU64,
    open: AtomicU32,
    idle: AtomicU32,
    in_flight: AtomicU32,
}

/// A target's figures, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetReport {
    pub upstream: String,
    /// Host and port.
    pub target: String,
    /// As its health checks say.
    pub healthy: bool,
    /// Left out for its failures.
    pub ejected: bool,
    /// Times it was ejected.
    pub ejections: u64,
    /// Attempts.
    pub requests: u64,
    /// Attempts that yielded no response for a reason that blames the target.
    pub failures: u64,
    /// Attempts that followed a failed one.
    pub retries: u64,
    /// Connections that were opened.
    pub connects: u64,
    /// Connections that are open, and those of them that wait for a request.
    pub connections_open: u32,
    pub connections_idle: u32,
    pub in_flight: u32,
}

impl Directory {
    /// The upstreams of a node with this number of worker threads.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(settings: Vec<Settings>, workers: usize) -> Result<Arc<Self>, SettingsError> {
        let directory = Self {
            groups: ArcSwap::default(),
            revision: AtomicU64::new(0),
            changed: watch::channel(()).0,
            workers: u32::try_from(workers.max(1)).unwrap_or(u32::MAX),
            clock: Clock(Instant::now()),
            system_roots: OnceLock::new(),
        };
        directory.update(settings)?;
        Ok(Arc::new(directory))
    }

    /// Replaces the upstreams. One whose settings are the same keeps its connections, health and figures.
    ///
    /// # Errors
    /// The first setting that cannot be used; nothing has changed then.
    pub fn update(&self, settings: Vec<Settings>) -> Result<(), SettingsError> {
        let old = self.groups.load();
        let mut groups = HashMap::with_capacity(settings.len());
        for settings in settings {
            let group = match old.get(&settings.name) {
                Some(group) if group.settings == settings => group.clone(),
                _ => Arc::new(self.group(settings)?),
            };
            groups.insert(group.settings.name.clone(), group);
        }
        self.groups.store(Arc::new(groups));
        self.revision.fetch_add(1, Ordering::Release);
        self.changed.send_replace(());
        Ok(())
    }

    /// The figures of all targets of the configured upstreams, by upstream and target.
    pub fn report(&self) -> Vec<TargetReport> {
        let groups = self.groups.load();
        let mut reports: Vec<_> = groups
            .values()
            .flat_map(|group| group.targets.iter().map(|target| target.report(group)))
            .collect();
        reports.sort_by(|a, b| (&a.upstream, &a.target).cmp(&(&b.upstream, &b.target)));
        reports
    }

    fn group(&self, settings: Settings) -> Result<Group, SettingsError> {
        let upstream = || settings.name.clone();
        if settings.targets.is_empty() {
            return Err(SettingsError::NoTargets {
                upstream: upstream(),
            });
        }
        if let Some(health) = &settings.health
            && !(health.path.starts_with('/')
                && health.path.parse::<http::uri::PathAndQuery>().is_ok())
        {
            return Err(SettingsError::HealthPath {
                upstream: upstream(),
                path: health.path.clone(),
            });
        }
        let targets = settings
            .targets
            .iter()
            .map(|address| Target::new(address, &settings).map(Arc::new));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let tls = targets
            .iter()
            .any(|target| target.address.tls)
            .then(|| self.tls(&settings))
            .transpose()?;
        let share = settings.connections_max.div_ceil(self.workers).max(1);
        Ok(Group {
            settings,
            targets,
            tls,
            clock: self.clock,
            share,
        })
    }

    fn tls(&self, settings: &Settings) -> Result<Arc<ClientConfig>, SettingsError> {
        let roots = match &settings.tls.ca {
            Some(pem) => read_roots(pem).ok_or_else(|| SettingsError::Ca {
                upstream: settings.name.clone(),
            })?,
            None => self.system_roots.get_or_init(system_roots).clone(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|source| SettingsError::Tls {
                upstream: settings.name.clone(),
                source,
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = match settings.protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![crate::listen::tls::ALPN_H2.to_vec()],
        };
        Ok(Arc::new(config))
    }
}

fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}

fn read_roots(pem: &[u8]) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then(|| Arc::new(roots))
}

impl Target {
    fn new(address: &TargetAddress, settings: &Settings) -> Result<Self, SettingsError> {
        let name = settings.tls.server_name.as_ref().unwrap_or(&address.host);
        let bad_name = || SettingsError::ServerName {
            upstream: settings.name.clone(),
            name: name.clone(),
        };
        let server_name = address
            .tls
            .then(|| ServerName::try_from(name.clone()))
            .transpose()
            .map_err(|_| bad_name())?;
        let host = HeaderValue::try_from(address.authority()).map_err(|_| bad_name())?;
        Ok(Self {
            address: address.clone(),
            host,
            server_name,
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            counters: Mutex::default(),
        })
    }

    fn authority(&self) -> String {
        self.address.authority()
    }

    fn standing(&self, clock: Clock) -> Standing {
        if !self.healthy.load(Ordering::Relaxed) {
            Standing::Unhealthy
        } else if self.is_ejected(clock) {
            Standing::Ejected
        } else {
            Standing::Healthy
        }
    }

    fn is_ejected(&self, clock: Clock) -> bool {
        let until = self.ejected_until_ms.load(Ordering::Relaxed);
        until != 0 && clock.now_ms() < until
    }

    fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until_ms.store(0, Ordering::Relaxed);
        }
    }

    fn report(&self, group: &Group) -> TargetReport {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |count: fn(&Counters) -> &AtomicU64| -> u64 {
            counters
                .iter()
                .map(|counters| count(counters).load(Ordering::Relaxed))
                .sum()
        };
        let total = |count: fn(&Counters) -> &AtomicU32| -> u32 {
            counters
                .iter()
                .map(|counters| count(counters).load(Ordering::Relaxed))
                .sum()
        };
        TargetReport {
            upstream: group.settings.name.clone(),
            target: self.authority(),
            healthy: self.healthy.load(Ordering::Relaxed),
            ejected: self.is_ejected(group.clock),
            ejections: self.ejections.load(Ordering::Relaxed),
            requests: sum(|counters| &counters.requests),
            failures: sum(|counters| &counters.failures),
            retries: sum(|counters| &counters.retries),
            connects: sum(|counters| &counters.connects),
            connections_open: total(|counters| &counters.open),
            connections_idle: total(|counters| &counters.idle),
            in_flight: total(|counters| &counters.in_flight),
        }
    }
}

impl Group {
    /// A request failed for a reason that blames the target.
    fn failed(&self, target: &Target) {
        let failures = target.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(ejection) = &self.settings.ejection else {
            return;
        };
        if failures < ejection.failures || target.is_ejected(self.clock) {
            return;
        }
        let ejected = self
            .targets
            .iter()
            .filter(|target| target.is_ejected(self.clock))
            .count();
        if may_eject(self.targets.len(), ejected) {
            let period = u64::try_from(ejection.period.as_millis()).unwrap_or(u64::MAX);
            target.ejected_until_ms.store(
                self.clock.now_ms().saturating_add(period),
                Ordering::Relaxed,
            );
            target.ejections.fetch_add(1, Ordering::Relaxed);
            let (upstream, target) = (&self.settings.name, target.authority());
            tracing::warn!(%upstream, %target, failures, "target ejected");
        }
    }
}

/// One worker's upstreams and connections.
#[derive(Debug)]
pub struct Upstreams {
    directory: Arc<Directory>,
    /// The directory's revision at the last look.
    seen: Cell<u64>,
    named: RefCell<HashMap<String, Handle>>,
    ad_hoc: RefCell<AdHoc>,
    resolver: Rc<Resolver>,
}

/// An upstream on one worker. Cheap to clone; keeps its connections as long as it is held.
#[derive(Debug, Clone)]
pub struct Handle(Rc<Upstream>);

#[derive(Debug)]
struct Upstream {
    group: Arc<Group>,
    targets: Vec<LocalTarget>,
    turn: Cell<usize>,
    budget: RefCell<RetryBudget>,
    resolver: Rc<Resolver>,
}

#[derive(Debug)]
struct LocalTarget {
    shared: Arc<Target>,
    pool: Pool,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Pool {
    Http1(Rc<Http1Pool>),
    Http2(Rc<Http2Pool>),
}

/// Upstreams that are not configured: hosts that integrations name.
#[derive(Debug, Default)]
struct AdHoc {
    handles: HashMap<TargetAddress, (Handle, u64)>,
    uses: u64,
}

impl Upstreams {
    /// A worker's view of a directory.
    pub fn new(directory: Arc<Directory>) -> Self {
        Self {
            directory,
            seen: Cell::new(0),
            named: RefCell::default(),
            ad_hoc: RefCell::default(),
            resolver: Rc::default(),
        }
    }

    /// The upstream of that name as it is configured now; a handle of an older one still works.
    pub fn named(&self, name: &str) -> Option<Handle> {
        let revision = self.directory.revision.load(Ordering::Acquire);
        if self.seen.replace(revision) != revision {
            self.refresh();
        }
        self.named.borrow().get(name).cloned()
    }

    /// An upstream for a host that is not configured, with default settings. The least recently used one makes room when
    /// there are [`AD_HOC_MAX`].
    ///
    /// # Errors
    /// Where the host cannot be a server's name.
    pub fn resolve(&self, address: &TargetAddress) -> Result<Handle, SettingsError> {
        let mut ad_hoc = self.ad_hoc.borrow_mut();
        ad_hoc.uses += 1;
        let uses = ad_hoc.uses;
        if let Some((handle, used)) = ad_hoc.handles.get_mut(address) {
            *used = uses;
            return Ok(handle.clone());
        }
        let group = self
            .directory
            .group(Settings::new(address.authority(), address.clone()))?;
        let handle = self.handle(Arc::new(group));
        if ad_hoc.handles.len() >= AD_HOC_MAX {
            let oldest = ad_hoc
                .handles
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(address, _)| address.clone());
            if let Some(oldest) = oldest {
                ad_hoc.handles.remove(&oldest);
            }
        }
        ad_hoc
            .handles
            .insert(address.clone(), (handle.clone(), uses));
        Ok(handle)
    }

    fn refresh(&self) {
        let groups = self.directory.groups.load();
        let mut named = self.named.borrow_mut();
        named.retain(|name, handle| {
            groups
                .get(name)
                .is_some_and(|group| Arc::ptr_eq(group, &handle.0.group))
        });
        for (name, group) in groups.iter() {
            if !named.contains_key(name) {
                named.insert(name.clone(), self.handle(group.clone()));
            }
        }
    }

    fn handle(&self, group: Arc<Group>) -> Handle {
        let targets = group
            .targets
            .iter()
            .map(|target| LocalTarget::new(target.clone(), &group))
            .collect();
        Handle(Rc::new(Upstream {
            group,
            targets,
            turn: Cell::new(0),
            budget: RefCell::default(),
            resolver: self.resolver.clone(),
        }))
    }
}

impl LocalTarget {
    fn new(shared: Arc<Target>, group: &Group) -> Self {
        let counters = Arc::new(Counters::default());
        shared
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(counters.clone());
        let idle_timeout = group.settings.idle_timeout;
        let pool = match group.settings.protocol {
            Protocol::Http1 => {
                Pool::Http1(Http1Pool::new(group.share, idle_timeout, counters.clone()))
            }
            Protocol::Http2 => {
                Pool::Http2(Http2Pool::new(group.share, idle_timeout, counters.clone()))
            }
        };
        Self {
            shared,
            pool,
            counters,
        }
    }
}

/// A request's place at a target, from when it is sent until its response has ended.
#[derive(Debug)]
pub(crate) struct Lease {
    counters: Arc<Counters>,
    _stream: Option<OpenStream>,
}

impl Lease {
    fn new(counters: Arc<Counters>) -> Self {
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            counters,
            _stream: None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Adds one; only the worker whose they are does.
    fn count(counter: &AtomicU64) {
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Hosts that one worker holds connections to beside the configured upstreams.
pub const AD_HOC_MAX: usize = 256;

#[cfg(test)]
mod tests;
