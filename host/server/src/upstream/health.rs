//! Active health checks: one task for each target of the node that has them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tidegate_model::balance::Health;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};
use tracing::{debug, info, warn};

use super::connect::{self, Resolver};
use super::{Directory, Group, HealthCheck, Protocol, Target};
use crate::body::Body;
use crate::stream::LocalExecutor;

impl Directory {
    /// Checks targets for as long as it is polled, also those that an update brings. One call for a node, on a runtime that
    /// can spawn local tasks.
    pub async fn check_health(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let mut checks = JoinSet::new();
            for group in self.groups.load().values() {
                for target in &group.targets {
                    if let Some(check) = &group.settings.health {
                        checks.spawn_local(watch(group.clone(), target.clone(), check.clone()));
                    }
                }
            }
            // Dropping the set ends the checks. `self` has the sender, so there is always something to wait for.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn watch(group: Arc<Group>, target: Arc<Target>, check: HealthCheck) {
    let resolver = Resolver::default();
    let mut health = Health::unknown();
    let mut interval = tokio::time::interval(check.interval.max(INTERVAL_MIN));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let status = ask(&resolver, &group, &target, &check).await;
        let passed = status
            .as_ref()
            .is_ok_and(|status| check.status.contains(*status));
        let before = target.healthy.load(Ordering::Relaxed);
        health.observe(passed, check.thresholds);
        target.healthy.store(health.healthy, Ordering::Relaxed);
        let (upstream, target) = (&group.settings.name, target.authority());
        match (before, health.healthy) {
            (true, false) => warn!(%upstream, %target, ?status, "target is unhealthy"),
            (false, true) => info!(%upstream, %target, "target is healthy"),
            _ => debug!(%upstream, %target, passed, "target checked"),
        }
    }
}

/// The status code that the target answers with, on a connection of its own.
async fn ask(
    resolver: &Resolver,
    group: &Group,
    target: &Target,
    check: &HealthCheck,
) -> Result<StatusCode, String> {
    let deadline = Instant::now() + check.timeout;
    let protocol = group.settings.protocol;
    let stream = connect::connect(resolver, target, group.tls.as_ref(), protocol, deadline)
        .await
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let io = TokioIo::new(stream);
        let response = match protocol {
            Protocol::Http1 => {
                let (mut sender, driven) = http1::handshake::<_, Body>(io).await?;
                let _driver = Driver::spawn(driven);
                sender.send_request(http1_request(target, check)).await?
            }
            Protocol::Http2 => {
                let (mut sender, driven) =
                    http2::handshake::<_, _, Body>(LocalExecutor, io).await?;
                let _driver = Driver::spawn(driven);
                sender.send_request(http2_request(target, check)).await?
            }
        };
        hyper::Result::Ok(response.status())
    };
    match timeout_at(deadline, exchange).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("timed out".to_owned()),
    }
}

fn http1_request(target: &Target, check: &HealthCheck) -> Request<Body> {
    let mut request = request(&check.path);
    request.headers_mut().insert(HOST, target.host.clone());
    request
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    request
}

fn http2_request(target: &Target, check: &HealthCheck) -> Request<Body> {
    let scheme = if target.address.tls { "https" } else { "http" };
    request(&format!("{scheme}://{}{}", target.authority(), check.path))
}

fn request(uri: &str) -> Request<Body> {
    let mut request = Request::new(Body::Empty);
    // The directory has parsed the path and the authority.
    *request.uri_mut() = uri.parse().unwrap_or_default();
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static("tidegate-health"));
    request
}

/// Drives a connection until it is dropped.
struct Driver(tokio::task::AbortHandle);

impl Driver {
    fn spawn(driven: impl Future<Output = hyper::Result<()>> + 'static) -> Self {
        Self(tokio::task::spawn_local(driven).abort_handle())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whatever is configured: no more often than a target can bear from many nodes.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
