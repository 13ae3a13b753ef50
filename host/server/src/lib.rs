//! The Tidegate node: moves bytes between viewers, plugins, functions and upstreams.
//!
//! Start at [`node`] (what a node is made of) and [`request`] (the way of one request); [`listen`] is how a request gets
//! here from a socket, [`upstream`] how it gets to a server.

pub mod admin;
mod alarm;
pub mod body;
pub mod builtin;
pub mod cache;
mod cases;
pub mod cli;
mod configuration;
mod control;
pub mod deploy;
mod descriptors;
pub mod drain;
mod durable;
pub mod identity;
pub mod link;
pub mod listen;
mod membership;
mod memory;
pub mod node;
mod reload;
pub mod request;
pub mod services;
pub mod serving;
mod signature;
pub mod store;
mod stream;
pub mod sync;
pub mod telemetry;
pub mod upstream;
mod versions;
pub mod worker;
