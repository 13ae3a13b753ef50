//! What a user defines: APIs, with API Gateway's own resources.
//!
//! [`rest`] holds the resources of REST APIs and [`http`] those of HTTP APIs, field for field and by the service's JSON
//! names, so that a control API can speak them as they are. [`openapi`] makes them from OpenAPI files. What Tidegate adds
//! stands beside them in [`Extensions`]. Nothing here decides on requests: a deployment compiles it first.

pub mod extensions;
pub mod http;
pub mod openapi;
pub mod rest;

pub use extensions::{BindingSpec, Extensions, MiddlewareSpec, Operation};

/// An API as it was defined, with all that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub resources: Resources,
    pub extensions: Extensions,
    /// SHA-256 of the definition, in hex: what is written otherwise and means the same may have another.
    pub digest: String,
}

/// The resources of an API, by the service's API that speaks them.
#[derive(Debug, Clone, PartialEq)]
pub enum Resources {
    /// Amazon API Gateway V1.
    Rest(Box<rest::Definition>),
    /// Amazon API Gateway V2, protocol HTTP.
    Http(Box<http::Definition>),
}

/// Makes resources of the service: structs with its JSON names, whose absent and default fields are left out when
/// written, as the service leaves them out.
macro_rules! resource {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "crate::api::is_default")]
                pub $field: $type,
            )*
        }
    )*};
}
use resource;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An identifier of ten characters that is always the same for the same thing.
fn stable_id(kind: &str, name: &str) -> String {
    let mut digest = hex_digest(&format!("{kind}\0{name}"));
    digest.truncate(10);
    digest
}

/// SHA-256 of `text`, in hex.
fn hex_digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
