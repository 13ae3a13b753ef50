//! Which versions of plugins there are.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Control;
use super::canary::CanaryReport;
use crate::builtin;

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

impl Control {
    /// The names of all plugins of the node.
    pub(super) fn plugins(&self) -> Vec<String> {
        let builtin = builtin::names().into_iter().map(str::to_owned);
        let own = self.node.plugins.keys().cloned();
        let deployed = self.versions.components().into_keys();
        let names: BTreeSet<String> = builtin.chain(own).chain(deployed).collect();
        names.into_iter().collect()
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        self.plugins()
            .iter()
            .map(|plugin| self.report(plugin))
            .collect()
    }

    pub(super) fn report(&self, plugin: &str) -> Report {
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
