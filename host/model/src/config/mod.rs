//! A node's configuration: one TOML file → [`Node`].
//!
//! Each concept has two types (STYLE: configuration). `ListenerFile` is what was written; `Listener` is what is true, made
//! by `ListenerFile::compile` alone. Every key, its default and the reason for it stand at the field of the `…File` type.
//! `configs/full.toml` shows all of them.
//!
//! [`load`] reads the file and what it names that is small and needed as a value (API keys' `value-file`). It does not
//! read certificates, components or API definitions: their readers say what is wrong with them.

mod api;
mod cache;
mod function;
mod key;
mod limits;
mod link;
mod listener;
mod node;
mod signatures;
mod source;
mod units;
mod upstream;

use std::path::Path;

pub use api::{AccessLog, Api, RouteSettings, Stage, Throttle};
pub use cache::{Cache, DiskCache, NodeCache};
pub use function::{Function, Plugin};
pub use key::{ApiKey, Secret, SecretSource, StageName};
pub use limits::{Limits, Log, LogFormat, Timeouts};
pub use link::{Link, Origin, Role, is_host_and_port};
pub use listener::{Admin, Listener, ListenerTls, Private, Protocols};
pub use node::{Node, Text, is_node_name};
pub use signatures::{PublicKey, Signatures};
pub use units::{ByteSize, DurationText};
pub use upstream::{
    Balance, Ejection, Health, Scheme, StatusRanges, Target, Upstream, UpstreamTls,
};

use crate::problem::{Place, Problems};

/// Reads a node's configuration.
///
/// # Errors
/// Every problem of the file, each with its line: unreadable, not TOML, unknown keys, values of another shape, names
/// that nothing has.
pub fn load(path: &Path) -> Result<Node, Problems> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) => {
            let mut problems = Problems::default();
            problems.add(&Place::file(path), format!("cannot be read: {error}"));
            Err(problems)
        }
    }
}

/// Reads a node's configuration from `text`; `path` is what relative paths and problems refer to.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<Node, Problems> {
    let mut source = source::Source::new(path, text);
    let file: node::NodeFile = source.read(text);
    let mut node = file.compile(&mut source);
    node.text = text.into();
    source.problems.or(node)
}

#[cfg(test)]
mod tests;
