//! `[function.*]` and `[plugin.*]`: the components that a node runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::limits::positive;
use super::source::Source;
use super::units::{ByteSize, DurationText};
use crate::deployment::{INSTANCES_MAX, Isolation};
use crate::problem::Place;

/// A `wasi:http` component that integrations invoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub component: PathBuf,
    pub isolation: Isolation,
    /// The tables (`wasi:keyvalue` buckets) that it may open.
    pub tables: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// The hosts (`host` or `host:port`) that it may ask.
    pub http_client: Vec<String>,
    /// Wall-clock time of one invocation, until the whole response is there.
    pub deadline: Duration,
    /// Linear memory of one instance.
    pub memory: ByteSize,
    /// Invocations at once, on each worker: each has an instance.
    pub instances: u16,
    pub place: Place,
}

/// A component that implements steps of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    pub name: String,
    pub component: PathBuf,
    pub place: Place,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct FunctionFile {
    /// The `.wasm` file. Required.
    component: Option<String>,
    /// Default `"reuse"`: an instance serves one request after another; `"request"` makes a fresh one for each.
    isolation: Option<Isolation>,
    /// Default none.
    tables: Option<Vec<String>>,
    /// Default empty: nothing of the node's own environment gets in.
    environment: Option<BTreeMap<String, String>>,
    /// Default none: no host may be asked.
    http_client: Option<Vec<String>>,
    /// Default `"29s"`: API Gateway's integration timeout.
    deadline: Option<Spanned<DurationText>>,
    /// Default `"128MiB"`: AWS Lambda's.
    memory: Option<Spanned<ByteSize>>,
    /// Default 256.
    instances: Option<Spanned<u16>>,
}

impl FunctionFile {
    pub(super) fn compile(
        name: &str,
        file: Spanned<Self>,
        source: &mut Source,
    ) -> Option<Function> {
        let span = file.span();
        let file = file.into_inner();
        let owner = format!("function \"{name}\"");
        let deadline = positive(&owner, "deadline", file.deadline, source);
        let memory = file.memory.map(|memory| memory_of(&owner, &memory, source));
        let instances = file.instances.map(|instances| {
            let number = *instances.get_ref();
            if !(1..=INSTANCES_MAX).contains(&number) {
                let message = format!("{owner}: `instances` is not between 1 and {INSTANCES_MAX}");
                source.problem(&instances.span(), message);
            }
            number
        });
        let Some(component) = file.component else {
            source.missing(&span, &owner, "component");
            return None;
        };
        Some(Function {
            name: name.to_owned(),
            component: source.resolve(&component),
            isolation: file.isolation.unwrap_or_default(),
            tables: file.tables.unwrap_or_default(),
            environment: file.environment.unwrap_or_default(),
            http_client: file.http_client.unwrap_or_default(),
            deadline: deadline.unwrap_or(Duration::from_secs(29)),
            memory: memory.unwrap_or(ByteSize::mib(128)),
            instances: instances.unwrap_or(INSTANCES),
            place: source.place(&span),
        })
    }
}

/// What one worker can have under way while an upstream of the function is slow.
const INSTANCES: u16 = 256;

/// A wasm memory has pages of 64 KiB and at most 4 GiB.
fn memory_of(owner: &str, memory: &Spanned<ByteSize>, source: &mut Source) -> ByteSize {
    let size = *memory.get_ref();
    if size < ByteSize::kib(64) || size > ByteSize::mib(4096) {
        source.problem(
            &memory.span(),
            format!("{owner}: `memory` is not between 64KiB and 4GiB"),
        );
    }
    size
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PluginFile {
    /// The `.wasm` file. Required.
    component: Option<String>,
}

impl PluginFile {
    pub(super) fn compile(name: &str, file: Spanned<Self>, source: &mut Source) -> Option<Plugin> {
        let span = file.span();
        let Some(component) = file.into_inner().component else {
            source.missing(&span, &format!("plugin \"{name}\""), "component");
            return None;
        };
        Some(Plugin {
            name: name.to_owned(),
            component: source.resolve(&component),
            place: source.place(&span),
        })
    }
}
