//! What changes while a node serves: its files, and the plugin versions that it is handed. One task makes all changes, one
//! after another; workers hear of each as a new [`Serving`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use tidegate_model::canary::{Judgement, Observed, Split, judge};
use tidegate_model::config::{self, Node};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};

use crate::builtin;
use crate::cli::check_name;
use crate::deploy::{Deployed, Deployer};
use crate::listen::tls::Tls;
use crate::membership::Membership;
use crate::memory;
use crate::node::{apply_state, identity_of, offer_secrets, upstream_settings};
use crate::reload::Files;
use crate::services::NodeServices;
use crate::serving::{Canary, Serving, Terms};
use crate::signature::{self, Signature};
use crate::store::embedded::Embedded;
use crate::sync::Manifest;
use crate::sync::publish;
use crate::sync::trial::Trial;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Directory;
use crate::versions::{Components, Versions};

/// The one who changes what a node serves.
pub struct Control {
    pub path: PathBuf,
    /// What the node's own file says.
    pub own: Node,
    /// What it serves by: its own, or on a follower with what its origins serve.
    pub node: Node,
    pub name: String,
    /// What it has in common with others.
    pub membership: Option<Arc<Membership>>,
    pub deployer: Deployer,
    pub services: Arc<NodeServices>,
    pub store: Arc<Embedded>,
    pub directory: Arc<Directory>,
    pub identities: Vec<(config::ListenerTls, Arc<Tls>)>,
    pub metrics: Arc<Metrics>,
    pub versions: Versions,
    /// How many threads serve.
    pub workers: usize,
    pub serving: Arc<ArcSwap<Serving>>,
    pub snapshots: watch::Sender<Arc<Serving>>,
    /// How the last canary ended.
    pub ended: Option<CanaryReport>,
    /// On a follower: what its origins have on trial.
    pub trial: Option<Arc<Trial>>,
}

/// What the admin address asks for.
pub enum Command {
    /// Put another version of a plugin in force, for all requests or for some.
    Swap(Box<Swap>, Reply<Swapped>),
    /// Make the canary the only version.
    Promote(String, Reply<Report>),
    /// End the canary, or go back to the version before.
    RollBack(String, Reply<Report>),
    /// Serve what an origin does.
    Adopt(Arc<Manifest>, Reply<()>),
    /// Serve what an origin has on trial beside it, or nothing of that kind.
    Try(Option<Arc<Trial>>, Reply<()>),
    /// Say which versions there are.
    Report(Reply<Vec<Report>>),
}

type Reply<T> = oneshot::Sender<Result<T>>;

/// Another version of a plugin.
pub struct Swap {
    pub plugin: String,
    /// Whether it may be one that the node has not had.
    pub new: bool,
    pub component: Bytes,
    /// Who signed it, and that.
    pub signature: Option<String>,
    /// Which requests get it, and until when; all where absent.
    pub canary: Option<(Split, Terms)>,
}

/// How a swap went.
#[derive(Debug, Serialize)]
pub struct Swapped {
    #[serde(flatten)]
    pub report: Report,
    /// From the component's last byte to the first request that it can get, in milliseconds.
    pub took_ms: f64,
    /// How many cases the version carries, all of which passed.
    pub cases_passed: usize,
}

/// The versions of one plugin.
#[derive(Debug, Serialize)]
pub struct Report {
    pub plugin: String,
    /// The hash of the version in force.
    pub version: Option<String>,
    /// Where it came from: `built-in`, `file` or `swap`.
    pub source: &'static str,
    /// Versions that were swapped in, the oldest first; `rollback` goes back by one.
    pub versions: Vec<String>,
    pub bindings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryReport>,
}

/// A canary, as people want to see it.
#[derive(Debug, Clone, Serialize)]
pub struct CanaryReport {
    pub plugin: String,
    pub version: String,
    pub split: String,
    pub age_ms: u64,
    /// Absent while it runs.
    pub outcome: Option<String>,
    pub stable: Figures,
    pub canary: Figures,
}

/// What requests of one version came to.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub requests: u64,
    pub failures: u64,
    pub faults: u64,
    pub mean_ms: f64,
}

/// What a node is told by the system.
pub struct Signals {
    end: EndSignals,
    hang_up: Signal,
}

struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts to listen: from here on no signal is lost.
    ///
    /// # Errors
    /// Where the system does not allow it.
    pub fn listen() -> Result<Self> {
        Ok(Self {
            end: EndSignals {
                terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
                interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            },
            hang_up: signal(SignalKind::hangup()).context("SIGHUP")?,
        })
    }
}

impl EndSignals {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What there is to do.
enum Change {
    Files,
    Commanded(Command),
    Judged,
}

/// The way to a [`Control`]: a few commands may wait, more are refused.
pub fn channel() -> (Commands, mpsc::Receiver<Command>) {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    let commands = Commands {
        sender,
        receiving: Semaphore::new(COMPONENTS_MAX),
    };
    (commands, receiver)
}

/// Hands commands over.
pub struct Commands {
    sender: mpsc::Sender<Command>,
    receiving: Semaphore,
}

impl Commands {
    /// Sends a command, and waits until it is done.
    ///
    /// # Errors
    /// What the command says, or that too many wait.
    pub async fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, done) = oneshot::channel();
        self.sender
            .try_send(command(reply))
            .map_err(|_| anyhow::anyhow!("too many commands wait"))?;
        done.await.context("the node is ending")?
    }

    /// The right to take a component into memory, until it is dropped; none while others are taken.
    pub fn receive(&self) -> Option<SemaphorePermit<'_>> {
        self.receiving.try_acquire().ok()
    }
}

impl Control {
    /// Makes changes until SIGTERM or SIGINT. A change that is still being prepared then is given up.
    pub async fn run(
        mut self,
        mut files: Files,
        mut signals: Signals,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let mut judging = tokio::time::interval(JUDGE_EVERY);
        loop {
            let running = self.serving.load().canary.is_some();
            let change = tokio::select! {
                () = signals.end.recv() => return,
                _ = signals.hang_up.recv() => Change::Files,
                () = files.changed() => Change::Files,
                Some(command) = commands.recv() => Change::Commanded(command),
                _ = judging.tick(), if running => Change::Judged,
            };
            tokio::select! {
                () = signals.end.recv() => return,
                () = self.make(change, &mut files) => {}
            }
            memory::give_back();
        }
    }

    /// # Cancel safety
    /// What serves and what is on the disk change together, in a step that does not wait.
    async fn make(&mut self, change: Change, files: &mut Files) {
        match change {
            Change::Files => self.reload(files).await,
            Change::Commanded(command) => self.obey(command).await,
            Change::Judged => self.judge().await,
        }
    }

    /// Serves from the files as they are now; where they are wrong, everything stays as it was.
    async fn reload(&mut self, files: &mut Files) {
        let began = Instant::now();
        tracing::info!("reloading");
        match self.try_reload().await {
            Ok(revision) => {
                tracing::info!(revision, took_ms = began.elapsed().as_millis(), "reloaded")
            }
            Err(error) => {
                tracing::error!("reload refused, the last good configuration serves on:\n{error:#}")
            }
        }
        files.watch(&self.path, &self.node);
    }

    async fn try_reload(&mut self) -> Result<u64> {
        let own = config::load(&self.path).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        for table in read_at_the_start(&self.own, &own) {
            tracing::warn!("{table} changed, and is read at the start only: restart for it");
        }
        let (node, components) = match self.followed() {
            None => (own.clone(), self.versions.components()),
            Some(membership) => {
                let followed = membership.publisher.current();
                let manifest = followed.as_ref().map(|published| &published.manifest);
                followed_node(&own, membership, manifest)?
            }
        };
        let upstreams = upstream_settings(&node)?;
        let deployed = self.deploy(&node, &components).await?;
        for (files, tls) in &self.identities {
            tls.replace(&identity_of(files)?).context("certificate")?;
        }
        apply_state(&node, &self.services, &self.store)?;
        self.directory.update(upstreams).context("upstreams")?;
        (self.own, self.node) = (own, node);
        if self.followed().is_none() {
            self.conclude("ended by a reload");
        }
        let revision = self.publish(Serving::only(deployed));
        self.try_again().await;
        Ok(revision)
    }

    /// Serves what an origin does; what does not deploy changes nothing.
    async fn adopt(&mut self, manifest: &Manifest) -> Result<()> {
        let Some(membership) = self.followed().cloned() else {
            bail!("this node follows no other");
        };
        let (node, components) = followed_node(&self.own, &membership, Some(manifest))?;
        let upstreams = upstream_settings(&node)?;
        let before = self.serving.load_full();
        offer_secrets(&node, &self.services)?;
        let deployed = self
            .deployer
            .deploy(
                &node,
                &components,
                Some(manifest.clone()),
                Some(&before.stable),
            )
            .await
            .map_err(|problems| anyhow::anyhow!("{problems}"))?;
        apply_state(&node, &self.services, &self.store)?;
        self.directory.update(upstreams).context("upstreams")?;
        // On the disk before it serves: a node that was killed comes back with it.
        membership.publisher.publish(manifest.clone())?;
        self.node = node;
        self.publish(Serving::only(Arc::new(deployed)));
        self.taken_over().await; // what is reported as served is
        self.try_again().await;
        Ok(())
    }

    /// Serves what an origin has on trial beside what it serves, to the requests that the origin says.
    async fn try_out(&mut self, trial: Option<Arc<Trial>>) -> Result<()> {
        self.trial = trial.clone();
        let stable = self.serving.load_full().stable.clone();
        let Some(trial) = trial else {
            if self.serving.load().canary.is_some() {
                self.publish(Serving::only(stable));
                self.taken_over().await;
            }
            return Ok(());
        };
        let Some(membership) = self.followed().cloned() else {
            bail!("this node follows no other");
        };
        if *stable.published != *trial.beside {
            bail!("it is beside a snapshot that this node does not serve");
        }
        let split = Split::parse(&trial.split)?;
        let manifest = Some(&trial.manifest);
        let (node, components) = followed_node(&self.own, &membership, manifest)?;
        let deployed = self
            .deployer
            .deploy(&node, &components, manifest.cloned(), Some(&stable))
            .await
            .map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let changed = (trial.plugin.clone(), trial.version.clone());
        let deployed = Arc::new(deployed);
        // How it ends, the origin says.
        let terms = Terms::default();
        let canary = Canary::new(trial.id, &stable, deployed, changed, split, terms);
        self.publish(Serving::with_canary(stable, canary));
        self.taken_over().await;
        membership.publisher.tell_of(Some(trial));
        Ok(())
    }

    /// Goes on with a trial after what is stable was deployed anew.
    async fn try_again(&mut self) {
        let stable = self.serving.load().stable.published.clone();
        let same = |trial: &Arc<Trial>| *trial.beside == *stable;
        let Some(trial) = self.trial.take().filter(same) else {
            return;
        };
        if let Err(error) = self.try_out(Some(trial)).await {
            tracing::error!("the canary goes on without this node: {error:#}");
        }
    }

    /// What it has in common with others, where it serves what those do.
    fn followed(&self) -> Option<&Arc<Membership>> {
        self.membership
            .as_ref()
            .filter(|membership| membership.follows)
    }

    async fn deploy(&self, node: &Node, components: &Components) -> Result<Arc<Deployed>> {
        let before = self.serving.load_full();
        let manifest = match &self.membership {
            None => None,
            Some(membership) if membership.follows => {
                let current = membership.publisher.current();
                current.map(|published| published.manifest.clone())
            }
            Some(membership) => {
                let (path, name) = (&self.path, &self.name);
                Some(draw_up(membership, path, name, node, components).await?)
            }
        };
        offer_secrets(node, &self.services)?;
        self.deployer
            .deploy(node, components, manifest, Some(&before.stable))
            .await
            .map(Arc::new)
            .map_err(|problems| anyhow::anyhow!("{problems}"))
    }

    /// Hands the workers what they serve from; gives its revision. What nothing serves or goes back to leaves the disk.
    fn publish(&self, serving: Serving) -> u64 {
        let serving = Arc::new(serving);
        let newest = serving
            .canary
            .as_ref()
            .map_or(&serving.stable, |canary| &canary.deployed);
        let revision = newest.revision;
        self.tell_others(&serving);
        self.metrics.serve(&serving);
        self.serving.store(serving.clone());
        if serving.canary.is_none() {
            self.versions.sweep();
            if let Some(membership) = &self.membership {
                membership.publisher.tell_of(None);
            }
        }
        self.snapshots.send_replace(serving);
        revision
    }

    /// An origin tells other nodes of what is on trial; once its own workers know of it, since they are asked by it then.
    fn tell_of_trial(&self) {
        let serving = self.serving.load();
        let (Some(membership), Some(canary)) = (&self.membership, &serving.canary) else {
            return;
        };
        let Some(manifest) = &canary.deployed.manifest else {
            return;
        };
        membership.publisher.tell_of(Some(Arc::new(Trial {
            id: canary.id,
            plugin: canary.plugin.clone(),
            version: canary.version.clone(),
            split: canary.split.to_string(),
            beside: serving.stable.published.to_string(),
            manifest: manifest.clone(),
        })));
    }

    /// An origin tells other nodes what it serves from now on; not what is on trial.
    fn tell_others(&self, serving: &Serving) {
        let membership = self
            .membership
            .as_ref()
            .filter(|membership| !membership.follows);
        let (Some(membership), Some(manifest)) = (membership, &serving.stable.manifest) else {
            return;
        };
        let current = membership.publisher.current();
        if current.is_some_and(|current| *current.id == *serving.stable.published) {
            return;
        }
        if let Err(error) = membership.publisher.publish(manifest.clone()) {
            tracing::error!("other nodes are not told of this snapshot: {error:#}");
        }
    }

    async fn obey(&mut self, command: Command) {
        // Who asked may have left: the command was carried out all the same.
        match command {
            Command::Swap(swap, reply) => drop(reply.send(self.swap(*swap).await)),
            Command::Promote(plugin, reply) => drop(reply.send(self.promote(&plugin).await)),
            Command::RollBack(plugin, reply) => drop(reply.send(self.roll_back(&plugin).await)),
            Command::Adopt(manifest, reply) => drop(reply.send(self.adopt(&manifest).await)),
            Command::Try(trial, reply) => drop(reply.send(self.try_out(trial).await)),
            Command::Report(reply) => drop(reply.send(Ok(self.reports()))),
        }
    }

    async fn swap(&mut self, swap: Swap) -> Result<Swapped> {
        let began = Instant::now();
        let Swap {
            plugin,
            new,
            component,
            signature,
            canary,
        } = swap;
        if !new && !self.plugins().contains(&plugin) {
            bail!(
                "there is no plugin \"{plugin}\"; there are: {} (`tidegate plugin deploy` takes a new one)",
                self.plugins().join(", ")
            );
        }
        if new {
            check_name(&plugin)?;
        }
        self.sees_no_canary()?;
        let signature = self.verified(&plugin, &component, signature).await?;
        let (hash, file) = self.versions.keep(component, signature).await?;
        let (deployed, cases_passed) = match self.prepare(&plugin, file).await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.versions.sweep();
                return Err(error);
            }
        };
        match canary {
            None => {
                self.versions.put_in_force(&plugin, &hash)?; // on the disk before it serves
                self.publish(Serving::only(deployed));
            }
            Some((split, terms)) => {
                let stable = self.serving.load_full().stable.clone();
                let changed = (plugin.clone(), hash.clone());
                let id = crate::link::told::milliseconds_of(SystemTime::now());
                let canary = Canary::new(id, &stable, deployed, changed, split, terms);
                self.ended = None;
                self.publish(Serving::with_canary(stable, canary));
            }
        }
        self.taken_over().await;
        self.tell_of_trial();
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        tracing::info!(
            plugin,
            version = hash,
            took_ms,
            cases_passed,
            "plugin swapped"
        );
        Ok(Swapped {
            report: self.report(&plugin),
            took_ms,
            cases_passed,
        })
    }

    /// A deployment with another version of a plugin, and how many cases that passed.
    async fn prepare(&self, plugin: &str, file: PathBuf) -> Result<(Arc<Deployed>, usize)> {
        let mut components = self.versions.components();
        components.insert(plugin.to_owned(), file.clone());
        let deployed = self.deploy(&self.node, &components).await?;
        let bound = &deployed.snapshot.bindings;
        let cases_passed = match bound.iter().any(|spec| spec.plugin == plugin) {
            true => deployed.cases_passed.get(plugin).copied().unwrap_or(0),
            // What no binding loads is tried all the same: the first that binds it should not be the first to learn.
            false => self
                .deployer
                .try_out(&self.node, &file)
                .await
                .map_err(|problem| anyhow::anyhow!("plugin \"{plugin}\": {problem}"))?,
        };
        Ok((deployed, cases_passed))
    }

    /// Waits until every worker serves from what was published last: they turn to it between two requests.
    async fn taken_over(&self) {
        let serving = self.serving.load_full();
        let adopted = serving.adopted.by(self.workers);
        if tokio::time::timeout(TAKEN_OVER_WITHIN, adopted)
            .await
            .is_err()
        {
            tracing::warn!("a worker is too busy to take a new version over");
        }
    }

    /// Reads a component's signature and sees that it is of it, before it is kept beside it; and that this node may run it.
    async fn verified(
        &self,
        plugin: &str,
        component: &Bytes,
        line: Option<String>,
    ) -> Result<Option<Signature>> {
        let (policy, component) = (self.node.signatures.clone(), component.clone());
        let verifying = memory::spawn_blocking(move || {
            signature::check(&policy, &component, line.as_deref())?;
            let signature = line.as_deref().map(Signature::parse).transpose()?;
            if let Some(signature) = &signature {
                signature.verify(&component)?;
            }
            Ok(signature)
        });
        verifying
            .await
            .context("verifying the signature")?
            .map_err(|problem: String| anyhow::anyhow!("plugin \"{plugin}\": {problem}"))
    }

    /// Makes the canary the only version.
    async fn promote(&mut self, plugin: &str) -> Result<Report> {
        self.leads()?;
        let serving = self.serving.load_full();
        let of_plugin = |canary: &&Arc<Canary>| canary.plugin == plugin;
        let Some(canary) = serving.canary.as_ref().filter(of_plugin) else {
            bail!("no canary of \"{plugin}\" is running");
        };
        self.versions.put_in_force(plugin, &canary.version)?;
        self.conclude("promoted");
        self.publish(Serving::only(canary.deployed.clone()));
        self.taken_over().await;
        Ok(self.report(plugin))
    }

    /// Ends the canary, or goes back to the version before.
    async fn roll_back(&mut self, plugin: &str) -> Result<Report> {
        self.leads()?;
        let serving = self.serving.load_full();
        if serving
            .canary
            .as_ref()
            .is_some_and(|canary| canary.plugin == plugin)
        {
            self.conclude("rolled back");
            self.publish(Serving::only(serving.stable.clone()));
            self.taken_over().await;
            return Ok(self.report(plugin));
        }
        self.sees_no_canary()?;
        let mut components = self.versions.components();
        match self.versions.before(plugin)? {
            Some(file) => components.insert(plugin.to_owned(), file),
            None => components.remove(plugin),
        };
        let deployed = self.deploy(&self.node, &components).await?;
        self.versions.take_back(plugin)?;
        self.publish(Serving::only(deployed));
        self.taken_over().await;
        tracing::info!(plugin, "plugin rolled back");
        Ok(self.report(plugin))
    }

    /// Whether plugins are changed here.
    fn leads(&self) -> Result<()> {
        if self.followed().is_some() {
            bail!("this node serves what its origins do: change plugins there");
        }
        Ok(())
    }

    /// Whether one version of everything serves, so that another change can be made.
    fn sees_no_canary(&self) -> Result<()> {
        self.leads()?;
        match &self.serving.load().canary {
            None => Ok(()),
            Some(canary) => bail!(
                "a canary of \"{}\" is running: promote it or roll it back first",
                canary.plugin
            ),
        }
    }

    /// Compares both versions, and ends the canary where it exceeds its bounds or its time is over.
    async fn judge(&mut self) {
        let serving = self.serving.load_full();
        let Some(canary) = &serving.canary else {
            return;
        };
        if self.followed().is_some() {
            return; // its origin judges
        }
        let (stable, new) = self.observed(canary, &serving.stable);
        match judge(&canary.terms.bounds, &stable, &new) {
            Judgement::Exceeds(what) => {
                self.conclude(&format!("rolled back: {what}"));
                self.publish(Serving::only(serving.stable.clone()));
            }
            Judgement::Within
                if canary
                    .terms
                    .promote_after
                    .is_some_and(|after| canary.began.elapsed() >= after) =>
            {
                if let Err(error) = self.promote(&canary.plugin).await {
                    tracing::error!(plugin = canary.plugin, "canary not promoted: {error:#}");
                }
            }
            Judgement::Within | Judgement::Wait => {}
        }
    }

    /// What became of both versions' requests, here and on the nodes that report to this one.
    fn observed(&self, canary: &Canary, stable: &Deployed) -> (Observed, Observed) {
        let (old, new) = canary.observed(stable);
        let Some(membership) = &self.membership else {
            return (old, new);
        };
        let (old_elsewhere, new_elsewhere) = membership.nodes.tried(canary.id);
        (old + old_elsewhere, new + new_elsewhere)
    }

    /// The canary that runs.
    fn canary_report(&self, serving: &Serving) -> Option<CanaryReport> {
        let canary = serving.canary.as_ref()?;
        let (stable, new) = self.observed(canary, &serving.stable);
        Some(CanaryReport {
            plugin: canary.plugin.clone(),
            version: canary.version.clone(),
            split: canary.split.to_string(),
            age_ms: u64::try_from(canary.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome: None,
            stable: Figures::of(&stable),
            canary: Figures::of(&new),
        })
    }

    /// Writes down how the canary ended, where one runs.
    fn conclude(&mut self, outcome: &str) {
        let serving = self.serving.load_full();
        let Some(report) = self.canary_report(&serving) else {
            return;
        };
        if outcome == "promoted" {
            tracing::info!(plugin = report.plugin, "canary promoted");
        } else {
            tracing::warn!(plugin = report.plugin, "canary {outcome}");
        }
        self.ended = Some(CanaryReport {
            outcome: Some(outcome.to_owned()),
            ..report
        });
    }

    /// The names of all plugins of the node.
    fn plugins(&self) -> Vec<String> {
        let builtin = builtin::names().into_iter().map(str::to_owned);
        let own = self.node.plugins.keys().cloned();
        let deployed = self.versions.components().into_keys();
        let names: std::collections::BTreeSet<String> =
            builtin.chain(own).chain(deployed).collect();
        names.into_iter().collect()
    }

    fn reports(&self) -> Vec<Report> {
        self.plugins()
            .iter()
            .map(|plugin| self.report(plugin))
            .collect()
    }

    fn report(&self, plugin: &str) -> Report {
        let serving = self.serving.load();
        let deployed = &serving.stable;
        let bound: Vec<_> = deployed
            .bindings
            .iter()
            .zip(&deployed.snapshot.bindings)
            .filter(|(_, spec)| spec.plugin == plugin)
            .collect();
        let versions = self.versions.history(plugin);
        Report {
            plugin: plugin.to_owned(),
            version: bound
                .first()
                .map(|(binding, _)| binding.plugin().hash.clone())
                .or_else(|| versions.last().cloned()),
            source: match (versions.is_empty(), self.node.plugins.contains_key(plugin)) {
                (false, _) => "swap",
                (true, true) => "file",
                (true, false) => "built-in",
            },
            versions: versions.to_vec(),
            bindings: bound.iter().map(|(_, spec)| spec.name.clone()).collect(),
            canary: self
                .canary_report(&serving)
                .or_else(|| self.ended.clone())
                .filter(|canary| canary.plugin == plugin),
        }
    }
}

impl Figures {
    fn of(observed: &Observed) -> Self {
        let mean = observed.latency.as_secs_f64() * 1e3 / observed.requests.max(1) as f64;
        Self {
            requests: observed.requests,
            failures: observed.failures,
            faults: observed.faults,
            mean_ms: (mean * 1e3).round() / 1e3,
        }
    }
}

/// What a node that follows others serves by, with `manifest` from them; nothing of an API where there is none yet.
///
/// # Errors
/// What is wrong with the snapshot.
pub(crate) fn followed_node(
    own: &Node,
    membership: &Membership,
    manifest: Option<&Manifest>,
) -> Result<(Node, Components)> {
    let Some(manifest) = manifest else {
        return Ok((own.clone(), Components::new()));
    };
    let files = &membership.publisher.files;
    let node = manifest.node(own, files.directory());
    let node = node.map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let version = |(plugin, hash): (&String, &String)| (plugin.clone(), files.path(hash));
    Ok((node, manifest.versions.iter().map(version).collect()))
}

/// What other nodes are to be told, once it serves here.
///
/// # Errors
/// Where a file that the configuration names cannot be read or kept.
pub(crate) async fn draw_up(
    membership: &Membership,
    path: &Path,
    name: &str,
    node: &Node,
    components: &Components,
) -> Result<Manifest> {
    let publisher = membership.publisher.clone();
    let (path, name, node) = (path.to_owned(), name.to_owned(), node.clone());
    let components = components.clone();
    let drawing = memory::spawn_blocking(move || {
        let files = &publisher.files;
        let draft = publish::assemble(files, &path, &node, &components)?;
        let before = match publisher.current() {
            Some(published) => Some(published.manifest.clone()),
            None => files.current().unwrap_or_default(), // of the run before
        };
        let now_ms = crate::link::told::milliseconds_of(SystemTime::now());
        Ok(draft.finish(&name, before.as_ref(), now_ms))
    });
    drawing.await.context("drawing up a snapshot")?
}

/// What differs of the settings that a running node keeps.
fn read_at_the_start<'n>(running: &'n Node, node: &'n Node) -> impl Iterator<Item = &'static str> {
    // The two that deployments read are applied.
    let limits = |node: &Node| config::Limits {
        payload: running.limits.payload,
        ..node.limits.clone()
    };
    let timeouts = |node: &Node| config::Timeouts {
        integration: running.timeouts.integration,
        ..node.timeouts.clone()
    };
    let tables = [
        ("[[listener]]", running.listeners != node.listeners),
        ("[admin]", running.admin != node.admin),
        ("[link]", running.link != node.link),
        ("[[origin]]", running.origins != node.origins),
        ("`name` of [node]", running.name != node.name),
        ("`role` of [node]", running.role != node.role),
        ("`threads` of [node]", running.threads != node.threads),
        ("`data` of [node]", running.data != node.data),
        ("`artifacts` of [node]", running.artifacts != node.artifacts),
        (
            "[limits] (other than `payload`)",
            limits(running) != limits(node),
        ),
        (
            "[timeouts] (other than `integration`)",
            timeouts(running) != timeouts(node),
        ),
        ("[cache]", running.cache != node.cache),
        ("[log]", running.log != node.log),
    ];
    tables
        .into_iter()
        .filter_map(|(table, differs)| differs.then_some(table))
}

/// A worker turns to it within a call of a plugin, 24 ms at the most, or it has other troubles.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);
/// Commands that wait; people send one at a time.
const COMMANDS_MAX: usize = 16;
/// Components in memory at once, each of 256 MiB at the most.
const COMPONENTS_MAX: usize = 2;
/// Soon enough that a broken version serves few requests, seldom enough to cost nothing.
const JUDGE_EVERY: Duration = Duration::from_millis(250);
