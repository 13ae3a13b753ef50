//! Quotas: how much may be taken in a day, week or month, and how nodes share it.
//!
//! Pure: the time is handed in, as milliseconds since 1970 in UTC. Three files, three questions: which [`period`] it is; what
//! the one [`account`] of a quota gives out; what a node does with the part that it is [`holding`].

pub mod account;
pub mod holding;
pub mod period;

use serde::{Deserialize, Serialize};

pub use account::{Account, Ask, Grant};
pub use holding::{Change, Holding};
pub use period::{Period, Span};

/// What a quota allows (API Gateway: `QuotaSettings`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// In one period, at most.
    pub limit: u32,
    /// "The number of requests subtracted from the given limit in the initial time period."
    #[serde(default)]
    pub offset: u32,
    pub period: Period,
}
