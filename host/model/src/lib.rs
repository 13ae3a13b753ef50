//! What a gateway decides, without I/O: the node's configuration, the API model, routing, and the pure parts of the
//! request path.
//!
//! No sockets, no clocks, no tasks, no wasm: time comes in as an argument. Only the loaders read files:
//! [`config::load`], [`check()`] and [`deployment::load`].
//!
//! Start at [`config::load`] (a node's TOML → [`config::Node`]), then [`deployment::load`] (the node's API definitions →
//! [`deployment::Snapshot`]), then [`deployment::Snapshot::locate`] and [`deployment::Routes::select`], which a request meets.

// Tests start their own clocks; the model itself has none (clippy.toml).
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod api;
pub mod balance;
pub mod bucket;
pub mod cache;
pub mod canary;
pub mod check;
pub mod config;
pub mod deployment;
pub mod document;
pub mod headers;
pub mod iam;
pub mod lease;
pub mod problem;
pub mod quota;
pub mod retry;
pub mod uri;

pub use check::check;
pub use problem::{Place, Problem, Problems};
