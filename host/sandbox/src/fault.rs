//! Why a call into a component gave no decision.

use std::time::Duration;

/// A fault of a plugin or function. The binding's fault policy says what it means for the request.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Fault {
    /// The component trapped: a panic, an `unreachable`, an access out of bounds. Holds the guest's stack.
    #[error("trapped: {0}")]
    Trap(String),
    /// The call took longer than the binding's deadline.
    #[error("passed its deadline of {0:?}")]
    Deadline(Duration),
    /// The component asked for more linear memory than its limit, in bytes, and gave up.
    #[error("needs more memory than its limit of {0} bytes")]
    Memory(u64),
    /// The step itself answered with an error.
    #[error("answered with an error: {0}")]
    Answered(String),
    /// The step's answer breaks the contract: an unknown header name, a status out of range.
    #[error("gave an answer that cannot be used: {0}")]
    Unusable(String),
    /// All instances that the limits allow are in use.
    #[error("has no free instance")]
    Busy,
    /// No instance could be made.
    #[error("could not be started: {0}")]
    Start(String),
    /// It failed again and again, and is not called until a pause is over. Holds what was wrong the last time.
    #[error("is not called for a while, since it failed too often; the last time it {0}")]
    CircuitOpen(String),
}

impl Fault {
    /// One word for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Deadline(_) => "deadline",
            Self::Memory(_) => "memory",
            Self::Answered(_) => "answered",
            Self::Unusable(_) => "unusable",
            Self::Busy => "busy",
            Self::Start(_) => "start",
            Self::CircuitOpen(_) => "circuit-open",
        }
    }
}
