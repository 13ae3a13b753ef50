//! Metrics, in Prometheus' text format.
//!
//! What requests count is sharded by worker: each thread adds to numbers of its own, and a scrape sums them up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use tidegate_model::deployment::Snapshot;
use tidegate_sandbox::{Account, Capability};

use crate::cache::disk::Disk;
use crate::cache::{Cache, Outcome};
use crate::serving::Serving;
use crate::upstream::Directory;

/// All metrics of a node.
pub struct Metrics {
    shards: usize,
    routes: Mutex<BTreeMap<RouteName, Arc<RouteMetrics>>>,
    unrouted: Arc<RouteMetrics>,
    /// Log records that were lost.
    pub records_lost: Arc<AtomicU64>,
    /// What plugins count by themselves.
    events: Mutex<HashMap<(String, String), u64>>,
    /// What plugins and functions count is read from.
    serving: Mutex<Option<Arc<Serving>>>,
    upstreams: Mutex<Option<Arc<Directory>>>,
    cache: Mutex<Option<Arc<Cache>>>,
    revision: AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct RouteName {
    api: String,
    stage: String,
    route: String,
}

/// Whose account it is.
pub struct Bound<'a> {
    /// Where it was written; a function's name.
    pub binding: &'a str,
    pub step: &'a str,
    pub plugin: &'a str,
    /// The component's hash.
    pub version: &'a str,
}

/// The metrics that a deployment's stages count on.
pub struct DeployedMetrics {
    /// In the order of the snapshot's stages.
    pub stages: Vec<StageMetrics>,
    pub unrouted: Arc<RouteMetrics>,
    pub records_lost: Arc<AtomicU64>,
}

/// The metrics of a stage.
pub struct StageMetrics {
    /// In the order of the stage's routes.
    pub routes: Vec<Arc<RouteMetrics>>,
    pub unrouted: Arc<RouteMetrics>,
}

/// Requests of one route.
pub struct RouteMetrics(Box<[Shard]>);

/// A worker's numbers, on cache lines of their own: the sum of times and the short ones share a line.
#[repr(C, align(128))]
struct Shard {
    latency_ns: AtomicU64,
    by_latency: [AtomicU64; BUCKETS.len() + 1],
    by_status: [AtomicU64; STATUS_CODES],
}

impl RouteMetrics {
    fn new(shards: usize) -> Arc<Self> {
        let shard = || Shard {
            latency_ns: AtomicU64::new(0),
            by_latency: [const { AtomicU64::new(0) }; BUCKETS.len() + 1],
            by_status: [const { AtomicU64::new(0) }; STATUS_CODES],
        };
        Arc::new(Self((0..shards).map(|_| shard()).collect()))
    }

    /// Counts a request on a worker's shard.
    pub fn observe(&self, shard: usize, status: StatusCode, latency: Duration) {
        let shard = &self.0[shard];
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|bound| *bound < nanoseconds);
        // One thread writes a shard, so these are plain additions to memory that is its own.
        shard.by_status[usize::from(status.as_u16().clamp(100, 599) - 100)]
            .fetch_add(1, Ordering::Relaxed);
        shard.by_latency[bucket].fetch_add(1, Ordering::Relaxed);
        shard.latency_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn sum(&self, count: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.0
            .iter()
            .map(|shard| count(shard).load(Ordering::Relaxed))
            .sum()
    }
}

impl Metrics {
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            shards,
            routes: Mutex::default(),
            unrouted: RouteMetrics::new(shards),
            records_lost: Arc::default(),
            events: Mutex::default(),
            serving: Mutex::default(),
            upstreams: Mutex::default(),
            cache: Mutex::default(),
            revision: AtomicU64::new(0),
        })
    }

    /// Requests answered since the start.
    pub fn requests_total(&self) -> u64 {
        let routes = lock(&self.routes);
        let all = routes.values().chain([&self.unrouted]);
        let of = |route: &Arc<RouteMetrics>| -> u64 {
            (0..STATUS_CODES)
                .map(|code| route.sum(|shard| &shard.by_status[code]))
                .sum()
        };
        all.map(of).sum()
    }

    /// The metrics for a deployment's stages: those of routes that were there before go on. Those of routes that no
    /// deployment has any more go with it: definitions that change for years leave nothing behind.
    pub fn deployed(&self, snapshot: &Snapshot) -> DeployedMetrics {
        lock(&self.routes).retain(|_, route| Arc::strong_count(route) > 1);
        let stages = snapshot.stages.iter().map(|stage| {
            let route = |route: &str| {
                self.route(RouteName {
                    api: stage.api_id.clone(),
                    stage: stage.name.clone(),
                    route: route.to_owned(),
                })
            };
            let routes = stage
                .entries
                .iter()
                .map(|entry| route(&entry.key))
                .collect();
            StageMetrics {
                routes,
                unrouted: route(""),
            }
        });
        DeployedMetrics {
            stages: stages.collect(),
            unrouted: self.unrouted.clone(),
            records_lost: self.records_lost.clone(),
        }
    }

    /// What is served from now on.
    pub fn serve(&self, serving: &Arc<Serving>) {
        *lock(&self.serving) = Some(serving.clone());
        self.revision.fetch_add(1, Ordering::Relaxed);
        let names: BTreeSet<&str> = serving
            .deployments()
            .flat_map(|deployed| deployed.bindings.iter().map(|binding| binding.name()))
            .collect();
        lock(&self.events).retain(|(binding, _), _| names.contains(binding.as_str()));
    }

    /// Where the upstreams' numbers come from.
    pub fn watch_upstreams(&self, directory: Arc<Directory>) {
        *lock(&self.upstreams) = Some(directory);
    }

    /// Where the cache's numbers come from.
    pub fn watch_cache(&self, cache: Arc<Cache>) {
        *lock(&self.cache) = Some(cache);
    }

    /// Adds to a plugin's own counter.
    pub fn count_event(&self, binding: &str, event: &str, amount: u32) {
        let mut events = lock(&self.events);
        let key = (binding.to_owned(), event.to_owned());
        let known = events.contains_key(&key);
        let of_binding = || events.keys().filter(|(other, _)| other == binding).count();
        let key = if known || of_binding() < EVENTS_MAX {
            key
        } else {
            (binding.to_owned(), "other".to_owned())
        };
        *events.entry(key).or_default() += u64::from(amount);
    }

    /// All metrics in the text format.
    pub fn render(&self) -> String {
        let mut families = self.request_families();
        families.extend(self.plugin_families());
        families.extend(self.upstream_families());
        families.extend(self.cache_families());
        families.extend(self.node_families());
        families.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        if TextEncoder::new().encode(&families, &mut text).is_err() {
            text.clear(); // only a family without metrics is refused, and those are gone
        }
        String::from_utf8(text).unwrap_or_default()
    }

    fn route(&self, name: RouteName) -> Arc<RouteMetrics> {
        lock(&self.routes)
            .entry(name)
            .or_insert_with(|| RouteMetrics::new(self.shards))
            .clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    fn request_families(&self) -> Vec<MetricFamily> {
        let mut requests = family(
            "tidegate_requests_total",
            "Requests answered (API Gateway: Count; 4XXError and 5XXError by status).",
            MetricType::COUNTER,
        );
        let mut latency = family(
            "tidegate_request_duration_seconds",
            "From the request's header section to the response's (API Gateway: Latency).",
            MetricType::HISTOGRAM,
        );
        let routes = lock(&self.routes);
        let unrouted = (RouteName::default(), self.unrouted.clone());
        let all = routes
            .iter()
            .map(|(name, route)| (name.clone(), route.clone()))
            .chain([unrouted]);
        for (name, route) in all {
            let labels = [
                ("api", name.api.as_str()),
                ("stage", &name.stage),
                ("route", &name.route),
            ];
            for code in 0..STATUS_CODES {
                let count = route.sum(|shard| &shard.by_status[code]);
                if count > 0 {
                    let status = (code + 100).to_string();
                    let mut with_status = labels.to_vec();
                    with_status.push(("status", &status));
                    requests
                        .mut_metric()
                        .push(counter(&with_status, count as f64));
                }
            }
            if let Some(histogram) = histogram(&route) {
                let mut metric = labelled(&labels);
                metric.set_histogram(histogram);
                latency.mut_metric().push(metric);
            }
        }
        vec![requests, latency]
    }

    fn plugin_families(&self) -> Vec<MetricFamily> {
        let mut calls = family(
            "tidegate_plugin_calls_total",
            "Step calls of a binding, or invocations of a function.",
            MetricType::COUNTER,
        );
        let mut time = family(
            "tidegate_plugin_seconds_total",
            "Wall-clock time of the calls, waiting included.",
            MetricType::COUNTER,
        );
        let mut busy = family(
            "tidegate_plugin_busy_seconds_total",
            "Time in which the calls held a worker's thread: CPU time, but for what the system took the thread away for.",
            MetricType::COUNTER,
        );
        let mut faults = family(
            "tidegate_plugin_faults_total",
            "Calls that ended in a fault.",
            MetricType::COUNTER,
        );
        let mut refused = family(
            "tidegate_plugin_calls_refused_total",
            "Calls that were not made after many faults in a row.",
            MetricType::COUNTER,
        );
        let mut started = family(
            "tidegate_plugin_instances_started_total",
            "Instances made.",
            MetricType::COUNTER,
        );
        let mut alive = family(
            "tidegate_plugin_instances",
            "Instances alive.",
            MetricType::GAUGE,
        );
        let mut memory = family(
            "tidegate_plugin_memory_bytes",
            "Linear memory of the instances alive.",
            MetricType::GAUGE,
        );
        let mut host_calls = family(
            "tidegate_plugin_host_calls_total",
            "Calls of the host's capabilities.",
            MetricType::COUNTER,
        );
        self.each_account(|bound, account| {
            let labels = [
                ("binding", bound.binding),
                ("step", bound.step),
                ("version", short(bound.version)),
            ];
            let counters = [
                (&mut calls, account.calls() as f64),
                (&mut time, account.time().as_secs_f64()),
                (&mut busy, account.busy().as_secs_f64()),
                (&mut faults, account.faults() as f64),
                (&mut refused, account.refused() as f64),
                (&mut started, account.instances_started() as f64),
            ];
            for (family, value) in counters {
                family.mut_metric().push(counter(&labels, value));
            }
            let gauges = [
                (&mut alive, account.instances()),
                (&mut memory, account.memory_bytes()),
            ];
            for (family, value) in gauges {
                family.mut_metric().push(gauge(&labels, value as f64));
            }
            for capability in Capability::ALL {
                let count = account.host_calls(capability);
                if count > 0 {
                    let [binding, step, version] = labels;
                    let labels = [binding, step, version, ("capability", capability.name())];
                    host_calls.mut_metric().push(counter(&labels, count as f64));
                }
            }
        });
        let mut events = family(
            "tidegate_plugin_events_total",
            "What plugins count by themselves.",
            MetricType::COUNTER,
        );
        for ((binding, event), count) in &*lock(&self.events) {
            events.mut_metric().push(counter(
                &[("binding", binding), ("event", event)],
                *count as f64,
            ));
        }
        vec![
            calls, time, busy, faults, refused, started, alive, memory, host_calls, events,
        ]
    }

    /// Looks at the account of every binding and function that is served.
    pub fn each_account(&self, mut look: impl FnMut(&Bound<'_>, &Account)) {
        let serving = lock(&self.serving).clone();
        let deployments = serving.iter().flat_map(|serving| serving.deployments());
        // What a canary did not change, both sides share.
        let mut seen = HashSet::new();
        for deployed in deployments {
            for (binding, spec) in deployed.bindings.iter().zip(&deployed.snapshot.bindings) {
                if seen.insert(Arc::as_ptr(&binding.account)) {
                    let bound = Bound {
                        binding: binding.name(),
                        step: binding.step.name(),
                        plugin: &spec.plugin,
                        version: &binding.plugin().hash,
                    };
                    look(&bound, &binding.account);
                }
            }
            for (name, linked) in &deployed.functions {
                if seen.insert(Arc::as_ptr(&linked.account)) {
                    let bound = Bound {
                        binding: name,
                        step: "function",
                        plugin: name,
                        version: &linked.function.hash,
                    };
                    look(&bound, &linked.account);
                }
            }
        }
    }

    fn upstream_families(&self) -> Vec<MetricFamily> {
        let mut requests = family(
            "tidegate_upstream_requests_total",
            "Requests sent to a target.",
            MetricType::COUNTER,
        );
        let mut failures = family(
            "tidegate_upstream_failures_total",
            "Requests that a target failed.",
            MetricType::COUNTER,
        );
        let mut retries = family(
            "tidegate_upstream_retries_total",
            "Requests sent to a target after another attempt failed.",
            MetricType::COUNTER,
        );
        let mut ejections = family(
            "tidegate_upstream_ejections_total",
            "How often a target was left out for its failures.",
            MetricType::COUNTER,
        );
        let mut open = family(
            "tidegate_upstream_connections",
            "Connections to a target.",
            MetricType::GAUGE,
        );
        let mut healthy = family(
            "tidegate_upstream_healthy",
            "Whether a target is sent requests (1) or not (0).",
            MetricType::GAUGE,
        );
        let reports = lock(&self.upstreams)
            .as_ref()
            .map(|directory| directory.report())
            .unwrap_or_default();
        for report in reports {
            let labels = [
                ("upstream", report.upstream.as_str()),
                ("target", &report.target),
            ];
            requests
                .mut_metric()
                .push(counter(&labels, report.requests as f64));
            failures
                .mut_metric()
                .push(counter(&labels, report.failures as f64));
            retries
                .mut_metric()
                .push(counter(&labels, report.retries as f64));
            ejections
                .mut_metric()
                .push(counter(&labels, report.ejections as f64));
            for (state, count) in [
                ("idle", report.connections_idle),
                ("open", report.connections_open),
            ] {
                let with_state = [labels[0], labels[1], ("state", state)];
                open.mut_metric().push(gauge(&with_state, f64::from(count)));
            }
            healthy.mut_metric().push(gauge(
                &labels,
                f64::from(u8::from(report.healthy && !report.ejected)),
            ));
        }
        vec![requests, failures, retries, ejections, open, healthy]
    }

    fn cache_families(&self) -> Vec<MetricFamily> {
        let Some(cache) = lock(&self.cache).clone() else {
            return Vec::new();
        };
        let mut requests = family(
            "tidegate_cache_requests_total",
            "Requests to routes that cache, by what the cache did (API Gateway: CacheHitCount, CacheMissCount).",
            MetricType::COUNTER,
        );
        for outcome in Outcome::ALL {
            let labels = [("outcome", outcome.name())];
            let count = cache.counted(outcome) as f64;
            requests.mut_metric().push(counter(&labels, count));
        }
        let (entries, bytes, evictions) = cache.store.size();
        let mut evicted = family(
            "tidegate_cache_evictions_total",
            "Entries that made room for others.",
            MetricType::COUNTER,
        );
        evicted.mut_metric().push(counter(&[], evictions as f64));
        let gauges = [
            (
                "tidegate_cache_entries",
                "Keys with stored responses.",
                entries,
            ),
            (
                "tidegate_cache_bytes",
                "What stored responses take, with what finds them.",
                bytes,
            ),
            (
                "tidegate_cache_waiting",
                "Requests that wait for another one's answer.",
                cache.waiting(),
            ),
        ];
        let gauges = gauges.map(|(name, help, value)| {
            let mut family = family(name, help, MetricType::GAUGE);
            family.mut_metric().push(gauge(&[], value as f64));
            family
        });
        let mut families = vec![requests, evicted];
        families.extend(gauges);
        families.extend(cache.store.disk().map(disk_families).into_iter().flatten());
        families
    }

    fn node_families(&self) -> Vec<MetricFamily> {
        let mut lost = family(
            "tidegate_log_records_lost_total",
            "Log records that no sink took.",
            MetricType::COUNTER,
        );
        lost.mut_metric().push(counter(
            &[],
            self.records_lost.load(Ordering::Relaxed) as f64,
        ));
        let mut revision = family(
            "tidegate_deployments_total",
            "Deployments that were served since the start.",
            MetricType::COUNTER,
        );
        revision
            .mut_metric()
            .push(counter(&[], self.revision.load(Ordering::Relaxed) as f64));
        let mut live = family(
            "tidegate_instances_live",
            "Instances of plugins and functions in memory, also of those that are served no more.",
            MetricType::GAUGE,
        );
        live.mut_metric().push(gauge(
            &[],
            tidegate_sandbox::limits::instances_live() as f64,
        ));
        vec![lost, revision, live]
    }
}

/// Enough of a hash to tell versions apart.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn histogram(route: &RouteMetrics) -> Option<proto::Histogram> {
    let mut histogram = proto::Histogram::default();
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(BUCKETS.len());
    for (place, bound) in BUCKETS.iter().enumerate() {
        cumulative += route.sum(|shard| &shard.by_latency[place]);
        let mut bucket = proto::Bucket::default();
        bucket.set_cumulative_count(cumulative);
        bucket.set_upper_bound(*bound as f64 / 1e9);
        buckets.push(bucket);
    }
    cumulative += route.sum(|shard| &shard.by_latency[BUCKETS.len()]);
    histogram.set_bucket(buckets);
    histogram.set_sample_count(cumulative);
    histogram.set_sample_sum(route.sum(|shard| &shard.latency_ns) as f64 / 1e9);
    (cumulative > 0).then_some(histogram)
}

fn disk_families(disk: &Disk) -> Vec<MetricFamily> {
    let figures = disk.figures();
    let stopped = u64::from(figures.stopped);
    let one = |name, help, value: u64, kind| {
        let mut family = family(name, help, kind);
        family.mut_metric().push(match kind {
            MetricType::GAUGE => gauge(&[], value as f64),
            _ => counter(&[], value as f64),
        });
        family
    };
    let gauges = [
        (
            "tidegate_cache_disk_entries",
            "Keys with responses on disk.",
            figures.entries,
        ),
        (
            "tidegate_cache_disk_bytes",
            "What the cache's files take.",
            figures.bytes,
        ),
        (
            "tidegate_cache_disk_stopped",
            "Whether nothing is written at the moment, since the disk refused.",
            stopped,
        ),
    ];
    let counters = [
        (
            "tidegate_cache_disk_hits_total",
            "Entries that were read from disk.",
            figures.hits,
        ),
        (
            "tidegate_cache_disk_writes_total",
            "Entries that were written to disk.",
            figures.writes,
        ),
        (
            "tidegate_cache_disk_dropped_total",
            "Entries that were not written, since the disk was too slow, too small or full.",
            figures.dropped,
        ),
        (
            "tidegate_cache_disk_corrupt_total",
            "Damaged entries and files.",
            figures.corrupt,
        ),
    ];
    let gauges = gauges.map(|(name, help, value)| one(name, help, value, MetricType::GAUGE));
    let counters = counters.map(|(name, help, value)| one(name, help, value, MetricType::COUNTER));
    gauges.into_iter().chain(counters).collect()
}

fn family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

fn labelled(labels: &[(&str, &str)]) -> proto::Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut metric = proto::Metric::default();
    metric.set_label(labels.iter().map(pair).collect());
    metric
}

fn counter(labels: &[(&str, &str)], value: f64) -> proto::Metric {
    let mut metric = labelled(labels);
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> proto::Metric {
    let mut metric = labelled(labels);
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

/// Status codes 100 to 599.
const STATUS_CODES: usize = 500;
/// Upper bounds of the latency buckets, in nanoseconds: half a millisecond to API Gateway's timeout.
const BUCKETS: [u64; 15] = [
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    30_000_000_000,
];
/// Counters of one binding's own; the contract's bound.
const EVENTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_buckets_are_cumulative() {
        let metrics = Metrics::new(2);
        let route = metrics.route(RouteName {
            api: "a".into(),
            stage: "dev".into(),
            route: "GET /".into(),
        });
        route.observe(0, StatusCode::OK, Duration::from_micros(200));
        route.observe(1, StatusCode::OK, Duration::from_millis(3));
        let text = metrics.render();
        let expected =
            r#"tidegate_requests_total{api="a",route="GET /",stage="dev",status="200"} 2"#;
        let as_written =
            r#"tidegate_requests_total{api="a",stage="dev",route="GET /",status="200"} 2"#;
        assert!(
            text.contains(expected) || text.contains(as_written),
            "{text}"
        );
        assert!(text.contains(r#"le="0.0005"} 1"#), "{text}");
        assert!(text.contains(r#"le="0.005"} 2"#), "{text}");
    }

    #[test]
    fn a_plugin_cannot_make_counters_without_end() {
        let metrics = Metrics::new(1);
        for number in 0..100 {
            metrics.count_event("binding", &number.to_string(), 1);
        }
        let events = lock(&metrics.events);
        assert_eq!(events.len(), EVENTS_MAX + 1);
        assert_eq!(
            events[&("binding".to_owned(), "other".to_owned())],
            100 - EVENTS_MAX as u64
        );
    }
}
