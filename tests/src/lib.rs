//! The harness of the end-to-end tests: a real node as a process, real sockets, and origins that behave as told.
//!
//! Start at [`TestNode`]; give it an API whose integration is a [`TestOrigin`] (well-behaved) or a [`RawOrigin`] (not);
//! ask with [`TestNode::get`] or through a [`Connection`] of your own; put [`Load`] on it to see that what one request does
//! to the node does not touch the others. Nothing here waits for a fixed time: [`until`] polls a condition, with a bound.

mod author;
mod client;
mod component;
pub mod linked;
mod load;
mod metrics;
pub mod network;
mod node;
mod openapi;
mod origin;
mod pace;
mod registry;
mod router;
mod setup;
mod tls;
mod wait;
pub mod world;

pub use author::Author;
pub use client::{Connection, Reply, read_until_closed};
pub use component::with_section;
pub use load::{Load, Tally};
pub use metrics::Metrics;
pub use node::{Stopped, TestNode};
pub use openapi::{Api, Operation};
pub use origin::{Body, RawOrigin, TestOrigin, text};
pub use pace::Pace;
pub use registry::TestRegistry;
pub use router::{Passes, Router};
pub use setup::{Check, Setup, binary, check, fixture, items_function, root};
pub use tls::{Authority, trusting};
pub use wait::{PATIENCE, say_skipped, until, until_within};
