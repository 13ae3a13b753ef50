//! Runs components inside limits.
//!
//! A [`Runtime`] turns the bytes of a component into a [`Plugin`] or a [`Function`]: looked at, compiled (or taken from
//! the artifact cache), linked. A [`Binding`] is a plugin at one place of a pipeline, with its configuration, grants and
//! limits; each worker thread has a [`Pool`] of its instances and calls its steps through that. A [`FunctionPool`] does
//! the same for functions (`wasi:http` components).
//!
//! This crate knows no socket, no file but its artifact cache, and nothing of API Gateway: the request in hand is an
//! [`Exchange`], and what a capability does outside the sandbox is the embedder's [`Services`].
//!
//! Start at [`runtime`], then [`binding`] and [`pool`].

pub mod account;
pub mod artifact;
pub mod binding;
pub mod bindings;
pub mod capabilities;
mod circuit;
mod compiled_functions;
mod compilers;
pub mod component;
mod debug_information;
pub mod engine;
pub mod exchange;
pub mod fault;
pub mod function;
pub mod grants;
mod instance;
pub mod limits;
pub mod next;
pub mod pool;
mod printable;
mod recent;
pub mod runtime;
mod shared_code;
pub mod standing;
pub mod threads;
mod wasi;

pub use account::{Account, Capability};
pub use binding::{BindError, Binding, BindingOptions, Decision, Kept, Setup};
pub use capabilities::Services;
pub use component::{Inspection, LoadError, Needs, Plugin, Step};
pub use engine::Settings;
pub use exchange::{Exchange, Reading};
pub use fault::Fault;
pub use function::{Function, FunctionOptions, FunctionPool};
pub use grants::Grants;
pub use limits::Limits;
pub use pool::Pool;
pub use runtime::Runtime;

/// The bindings' own words for what steps answer.
pub mod wit {
    pub use crate::bindings::gateway::exports::tidegate::gateway::authorizer::{
        Principal, Verdict,
    };
    pub use crate::bindings::gateway::exports::tidegate::gateway::request_transform::Outcome;
    pub use crate::bindings::gateway::exports::tidegate::gateway::throttle::Admission;
    pub use crate::bindings::gateway::exports::tidegate::gateway::validator::Validity;
    pub use crate::bindings::gateway::tidegate::gateway::api_keys::ApiKey;
    pub use crate::bindings::gateway::tidegate::gateway::http_client::{
        HttpError, OutgoingRequest,
    };
    pub use crate::bindings::gateway::tidegate::gateway::log::Level;
    pub use crate::bindings::gateway::tidegate::gateway::quota::{
        Period as QuotaPeriod, Standing as QuotaStanding, Taken as QuotaTaken, Terms as QuotaTerms,
    };
    pub use crate::bindings::gateway::tidegate::gateway::rate_limit::Taken;
    pub use crate::bindings::gateway::tidegate::gateway::types::{
        Edit, Forward, Invocation, Plan, Response,
    };
}
