//! What changes while a node serves: its files, and the plugin versions that it is handed. One task makes all changes, one
//! after another; workers hear of each as a new [`Serving`].

mod canary;
mod region;
mod report;
mod swap;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use tidegate_model::config::{self, Node};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};

use self::canary::{CanaryReport, JUDGE_EVERY};
pub(crate) use self::region::{draw_up, followed_node};
use self::report::Report;
pub use self::swap::Swap;
use self::swap::Swapped;
use crate::deploy::{Deployed, Deployer};
use crate::listen::tls::Tls;
use crate::membership::Membership;
use crate::memory;
use crate::node::{apply_state, identity_of, offer_secrets, upstream_settings};
use crate::reload::Files;
use crate::services::NodeServices;
use crate::serving::Serving;
use crate::store::embedded::Embedded;
use crate::sync::Manifest;
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
    RollBack(String, RollBack, Reply<Report>),
    /// Serve what an origin does.
    Adopt(Arc<Manifest>, Reply<()>),
    /// Serve what an origin has on trial beside it, or nothing of that kind.
    Try(Option<Arc<Trial>>, Reply<()>),
    /// Say which versions there are.
    Report(Reply<Vec<Report>>),
}

/// What is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollBack {
    /// The canary where one runs, else the version that serves.
    Either,
    /// The canary, which may have ended meanwhile.
    Canary,
}

type Reply<T> = oneshot::Sender<Result<T>>;

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

    async fn obey(&mut self, command: Command) {
        // Who asked may have left: the command was carried out all the same.
        match command {
            Command::Swap(swap, reply) => drop(reply.send(self.swap(*swap).await)),
            Command::Promote(plugin, reply) => drop(reply.send(self.promote(&plugin).await)),
            Command::RollBack(plugin, what, reply) => {
                drop(reply.send(self.roll_back(&plugin, what).await))
            }
            Command::Adopt(manifest, reply) => drop(reply.send(self.adopt(&manifest).await)),
            Command::Try(trial, reply) => drop(reply.send(self.try_out(trial).await)),
            Command::Report(reply) => drop(reply.send(Ok(self.reports()))),
        }
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
