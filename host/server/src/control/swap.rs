//! Another version of a plugin: it is kept, tried, and put into force, for all requests or for some.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde::Serialize;
use tidegate_model::canary::Split;

use super::report::Report;
use super::{Control, RollBack};
use crate::cli::check_name;
use crate::deploy::Deployed;
use crate::memory;
use crate::serving::{Canary, Serving, Terms};
use crate::signature::{self, Signature};

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

impl Control {
    pub(super) async fn swap(&mut self, swap: Swap) -> Result<Swapped> {
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

    /// Ends the canary, or goes back to the version before.
    pub(super) async fn roll_back(&mut self, plugin: &str, what: RollBack) -> Result<Report> {
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
        if what == RollBack::Canary {
            bail!("no canary of \"{plugin}\" is running");
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
}
