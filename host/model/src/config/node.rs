//! The whole file, and `[node]`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::api::{Api, ApiFile};
use super::cache::{NodeCache, NodeCacheFile};
use super::function::{Function, FunctionFile, Plugin, PluginFile};
use super::key::{ApiKey, KeyFile, Secret, SecretFile};
use super::limits::{self, Limits, LimitsFile, Log, LogFile, Timeouts, TimeoutsFile};
use super::link::{Link, LinkFile, Origin, OriginFile, Role};
use super::listener::{Admin, AdminFile, Listener, ListenerFile};
use super::signatures::{PluginsFile, Signatures};
use super::source::Source;
use super::units::ByteSize;
use super::upstream::{Upstream, UpstreamFile};

/// A configuration as it was written. Its `Debug` form leaves it out: it can hold keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text(Arc<str>);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// All that a node is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// As it was written.
    pub text: Text,
    /// `None`: the host name.
    pub name: Option<String>,
    pub role: Role,
    pub region: String,
    /// Where the node keeps what it has to remember, and what it may forget.
    pub data: PathBuf,
    /// What compiled components may take of `data`.
    pub artifacts: ByteSize,
    /// What follows the region in host names: `{api}.execute-api.{region}.{suffix}`.
    pub suffix: String,
    /// `None`: one per core.
    pub threads: Option<NonZeroUsize>,
    /// At least one.
    pub listeners: Vec<Listener>,
    pub admin: Admin,
    /// `None`: takes no other nodes.
    pub link: Option<Link>,
    /// The origins it links to; an edge has at least one.
    pub origins: Vec<Origin>,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub cache: NodeCache,
    pub log: Log,
    pub upstreams: BTreeMap<String, Upstream>,
    pub functions: BTreeMap<String, Function>,
    pub plugins: BTreeMap<String, Plugin>,
    /// Whose plugins and functions it runs.
    pub signatures: Signatures,
    pub apis: Vec<Api>,
    pub keys: Vec<ApiKey>,
    pub secrets: BTreeMap<String, Secret>,
}

type Named<T> = BTreeMap<Spanned<String>, Spanned<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct NodeFile {
    node: Option<NodeTableFile>,
    listener: Option<Vec<Spanned<ListenerFile>>>,
    admin: Option<AdminFile>,
    link: Option<Spanned<LinkFile>>,
    origin: Option<Vec<Spanned<OriginFile>>>,
    limits: Option<LimitsFile>,
    timeouts: Option<TimeoutsFile>,
    cache: Option<NodeCacheFile>,
    log: Option<LogFile>,
    upstream: Option<Named<UpstreamFile>>,
    function: Option<Named<FunctionFile>>,
    plugin: Option<Named<PluginFile>>,
    plugins: Option<PluginsFile>,
    api: Option<Vec<Spanned<ApiFile>>>,
    key: Option<Vec<Spanned<KeyFile>>>,
    secret: Option<Named<SecretFile>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NodeTableFile {
    /// Default: the host name, which tells nodes apart in logs.
    name: Option<Spanned<String>>,
    /// Default `"all"`: one node is a whole gateway.
    role: Option<Spanned<Role>>,
    /// Default `"local"`.
    region: Option<Spanned<String>>,
    /// Default `".tidegate"`, beside this file.
    data: Option<String>,
    /// Default `"2GiB"`: a compiled component has 0.2 to 60 MiB, so some tens to some thousands. Those not used for longest
    /// go first; one that is missed is compiled again.
    artifacts: Option<Spanned<ByteSize>>,
    /// Default `"localhost"`: browsers and systemd resolve every name below it to this machine (RFC 6761 §6.3).
    suffix: Option<Spanned<String>>,
    /// Default: one per core.
    threads: Option<Spanned<usize>>,
}

impl NodeFile {
    pub(super) fn compile(self, source: &mut Source) -> Node {
        if let Some(role) = self.node.as_ref().and_then(|node| node.role.as_ref())
            && *role.get_ref() == Role::Edge
        {
            self.check_edge(&role.span(), source);
        }
        let node = self.node.unwrap_or_default();
        let threads = limits::at_least_one("node", "threads", node.threads, source);
        let region = host_part("region", node.region, "local", source);
        let suffix = host_part("suffix", node.suffix, "localhost", source);
        let listeners = self.listener.unwrap_or_default();
        if listeners.is_empty() {
            source.missing(&(0..0), "node", "listener");
        }
        let listeners = self::listeners(listeners, source);
        let apis = apis(self.api.unwrap_or_default(), source);
        let served: Vec<String> = apis
            .iter()
            .flat_map(|api| {
                api.stages
                    .iter()
                    .map(|stage| format!("{}/{}", api.id, stage.name))
            })
            .collect();
        let written = node.artifacts;
        let artifacts = limits::at_least("node", "artifacts", written, ARTIFACTS_LEAST, source)
            .unwrap_or(ByteSize::mib(2048));
        let data = source.resolve(node.data.as_deref().unwrap_or(".tidegate"));
        let secrets = named(self.secret, SecretFile::compile, source);
        let cache = self.cache.unwrap_or_default();
        Node {
            text: Text::default(), // the caller's
            artifacts,
            name: node.name.and_then(|name| name_of(name, source)),
            role: node.role.map(Spanned::into_inner).unwrap_or_default(),
            region,
            cache: cache.compile(&data, &secrets, source),
            data,
            suffix,
            threads: threads.and_then(NonZeroUsize::new),
            listeners,
            admin: self.admin.unwrap_or_default().compile(source),
            link: self.link.and_then(|link| LinkFile::compile(link, source)),
            origins: OriginFile::compile(self.origin.unwrap_or_default(), source),
            limits: self.limits.unwrap_or_default().compile(source),
            timeouts: self.timeouts.unwrap_or_default().compile(source),
            log: self.log.unwrap_or_default().compile(),
            upstreams: named(self.upstream, UpstreamFile::compile, source),
            functions: named(self.function, FunctionFile::compile, source),
            plugins: named(self.plugin, PluginFile::compile, source),
            signatures: self.plugins.unwrap_or_default().compile(source),
            keys: keys(self.key.unwrap_or_default(), &served, source),
            secrets,
            apis,
        }
    }
}

impl NodeFile {
    /// An edge serves what its origins have, so it needs one, and has nothing of that itself.
    fn check_edge(&self, role: &Range<usize>, source: &mut Source) {
        if self.origin.as_ref().is_none_or(Vec::is_empty) {
            let hint =
                "write `[[origin]]` with `address = \"host:port\"` of one's `[link]`".to_owned();
            source.problem_with_hint(role, "node: an edge needs an origin", Some(hint));
        }
        if let Some(link) = &self.link {
            let hint = "other nodes link to origins: write `role = \"origin\"`".to_owned();
            source.problem_with_hint(&link.span(), "link: an edge takes no nodes", Some(hint));
        }
        let apis = self.api.iter().flatten().map(Spanned::span);
        let keys = self.key.iter().flatten().map(Spanned::span);
        let functions = self.function.iter().flatten().map(|(name, _)| name.span());
        let plugins = self.plugin.iter().flatten().map(|(name, _)| name.span());
        let theirs = (apis.map(|span| ("api", span)))
            .chain(keys.map(|span| ("key", span)))
            .chain(functions.map(|span| ("function", span)))
            .chain(plugins.map(|span| ("plugin", span)));
        for (table, span) in theirs {
            let message = format!("{table}: an edge has none of its own");
            let hint = "it comes from the edge's origin: write it there".to_owned();
            source.problem_with_hint(&span, message, Some(hint));
        }
    }
}

fn named<F, T>(
    files: Option<Named<F>>,
    compile: fn(&str, Spanned<F>, &mut Source) -> Option<T>,
    source: &mut Source,
) -> BTreeMap<String, T> {
    let files = files.unwrap_or_default().into_iter();
    files
        .filter_map(|(name, file)| {
            Some((
                name.get_ref().clone(),
                compile(name.get_ref(), file, source)?,
            ))
        })
        .collect()
}

fn listeners(files: Vec<Spanned<ListenerFile>>, source: &mut Source) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for file in files {
        let span = file.span();
        let Some(listener) = ListenerFile::compile(file, source) else {
            continue;
        };
        let name = |listener: &Listener| listener.private.as_ref().map(|it| it.name.clone());
        if let Some(own) = name(&listener)
            && listeners
                .iter()
                .any(|other| name(other).as_ref() == Some(&own))
        {
            // A policy that lets in what comes by one would let in what comes by the other.
            source.problem(&span, format!("listener \"{own}\" is there twice"));
        }
        listeners.push(listener);
    }
    listeners
}

fn apis(files: Vec<Spanned<ApiFile>>, source: &mut Source) -> Vec<Api> {
    let mut apis: Vec<Api> = Vec::new();
    for file in files {
        let span = file.span();
        let Some(api) = ApiFile::compile(file, source) else {
            continue;
        };
        if apis.iter().any(|other| other.id == api.id) {
            source.problem(&span, format!("api \"{}\" is there twice", api.id));
        }
        apis.push(api);
    }
    apis
}

fn keys(files: Vec<Spanned<KeyFile>>, served: &[String], source: &mut Source) -> Vec<ApiKey> {
    let mut keys: Vec<ApiKey> = Vec::new();
    let mut values: HashMap<[u8; 32], String> = HashMap::new();
    for file in files {
        let span = file.span();
        let Some(key) = KeyFile::compile(file, served, source) else {
            continue;
        };
        if keys.iter().any(|other| other.id == key.id) {
            source.problem(&span, format!("key \"{}\" is there twice", key.id));
        }
        if let Some(other) = values.insert(key.digest, key.name.clone()) {
            source.problem(
                &span,
                format!("key \"{}\" has the value of key \"{other}\"", key.name),
            );
        }
        keys.push(key);
    }
    keys
}

/// Whether a node may be called `text`: 1 to 63 letters, digits, `-`, `_` and `.`, as host names have.
pub fn is_node_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

fn name_of(written: Spanned<String>, source: &mut Source) -> Option<String> {
    if !is_node_name(written.get_ref()) {
        let message =
            "node: `name` stands in certificates: use up to 63 letters, digits, -, _ and .";
        source.problem(&written.span(), message);
        return None;
    }
    Some(written.into_inner())
}

/// A piece of a host name, in lower case, in which requests are matched.
fn host_part(
    key: &str,
    written: Option<Spanned<String>>,
    default: &str,
    source: &mut Source,
) -> String {
    let Some(written) = written else {
        return default.to_owned();
    };
    let text = written.get_ref().to_ascii_lowercase();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if text.is_empty() || !text.bytes().all(fits) || text.starts_with('.') || text.ends_with('.') {
        source.problem(
            &written.span(),
            format!("node: `{key}` stands in host names: use letters, digits, - and ."),
        );
    }
    text
}

/// What the built-in plugins take, compiled.
const ARTIFACTS_LEAST: u64 = 64 << 20;
