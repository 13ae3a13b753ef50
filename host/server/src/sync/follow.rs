//! A follower's part: hears what happens at its origins, fetches what it lacks, deploys it, and reports.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tidegate_model::uri;
use tidegate_sandbox::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::manifest::Manifest;
use super::nodes::{Leases, Nodes, Report};
use super::publish::Publisher;
use super::purges::{Position, Purges};
use super::trial::{Trial, Tried};
use crate::body::Body;
use crate::cache::Cache;
use crate::cache::purge::Purge;
use crate::control::{Command, Commands};
use crate::identity::Role;
use crate::link::dial::Dialer;
use crate::link::origins::UNKNOWN;
use crate::link::{self, ARTIFACTS, EVENTS, FILES, RENEW, REPORT};
use crate::services::NodeServices;
use crate::services::quota::ledger::{Settle, Settled, Settlement};
use crate::serving::Serving;
use crate::telemetry::metrics::Metrics;

/// What happens at an origin: one line of JSON each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The first one, with the sequence of what it serves, where that is known.
    Hello { name: String, sequence: Option<u64> },
    /// What it serves now.
    Snapshot { manifest: Box<Manifest> },
    /// What is on trial beside it now; nothing, as long as nothing was told.
    Trial { trial: Option<Box<Trial>> },
    /// Something of the cache is to go.
    Purge { query: String, at: Position },
    /// More was purged than is known: everything is to go.
    PurgeAll { at: Position },
    /// Nothing happened for a second.
    Beat,
}

/// A node that serves what its origins do.
pub struct Follower {
    pub dialer: Rc<Dialer>,
    pub publisher: Arc<Publisher>,
    pub commands: Arc<Commands>,
    pub cache: Arc<Cache>,
    pub runtime: Arc<Runtime>,
    pub services: Arc<NodeServices>,
    pub metrics: Arc<Metrics>,
    pub serving: Arc<ArcSwap<Serving>>,
    /// An origin's own log: the nodes that follow it hear of purges there.
    pub relay: Option<Arc<Purges>>,
    /// The nodes that follow an origin: what they see of a canary it passes on.
    pub nodes: Arc<Nodes>,
    /// It runs what its origins have compiled.
    pub takes_code: bool,
    pub standing: Standing,
}

/// What it knows of its origins.
pub struct Standing {
    /// By the origin's address: how far its purges were carried out; kept on the disk.
    positions: RefCell<BTreeMap<String, Position>>,
    path: PathBuf,
    /// The newest snapshot that an origin told of, and which origin.
    wanted: watch::Sender<Option<(usize, Arc<Manifest>)>>,
    /// By the origin's place: what it tells to be on trial.
    trials: watch::Sender<BTreeMap<usize, Arc<Trial>>>,
    problem: RefCell<Option<String>>,
    /// Why what is on trial is not tried here.
    trial_problem: RefCell<Option<String>>,
    /// There is something to report.
    news: Notify,
}

/// What came from an origin for a snapshot; the rest was here.
struct Fetched {
    files: usize,
    /// Components' machine code.
    compiled: usize,
}

impl Standing {
    /// Nothing is followed yet.
    pub fn new(publisher: &Publisher) -> Self {
        let path = publisher.files.directory().join("purged.json");
        // Where it cannot be read, everything is purged once.
        let read = std::fs::read(&path).ok();
        let positions = read.and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            positions: RefCell::new(positions.unwrap_or_default()),
            path,
            wanted: watch::channel(None).0,
            trials: watch::Sender::default(),
            problem: RefCell::default(),
            trial_problem: RefCell::default(),
            news: Notify::new(),
        }
    }
}

impl Follower {
    /// Follows all origins for ever, and passes on to them what is `asked` about quotas.
    pub async fn run(self: Rc<Self>, asked: mpsc::Receiver<Settle>) {
        let mut tasks = JoinSet::new();
        for place in 0..self.dialer.origins.list.len() {
            tasks.spawn_local(self.clone().follow(place));
            tasks.spawn_local(self.clone().report(place));
        }
        tasks.spawn_local(self.clone().lease());
        tasks.spawn_local(self.clone().settle(asked));
        tasks.spawn_local(self.clone().adopt());
        tasks.spawn_local(self.clone().try_out());
        tasks.spawn_local(self.clone().renew());
        while tasks.join_next().await.is_some() {}
    }

    async fn follow(self: Rc<Self>, place: usize) {
        let address = self.dialer.origins.list[place].address.clone();
        loop {
            self.dialer.connected(place).await;
            if let Err(error) = self.listen(place, &address).await {
                tracing::debug!(origin = address, "no longer followed: {error:#}");
            }
            self.cache.behind.told(place, false);
            self.hear_of(place, None);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Hears an origin's events until the link breaks.
    async fn listen(&self, place: usize, address: &str) -> Result<()> {
        let at = self.standing.positions.borrow().get(address).cloned();
        let at = at.unwrap_or_default();
        let has = self.publisher.current().map(|current| current.id.clone());
        let query = format!(
            "{EVENTS}?snapshot={}&epoch={}&purge={}",
            has.as_deref().unwrap_or_default(),
            uri::encode_query(&at.epoch), // an origin's word
            at.number
        );
        let mut body = self.get(place, &query).await?;
        let mut text = BytesMut::new();
        let mut noted = true;
        loop {
            let frame = tokio::time::timeout(SILENCE_MAX, body.frame())
                .await
                .context("nothing was heard for too long")?;
            let Some(frame) = frame else {
                bail!("the origin ended it");
            };
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            text.extend_from_slice(&data);
            while let Some(end) = text.iter().position(|&octet| octet == b'\n') {
                let line = text.split_to(end + 1);
                match serde_json::from_slice(&line[..end]) {
                    Ok(event) => self.hear(place, address, event, &mut noted).await?,
                    Err(error) => {
                        let problem = format!("{address} tells what is not understood: {error}");
                        tracing::error!("{problem}: is it of another version?");
                        *self.standing.problem.borrow_mut() = Some(problem);
                        self.standing.news.notify_waiters();
                        tokio::time::sleep(RETRY).await;
                        bail!("an event is none");
                    }
                }
            }
            if text.len() > LINE_BYTES_MAX {
                bail!("an event has more than {LINE_BYTES_MAX} bytes");
            }
        }
    }

    /// `noted`: the disk has taken a note of all that was purged so far. Where it does not, the next ones are carried out all the
    /// same; the node says that it stands where it stood, and is told of them again.
    async fn hear(
        &self,
        place: usize,
        address: &str,
        event: Event,
        noted: &mut bool,
    ) -> Result<()> {
        match event {
            Event::Hello { name, sequence } => {
                tracing::info!(origin = name, address, "following");
                self.dialer
                    .origins
                    .serves(place, sequence.unwrap_or(UNKNOWN));
            }
            // The first one comes after what was purged.
            Event::Beat => self.cache.behind.told(place, true),
            Event::Purge { query, at } => {
                *noted &= self.purge(query).await?;
                self.stands(address, at, *noted)?;
            }
            Event::PurgeAll { at } => {
                *noted &= self.purge(ALL.to_owned()).await?;
                self.stands(address, at, *noted)?;
            }
            Event::Snapshot { manifest } => {
                manifest.check().map_err(anyhow::Error::msg)?;
                self.dialer.origins.serves(place, manifest.sequence);
                self.want(place, Arc::from(manifest));
            }
            Event::Trial { trial } => {
                if let Some(trial) = &trial {
                    trial.manifest.check().map_err(anyhow::Error::msg)?;
                    let sequence = trial.manifest.sequence;
                    self.dialer.origins.serves_up_to(place, sequence);
                }
                self.hear_of(place, trial.map(Arc::from));
            }
        }
        Ok(())
    }

    /// Remembers what an origin has on trial.
    fn hear_of(&self, place: usize, trial: Option<Arc<Trial>>) {
        self.standing.trials.send_if_modified(|trials| {
            let before = match trial.clone() {
                Some(trial) => trials.insert(place, trial),
                None => trials.remove(&place),
            };
            before != trial
        });
    }

    /// What is on trial beside the snapshot that this node serves, and an origin that tells of it: with each attempt another
    /// one. An origin that cannot be reached tells of nothing: how the trial goes would not be heard of.
    fn trial(&self, attempt: usize) -> Option<(usize, Arc<Trial>)> {
        let served = self.publisher.current()?.id.clone();
        let trials = self.standing.trials.borrow();
        let beside = trials.iter().filter(|(_, trial)| *trial.beside == *served);
        let tell = beside.clone().count().max(1);
        let (place, trial) = beside.clone().nth(attempt % tell)?;
        Some((*place, trial.clone()))
    }

    /// Has requests served by what is on trial, again and again.
    async fn try_out(self: Rc<Self>) {
        let (mut told, mut published) = (self.standing.trials.subscribe(), self.publisher.watch());
        let (mut trying, mut failures) = (None, 0);
        loop {
            told.borrow_and_update();
            published.borrow_and_update();
            let wanted = self.trial(failures);
            let id = wanted.as_ref().map(|(_, trial)| trial.id);
            if id != trying || failures > 0 {
                trying = id;
                let outcome = self.take_up(wanted).await;
                let problem = outcome.err().map(|error| format!("canary: {error:#}"));
                match &problem {
                    None => failures = 0,
                    Some(problem) => {
                        failures += 1;
                        tracing::error!("{problem}: this node serves the stable version only");
                    }
                }
                *self.standing.trial_problem.borrow_mut() = problem;
                self.standing.news.notify_waiters();
            }
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                changed = published.changed() => if changed.is_err() { return },
                // What failed on the way may pass next time.
                () = tokio::time::sleep(RETRY), if failures > 0 => {}
            }
        }
    }

    async fn take_up(&self, wanted: Option<(usize, Arc<Trial>)>) -> Result<()> {
        if let Some((place, trial)) = &wanted {
            self.fetch(*place, &trial.manifest).await?;
        }
        let trial = wanted.map(|(_, trial)| trial);
        self.commands.send(|reply| Command::Try(trial, reply)).await
    }

    /// Remembers a snapshot as the one to have, unless there is a newer one. One that failed is tried again: an origin that is
    /// back tells of it anew.
    fn want(&self, place: usize, manifest: Arc<Manifest>) {
        let newest = self.publisher.current();
        let newest = newest.map_or(0, |current| current.manifest.sequence);
        self.standing.wanted.send_if_modified(|wanted| {
            let known = wanted.as_ref().map_or(0, |(_, known)| known.sequence);
            let failed = self.standing.problem.borrow().is_some();
            let newer = manifest.sequence > newest
                && (manifest.sequence > known || (failed && manifest.sequence == known));
            if newer {
                *wanted = Some((place, manifest));
            }
            newer
        });
    }

    /// Gives whether it would outlive the process.
    async fn purge(&self, query: String) -> Result<bool> {
        let purge = Purge::from_query(&query).map_err(anyhow::Error::msg)?;
        let (cache, relay) = (self.cache.clone(), self.relay.clone());
        let purging = tokio::task::spawn_blocking(move || {
            let count = cache.store.purge(&purge);
            // After its own: an edge that hears of it may ask this node at once.
            relay.map_or(Ok(0), |relay| relay.record(&query))?;
            anyhow::Ok(count)
        });
        let count = purging.await??;
        tracing::debug!(count, "purged, as an origin was told");
        // Before the node says that it knows: a killed one must not come back with it.
        let noted = self.cache.store.settle(SETTLE_WAIT).await;
        if !noted {
            tracing::warn!("purged, but the disk takes no note of it");
        }
        Ok(noted)
    }

    fn stands(&self, address: &str, at: Position, noted: bool) -> Result<()> {
        if !noted {
            return Ok(());
        }
        let mut positions = self.standing.positions.borrow_mut();
        positions.insert(address.to_owned(), at);
        let text = serde_json::to_vec(&*positions)?;
        // Lost, it costs a cache that is emptied once too often.
        std::fs::write(&self.standing.path, text)?;
        Ok(())
    }

    /// Fetches and deploys the newest snapshot, again and again.
    async fn adopt(self: Rc<Self>) {
        let mut wanted = self.standing.wanted.subscribe();
        let mut attempt = 0;
        loop {
            let next = wanted.borrow_and_update().clone();
            if let Some((place, manifest)) = next {
                let began = Instant::now();
                let id = manifest.id();
                let place = self.connected_from(place + attempt).unwrap_or(place);
                let fetched = tokio::select! {
                    fetched = self.fetch(place, &manifest) => fetched,
                    _ = newer(&wanted) => {
                        attempt = 0;
                        continue;
                    }
                };
                // Not given up for a newer one: what it keeps is kept as long as it runs.
                let adopted = match fetched {
                    Ok(fetched) => self.deploy(manifest).await.map(|()| fetched),
                    Err(error) => Err(error),
                };
                let took_ms = began.elapsed().as_millis();
                let mut problem = self.standing.problem.borrow_mut();
                match adopted {
                    Ok(Fetched { files, compiled }) => {
                        (*problem, attempt) = (None, 0);
                        tracing::info!(
                            snapshot = &*id,
                            files,
                            compiled,
                            took_ms,
                            "snapshot adopted"
                        );
                    }
                    Err(error) => {
                        attempt += 1;
                        tracing::error!(
                            snapshot = &*id,
                            "snapshot refused, the last good one serves on: {error:#}"
                        );
                        *problem = Some(format!("snapshot {id}: {error:#}"));
                    }
                }
                drop(problem);
                self.standing.news.notify_waiters();
            }
            let failed = self.standing.problem.borrow().is_some();
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                // What failed on the way may pass next time.
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    }

    /// Waits until some origin is connected.
    async fn connected(&self) {
        let places = 0..self.dialer.origins.list.len();
        let connected = places.map(|place| Box::pin(self.dialer.connected(place)));
        futures_util::future::select_all(connected).await;
    }

    /// The first origin from a place on, round the list, that is connected.
    fn connected_from(&self, place: usize) -> Option<usize> {
        let count = self.dialer.origins.list.len();
        (place..place + count)
            .map(|place| place % count)
            .find(|&place| self.dialer.is_connected(place))
    }

    async fn deploy(&self, manifest: Arc<Manifest>) -> Result<()> {
        let adopted = self
            .commands
            .send(|reply| Command::Adopt(manifest.clone(), reply))
            .await;
        if adopted.is_err() {
            // One of the files may be damaged: it is fetched again.
            let publisher = self.publisher.clone();
            let looking = move || publisher.files.forget_damaged(&manifest);
            tokio::task::spawn_blocking(looking).await?;
        }
        adopted
    }

    /// Fetches what a snapshot has that is not here.
    async fn fetch(&self, place: usize, manifest: &Manifest) -> Result<Fetched> {
        let mine = |hash: &&String| {
            self.dialer.origins.identity.peer().role == Role::Origin
                || !manifest.origins_only.contains(*hash)
        };
        let files = &self.publisher.files;
        // Whose components are to be signed by somebody it trusts does not run what an origin has compiled.
        let takes_code = self.takes_code;
        let missing: Vec<(&String, u64)> = manifest
            .files
            .iter()
            .filter(|(hash, bytes)| mine(hash) && !files.has(hash, **bytes))
            .map(|(hash, bytes)| (hash, *bytes))
            .collect();
        let compatibility = self.runtime.compatibility();
        let uncompiled: Vec<&String> = manifest
            .components
            .iter()
            .filter(|hash| takes_code && !self.runtime.has_artifact(hash))
            .collect();
        let fetching_files = stream::iter(missing)
            .map(|(hash, bytes)| async move {
                let content = self
                    .get_whole(place, &format!("{FILES}{hash}"), bytes)
                    .await?;
                let (publisher, hash) = (self.publisher.clone(), hash.clone());
                let keeping = move || publisher.files.keep_fetched(&hash, &content);
                tokio::task::spawn_blocking(keeping).await?
            })
            .buffer_unordered(FETCHES_MAX)
            .collect::<Vec<Result<()>>>();
        let fetching_code = stream::iter(uncompiled)
            .map(|hash| {
                let path = format!("{ARTIFACTS}{compatibility}/{hash}");
                async move {
                    // Without it, the component is compiled here.
                    let code = self.get_whole(place, &path, CODE_BYTES_MAX).await.ok()?;
                    let (runtime, hash) = (self.runtime.clone(), hash.clone());
                    let keeping = move || runtime.keep_artifact(&hash, &code);
                    tokio::task::spawn_blocking(keeping).await.ok()
                }
            })
            .buffer_unordered(FETCHES_MAX)
            .collect::<Vec<Option<()>>>();
        let (kept, code) = futures_util::future::join(fetching_files, fetching_code).await;
        let fetched = Fetched {
            files: kept.len(),
            compiled: code.iter().flatten().count(),
        };
        kept.into_iter().collect::<Result<()>>()?;
        for (hash, line) in &manifest.signatures {
            files.keep_signature(hash, line)?;
        }
        Ok(fetched)
    }

    /// Tells an origin how this node is, every second and when there are news.
    async fn report(self: Rc<Self>, place: usize) {
        loop {
            self.dialer.connected(place).await;
            let news = self.standing.news.notified();
            let report = self.how_it_is(place);
            if let Err(error) = self.tell(place, &report).await {
                tracing::debug!("report not taken: {error:#}");
            }
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(REPORT_EVERY) => {}
            }
        }
    }

    /// Asks the first origin that is connected for parts of the token buckets that are in use, as long as some are. Not the
    /// nearest one: who shares a rate out has to hear of all demand.
    async fn lease(self: Rc<Self>) {
        let mut told_at = Instant::now();
        loop {
            tokio::time::sleep(LEASE_EVERY).await;
            let Some(place) = self.connected_from(0) else {
                continue; // the last leases hold
            };
            let over = told_at.elapsed();
            told_at = Instant::now();
            let demands = self.services.buckets.demand();
            if demands.is_empty() {
                continue;
            }
            let report = Report {
                demands,
                over_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
                ..self.how_it_is(place)
            };
            match self.tell(place, &report).await {
                Ok(leases) => self.services.buckets.lease(leases.edges, &leases.parts),
                Err(error) => tracing::debug!("no lease: {error:#}"),
            }
        }
    }

    /// Passes on what is to be settled about quotas, to the first origin that is connected: what this node asks, and what its followers do.
    async fn settle(self: Rc<Self>, mut asked: mpsc::Receiver<Settle>) {
        let mut settling = JoinSet::new();
        while let Some(Settle { settlement, reply }) = asked.recv().await {
            while settling.len() >= SETTLING_MAX {
                settling.join_next().await;
            }
            while settling.try_join_next().is_some() {}
            let follower = self.clone();
            settling.spawn_local(async move {
                let settled = follower.settled(settlement).await;
                _ = reply.send(settled.map_err(|error| format!("{error:#}")));
            });
        }
    }

    async fn settled(&self, settlement: Settlement) -> Result<Settled> {
        let place = self.connected_from(0).context("no origin can be reached")?;
        let report = Report {
            quotas: Some(settlement),
            ..self.how_it_is(place)
        };
        let leases = self.tell(place, &report).await?;
        leases.quotas.context("the origin cannot settle quotas")
    }

    async fn tell(&self, place: usize, report: &Report) -> Result<Leases> {
        let answer = self
            .post(place, REPORT, serde_json::to_vec(report)?)
            .await?;
        serde_json::from_slice(&answer).context("the answer to a report")
    }

    fn how_it_is(&self, place: usize) -> Report {
        let origin = &self.dialer.origins.list[place];
        let current = self.publisher.current();
        let tried = self.tried();
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            snapshot: current.map_or_else(String::new, |current| current.id.to_string()),
            problem: self.problem(),
            transport: origin.transport(),
            rtt_us: origin
                .rtt()
                .and_then(|rtt| u64::try_from(rtt.as_micros()).ok()),
            requests: self.metrics.requests_total(),
            tried_by: tried.map_or_else(BTreeMap::new, |tried| self.nodes.tried_by(tried.trial)),
            tried,
            ..Report::default()
        }
    }

    fn problem(&self) -> Option<String> {
        let problem = self.standing.problem.borrow().clone();
        problem.or_else(|| self.standing.trial_problem.borrow().clone())
    }

    fn tried(&self) -> Option<Tried> {
        let serving = self.serving.load();
        let canary = serving.canary.as_ref()?;
        let (stable, new) = canary.observed(&serving.stable);
        Some(Tried {
            trial: canary.id,
            stable: stable.into(),
            canary: new.into(),
        })
    }

    /// Asks for the next certificate when it is due.
    async fn renew(self: Rc<Self>) {
        let identity = self.dialer.origins.identity.clone();
        let ask = async |csr: Vec<u8>| {
            let mut last = anyhow::anyhow!("there is no origin");
            // At a start, links are about to be made.
            _ = tokio::time::timeout(ANSWER_TIMEOUT, self.connected()).await;
            for place in 0..self.dialer.origins.list.len() {
                match self.post(place, RENEW, csr.clone()).await {
                    Ok(answer) => return Ok(answer.to_vec()),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        identity.keep_renewed(ask).await;
    }

    async fn get(&self, place: usize, path: &str) -> Result<Body> {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = link::uri(path)?;
        self.send(place, request).await
    }

    async fn get_whole(&self, place: usize, path: &str, bytes_max: u64) -> Result<Bytes> {
        let body = self.get(place, path).await?;
        let read = tokio::time::timeout(FETCH_TIMEOUT, body.collect(bytes_max));
        let read = read
            .await
            .with_context(|| format!("{path} did not come in time"))?;
        read.with_context(|| path.to_owned())
    }

    async fn post(&self, place: usize, path: &str, content: Vec<u8>) -> Result<Bytes> {
        let mut request = Request::new(Body::from(Bytes::from(content)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = link::uri(path)?;
        let body = self.send(place, request).await?;
        Ok(tokio::time::timeout(ANSWER_TIMEOUT, body.collect(ANSWER_BYTES_MAX)).await??)
    }

    async fn send(&self, place: usize, request: Request<Body>) -> Result<Body> {
        let path = request.uri().path().to_owned();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let response = self.dialer.send_to(place, request, deadline).await?;
        if !response.status().is_success() {
            bail!("{path}: the origin answers {}", response.status());
        }
        Ok(response.into_body())
    }
}

async fn newer(wanted: &watch::Receiver<Option<(usize, Arc<Manifest>)>>) {
    if wanted.clone().changed().await.is_err() {
        std::future::pending().await
    }
}

/// Everything, as a purge's query.
const ALL: &str = "all=true";
/// Between attempts to follow an origin.
const PAUSE: Duration = Duration::from_millis(100);
/// Beats come every second.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// A manifest with the configuration of thousands of stages.
const LINE_BYTES_MAX: usize = 64 << 20;
const RETRY: Duration = Duration::from_secs(5);
const FETCHES_MAX: usize = 16;
/// Of one file.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);
/// As many as a component of 256 MiB may become.
const CODE_BYTES_MAX: u64 = 1 << 30;
/// Throttles follow the load within a second.
const LEASE_EVERY: Duration = Duration::from_millis(250);
/// Each waits for a round trip.
const SETTLING_MAX: usize = 64;
const REPORT_EVERY: Duration = Duration::from_secs(1);
const SETTLE_WAIT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 1 << 20;
