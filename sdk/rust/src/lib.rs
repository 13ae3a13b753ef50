//! What a Tidegate plugin in Rust is written with.
//!
//! A plugin is a type that is [configured](Plugin::configure) once for each instance and then asked at the steps that it
//! implements: [`Authorizer`], [`Throttle`], [`Validator`], [`RequestTransform`], [`Integration`], [`ResponseTransform`],
//! [`LogSink`]. [`export!`] makes a component of it:
//!
//! ```
//! use tidegate_plugin::{Authorizer, Configuration, ConfigurationError, Given, Plugin, Setup, Verdict};
//! use tidegate_plugin::{Principal, Reading};
//!
//! /// Admits the caller that knows the word.
//! pub struct Password {
//!     word: String,
//! }
//!
//! impl Plugin for Password {
//!     fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
//!         let mut fields = configuration.object()?;
//!         let word = fields.required("word")?.string()?;
//!         fields.finish()?;
//!         Ok(Setup::new(Self { word }).reads([Reading::Header("x-word".into())]))
//!     }
//! }
//!
//! impl Authorizer for Password {
//!     fn authorize(&self, given: Given) -> Result<Verdict, String> {
//!         Ok(match given.get(0) {
//!             Some(word) if word == self.word => Verdict::Allow(Principal::new("friend")),
//!             Some(_) => Verdict::Forbidden(None),
//!             None => Verdict::Unauthorized(None),
//!         })
//!     }
//! }
//!
//! tidegate_plugin::export!(Password: authorizer);
//! ```
//!
//! The request in hand is read by the functions of [`request`], its body by [`request_body`], the response's by
//! [`response`] and [`response_body`]; what the node offers beside them (and a binding must be granted) are the modules
//! [`crypto`], [`jwks`], [`rate_limit`], [`quota`], [`api_keys`], [`shared_cache`], [`http_client`], [`secrets`], [`metrics`]
//! and [`log_output`]. A component imports only the interfaces whose functions it calls. Outside a component these functions
//! panic: keep decisions in functions of plain values, and test those.
//!
//! The types are those of the WIT package `tidegate:gateway`, where each is documented to the last field.

extern crate self as tidegate_plugin;

#[cfg(any(
    test,
    all(
        feature = "allocator",
        target_family = "wasm",
        not(target_feature = "atomics")
    )
))]
mod allocator;
mod export;
mod expression;
mod given;
mod plugin;
mod rule;
mod template;

#[doc(hidden)]
pub mod bindings;
pub mod configuration;
pub mod escape;
pub mod field;

pub use bindings::imports::tidegate::gateway::{
    api_keys, crypto, http_client, jwks, log, log_output, metrics, quota, rate_limit, request,
    request_body, response, response_body, secrets, shared_cache, types,
};
pub use bindings::{
    authorizer::exports::tidegate::gateway::authorizer::{Principal, Verdict},
    plugin::exports::tidegate::gateway::plugin::Standing,
    request_transform::exports::tidegate::gateway::request_transform::Outcome,
    throttle::exports::tidegate::gateway::throttle::Admission,
    validator::exports::tidegate::gateway::validator::Validity,
};
pub use configuration::{Configuration, ConfigurationError};
pub use expression::parse_expression;
#[doc(hidden)]
pub use expression::parse_reading;
pub use given::{Given, Reads};
pub use plugin::{
    Authorizer, Integration, LogSink, Plugin, RequestTransform, ResponseTransform, Setup, Throttle,
    Validator,
};
pub use rule::render;
pub use serde_json as json;
pub use template::{Text, parse_template};
pub use types::{
    Edit, Forward, Invocation, Part, Plan, Reading, Response, Rule, StandingForward, StandingPlan,
    Template,
};

#[doc(hidden)]
pub use export::{Exported, Kept};
#[doc(hidden)]
pub use wit_bindgen;
