//! A version that some of the requests get: how it goes, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tidegate_model::canary::{Judgement, Observed, Split, judge};

use super::Control;
use super::region::followed_node;
use super::report::Report;
use crate::deploy::Deployed;
use crate::serving::{Canary, Serving, Terms};
use crate::sync::trial::Trial;

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

impl Control {
    /// Serves what an origin has on trial beside what it serves, to the requests that the origin says.
    pub(super) async fn try_out(&mut self, trial: Option<Arc<Trial>>) -> Result<()> {
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
    pub(super) async fn try_again(&mut self) {
        let stable = self.serving.load().stable.published.clone();
        let same = |trial: &Arc<Trial>| *trial.beside == *stable;
        let Some(trial) = self.trial.take().filter(same) else {
            return;
        };
        if let Err(error) = self.try_out(Some(trial)).await {
            tracing::error!("the canary goes on without this node: {error:#}");
        }
    }

    /// An origin tells other nodes of what is on trial; once its own workers know of it, since they are asked by it then.
    pub(super) fn tell_of_trial(&self) {
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

    /// Makes the canary the only version.
    pub(super) async fn promote(&mut self, plugin: &str) -> Result<Report> {
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

    /// Compares both versions, and ends the canary where it exceeds its bounds or its time is over.
    pub(super) async fn judge(&mut self) {
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
    pub(super) fn canary_report(&self, serving: &Serving) -> Option<CanaryReport> {
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
    pub(super) fn conclude(&mut self, outcome: &str) {
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

/// Soon enough that a broken version serves few requests, seldom enough to cost nothing.
pub(super) const JUDGE_EVERY: Duration = Duration::from_millis(250);
