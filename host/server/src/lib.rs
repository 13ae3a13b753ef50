//! The Tidegate node: moves bytes between viewers, plugins, functions and upstreams.
//!
//! Start at [`listen`] (socket → request) and [`upstream`] (target → response).

mod alarm;
pub mod body;
pub mod drain;
pub mod listen;
mod stream;
pub mod upstream;
