//! What Tidegate adds to an API: bindings of plugins, and where things were written.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::deployment::{FaultPolicy, Grants, Isolation, Limits, Step};
use crate::problem::Place;

/// What an API's definition says beside the service's resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extensions {
    /// `x-tidegate-bindings` of the root: for all operations, before their own.
    pub bindings: Vec<BindingSpec>,
    /// `x-tidegate-middleware` of the root: around all integrations, and around the operations' own.
    pub middleware: Vec<MiddlewareSpec>,
    /// By route key.
    pub operations: BTreeMap<String, Operation>,
    /// `x-tidegate-authorizer`, by the authorizer's name. The step is [`Step::Authorizer`].
    pub authorizers: BTreeMap<String, BindingSpec>,
    /// The definition as a whole.
    pub place: Option<Place>,
}

/// What an operation says beside its method or route.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// `x-tidegate-bindings`.
    pub bindings: Vec<BindingSpec>,
    /// `x-tidegate-middleware`.
    pub middleware: Vec<MiddlewareSpec>,
    /// Whether a request without content is refused: `requestBody.required`, which the service's `Method` does not hold.
    pub body_required: bool,
    pub place: Place,
}

/// A plugin bound to a step, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingSpec {
    pub step: Step,
    pub plugin: String,
    /// An object; `{}` where there is none.
    pub configuration: Value,
    pub grants: Grants,
    pub limits: Limits,
    /// `None`: the step's default.
    pub fault_policy: Option<FaultPolicy>,
    pub isolation: Isolation,
    pub place: Place,
}

/// A function around an integration, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct MiddlewareSpec {
    /// One of the node's `[function.*]` tables, which has its grants and limits.
    pub function: String,
    /// `None`: the default.
    pub fault_policy: Option<FaultPolicy>,
    pub place: Place,
}
