//! A canary, as nodes tell it to each other: beside the snapshot that they serve, for as long as an origin tells of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_model::canary::Observed;

use super::manifest::Manifest;

/// A version of a plugin that gets some of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// When it began, in milliseconds since 1970: no two of a region have the same.
    pub id: u64,
    pub plugin: String,
    /// The hash of the version.
    pub version: String,
    /// Which requests it gets, as people write it.
    pub split: String,
    /// The snapshot that it is a trial beside.
    pub beside: String,
    /// What is served with it.
    pub manifest: Manifest,
}

/// What became of the requests that one node served while it took part, of either version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub trial: u64,
    pub stable: Counted,
    pub canary: Counted,
}

impl Tried {
    /// Of both versions: how far the figures go.
    pub fn requests(&self) -> u64 {
        self.stable.requests.saturating_add(self.canary.requests)
    }
}

/// [`Observed`], as nodes tell it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub requests: u64,
    pub failures: u64,
    pub latency_us: u64,
    pub faults: u64,
}

impl From<Observed> for Counted {
    fn from(observed: Observed) -> Self {
        Self {
            requests: observed.requests,
            failures: observed.failures,
            latency_us: u64::try_from(observed.latency.as_micros()).unwrap_or(u64::MAX),
            faults: observed.faults,
        }
    }
}

impl From<Counted> for Observed {
    fn from(counted: Counted) -> Self {
        Self {
            requests: counted.requests,
            failures: counted.failures,
            latency: Duration::from_micros(counted.latency_us),
            faults: counted.faults,
        }
    }
}
