//! What capabilities reach outside the sandbox: the node's keys, buckets, secrets, tables, log and HTTP client.

pub mod client;
pub mod jwks;
pub mod keys;
mod known;
pub mod nothing;
pub mod quota;
pub mod rate_limit;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Request, Response};
use tidegate_sandbox::Fault;
use tidegate_sandbox::capabilities::keyvalue::Table;
use tidegate_sandbox::capabilities::{Services, Waiting};
use tidegate_sandbox::wit::{self, ApiKey, HttpError, Level, OutgoingRequest, QuotaTerms, Taken};
use wasmtime_wasi_http::WasiBody;

use crate::store::Tables;
use crate::telemetry::entry;
use crate::telemetry::lines::Lines;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::tail::Tail;
use client::Client;
use jwks::KeySets;
use keys::Keys;
use quota::{Quotas, Taking};
use rate_limit::Buckets;

/// A node's services. One, shared by all threads.
pub struct NodeServices {
    pub keys: ArcSwap<Keys>,
    pub secrets: ArcSwap<BTreeMap<String, String>>,
    /// What plugins said last.
    pub tail: Arc<Tail>,
    pub buckets: Buckets,
    pub quotas: Arc<Quotas>,
    client: Client,
    key_sets: Arc<KeySets>,
    tables: Arc<dyn Tables>,
    lines: Lines,
    metrics: Arc<Metrics>,
}

impl NodeServices {
    pub fn new(
        buckets: Buckets,
        client: Client,
        tables: Arc<dyn Tables>,
        lines: Lines,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            keys: ArcSwap::default(),
            secrets: ArcSwap::default(),
            tail: Arc::default(),
            buckets,
            quotas: Arc::default(),
            key_sets: Arc::new(KeySets::new(client.clone())),
            client,
            tables,
            lines,
            metrics,
        }
    }
}

impl Services for NodeServices {
    fn log(&self, binding: &str, request_id: Option<&str>, level: Level, message: &str) {
        self.tail.write(name(level), binding, request_id, message);
        let message = entry::in_one(message);
        match level {
            Level::Trace => tracing::trace!(target: "plugin", binding, request_id, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", binding, request_id, "{message}"),
            Level::Info => tracing::info!(target: "plugin", binding, request_id, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", binding, request_id, "{message}"),
            Level::Error => tracing::error!(target: "plugin", binding, request_id, "{message}"),
        }
    }

    fn fault(&self, binding: &str, request_id: Option<&str>, fault: &Fault) {
        // One that is spared said why when it was not.
        if !matches!(fault, Fault::CircuitOpen(_)) {
            self.tail
                .write("fault", binding, request_id, &fault.to_string());
        }
    }

    fn take_token(&self, scope: &str, key: &str, rate: f64, burst: u32) -> Taken {
        self.buckets.take(scope, key, rate, burst)
    }

    fn take_quota(&self, scope: &str, key: &str, amount: u32, terms: QuotaTerms) -> Taking {
        self.quotas.take(scope, key, amount, terms)
    }

    fn find_api_key(&self, scope: &str, value: &str) -> Option<ApiKey> {
        self.keys.load().find(scope, value)
    }

    fn secret(&self, name: &str) -> Option<String> {
        self.secrets.load().get(name).cloned()
    }

    fn count(&self, binding: &str, event: &str, amount: u32) {
        self.metrics.count_event(binding, event, amount);
    }

    fn write_lines(&self, destination: &str, lines: Vec<String>) {
        self.lines.write(destination, lines);
    }

    fn fetch_keys(&self, uri: String, refresh: bool) -> Waiting<Result<String, String>> {
        let key_sets = self.key_sets.clone();
        Box::pin(async move { key_sets.get(uri, refresh).await })
    }

    fn send(&self, request: OutgoingRequest) -> Waiting<Result<wit::Response, HttpError>> {
        let client = self.client.clone();
        Box::pin(async move { client.send_whole(request).await })
    }

    fn send_streaming(
        &self,
        request: Request<WasiBody>,
    ) -> Waiting<Result<Response<WasiBody>, HttpError>> {
        let client = self.client.clone();
        Box::pin(async move { client.send_streaming(request).await })
    }

    fn table(&self, name: &str) -> Option<Arc<dyn Table>> {
        self.tables.table(name)
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}
