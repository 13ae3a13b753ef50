//! From a node's configuration to what its workers serve from.
//!
//! Everything that can be wrong is found here, before a request meets it: the definitions are compiled, the components
//! loaded, every binding configured once. Only then is there a [`Deployed`], and it is swapped in whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::uri::Authority;
use tidegate_model::config::{self, Node, Role, Signatures};
use tidegate_model::deployment::{self as model, Isolation, LogOutput, Snapshot};
use tidegate_model::{Place, Problems};
use tidegate_sandbox::artifact::content_hash;
use tidegate_sandbox::standing::StandingPlan;
use tidegate_sandbox::{
    Account, Binding, BindingOptions, Decision, Function, FunctionOptions, Grants, Kept, Limits,
    Plugin, Runtime, Services, Step,
};

use crate::builtin;
use crate::cases::health;
use crate::cases::record::Recorder;
use crate::configuration;
use crate::memory;
use crate::signature;
use crate::sync::Manifest;
use crate::telemetry::metrics::{DeployedMetrics, Metrics};
use crate::versions::Components;

/// What a node serves from: immutable, shared by all workers.
pub struct Deployed {
    /// Counts deployments of this process, from 1; no two have the same.
    pub revision: u64,
    /// What nodes know it by: the same on every node that serves the same. Empty where no other node is told of it.
    pub published: Arc<str>,
    /// What other nodes are told.
    pub manifest: Option<Manifest>,
    pub snapshot: Snapshot,
    /// What bindings are of, by name.
    pub plugins: BTreeMap<String, Arc<Plugin>>,
    /// In the order of the snapshot's bindings.
    pub bindings: Vec<Arc<Binding>>,
    pub functions: BTreeMap<String, LinkedFunction>,
    /// Hosts (`host` or `host:port`) that standing integrations may send to, beside the upstreams.
    pub pinned: BTreeSet<String>,
    pub metrics: DeployedMetrics,
    /// Of the process: who has requests written down.
    pub recorder: Arc<Recorder>,
    /// How many of its own cases each plugin passed whose version was not served before.
    pub cases_passed: BTreeMap<String, usize>,
}

/// A function, ready to be instantiated.
pub struct LinkedFunction {
    pub function: Arc<Function>,
    pub options: FunctionOptions,
    pub services: Arc<dyn Services>,
    pub account: Arc<Account>,
}

/// Makes deployments.
pub struct Deployer {
    runtime: Arc<Runtime>,
    services: Arc<dyn Services>,
    metrics: Arc<Metrics>,
    recorder: Arc<Recorder>,
    /// The last revision that was given.
    revision: AtomicU64,
}

impl Deployer {
    pub fn new(runtime: Arc<Runtime>, services: Arc<dyn Services>, metrics: Arc<Metrics>) -> Self {
        Self {
            runtime,
            services,
            metrics,
            recorder: Arc::default(),
            revision: AtomicU64::new(0),
        }
    }

    /// Compiles, loads and configures all that `node` names, and runs the cases of plugins whose version is another than
    /// before. What did not change since `before` is taken over, with its instances. `components` are the files of plugin
    /// versions that stand in for what `node` says of them; `manifest` is what other nodes are told of it.
    ///
    /// # Errors
    ///
    /// All problems; nothing has changed then.
    pub async fn deploy(
        &self,
        node: &Node,
        components: &Components,
        manifest: Option<Manifest>,
        before: Option<&Deployed>,
    ) -> Result<Deployed, Problems> {
        // A plugin that was deployed can be bound, also where the node's file does not name it.
        let deployed = components.keys().map(String::as_str);
        let known: Vec<&str> = builtin::names().into_iter().chain(deployed).collect();
        let snapshot = model::load(node, &known)?;
        let mut problems = Problems::default();
        let plugins = self
            .plugins(node, components, &snapshot, before, &mut problems)
            .await;
        let functions = self.functions(node, before, &mut problems).await;

        let (bindings, pinned) = self
            .bindings(node, &snapshot, &plugins, before, &mut problems)
            .await;
        let mut cases_passed = BTreeMap::new();
        if let (true, Some(before)) = (problems.is_empty(), before) {
            cases_passed = health::check(&snapshot, &plugins, before, &mut problems).await;
            health::check_functions(node, &functions, before, &mut problems).await;
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let metrics = self.metrics.deployed(&snapshot);
        let revision = self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Deployed {
            revision,
            published: manifest.as_ref().map_or_else(Arc::default, Manifest::id),
            manifest: manifest.map(|manifest| with_components(manifest, &bindings)),
            snapshot,
            plugins,
            bindings,
            functions,
            pinned,
            metrics,
            recorder: self.recorder.clone(),
            cases_passed,
        })
    }

    /// Loads a version that no binding names, and runs its cases; gives how many passed.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub async fn try_out(&self, node: &Node, file: &Path) -> Result<usize, String> {
        let (runtime, policy) = (self.runtime.clone(), node.signatures.clone());
        let file = file.to_owned();
        let load = memory::spawn_blocking(move || {
            let loader = Loader {
                runtime,
                known: HashMap::new(),
            };
            loader.version(&file, &policy)
        });
        let plugin = load
            .await
            .unwrap_or_else(|error| Err(format!("loading it failed: {error}")))?;
        let none = serde_json::json!({});
        let configurations: Vec<_> = plugin.steps().map(|step| (step, &none)).collect();
        health::of(&plugin, &configurations)
            .await
            .map_err(|error| format!("{error:#}"))
    }

    /// Loads every plugin that a binding names, each once; those that were loaded before are taken over.
    async fn plugins(
        &self,
        node: &Node,
        components: &Components,
        snapshot: &Snapshot,
        before: Option<&Deployed>,
        problems: &mut Problems,
    ) -> BTreeMap<String, Arc<Plugin>> {
        let known = before.into_iter().flat_map(|it| it.plugins.values());
        let loader = Arc::new(Loader {
            runtime: self.runtime.clone(),
            known: known
                .map(|plugin| (plugin.hash.clone(), plugin.clone()))
                .collect(),
        });
        let used: BTreeSet<&String> = snapshot
            .bindings
            .iter()
            .map(|binding| &binding.plugin)
            .collect();
        let mut loads = Vec::new();
        for name in used {
            let loader = loader.clone();
            let own = node.plugins.get(name);
            let version = components.get(name).cloned();
            let source = own.map(|plugin| plugin.component.clone());
            let builtin = builtin::component(name);
            let policy = node.signatures.clone();
            let load = memory::spawn_blocking(move || match (version, source, builtin) {
                (Some(file), _, _) => loader.version(&file, &policy),
                (None, Some(file), _) => {
                    read_signed(&file, &policy).and_then(|bytes| loader.plugin(&bytes))
                }
                (None, None, Some(bytes)) => loader.plugin(bytes),
                (None, None, None) => Err("there is no such plugin".to_owned()),
            });
            let place = own.map(|plugin| plugin.place.clone());
            loads.push((name.clone(), place, load));
        }
        let mut plugins = BTreeMap::new();
        for (name, place, load) in loads {
            match load
                .await
                .unwrap_or_else(|error| Err(format!("loading it failed: {error}")))
            {
                Ok(plugin) => drop(plugins.insert(name, plugin)),
                Err(problem) => {
                    let place = place.unwrap_or_else(|| Place::file(Path::new("built-in")));
                    problems.add(&place, format!("plugin \"{name}\": {problem}"));
                }
            }
        }
        plugins
    }

    async fn functions(
        &self,
        node: &Node,
        before: Option<&Deployed>,
        problems: &mut Problems,
    ) -> BTreeMap<String, LinkedFunction> {
        let mut loads = Vec::new();
        // Edges invoke none.
        let invoked = (node.role != Role::Edge).then_some(&node.functions);
        for function in invoked.into_iter().flat_map(BTreeMap::values) {
            let (runtime, file) = (self.runtime.clone(), function.component.clone());
            let policy = node.signatures.clone();
            let load = memory::spawn_blocking(move || {
                let bytes = read_signed(&file, &policy)?;
                runtime
                    .function(&bytes)
                    .map_err(|error| format!("{}: {error}", file.display()))
            });
            loads.push((function, load));
        }
        let mut functions = BTreeMap::new();
        for (spec, load) in loads {
            match load
                .await
                .unwrap_or_else(|error| Err(format!("loading it failed: {error}")))
            {
                Ok(function) => {
                    functions.insert(
                        spec.name.clone(),
                        self.linked_function(spec, function, before),
                    );
                }
                Err(problem) => problems.add(
                    &spec.place,
                    format!("function \"{}\": {problem}", spec.name),
                ),
            }
        }
        functions
    }

    fn linked_function(
        &self,
        spec: &config::Function,
        function: Arc<Function>,
        before: Option<&Deployed>,
    ) -> LinkedFunction {
        let options = FunctionOptions {
            name: spec.name.clone(),
            environment: spec.environment.clone().into_iter().collect(),
            tables: spec.tables.clone(),
            http_client: spec.http_client.clone(),
            limits: Limits {
                deadline: spec.deadline,
                start_deadline: START_DEADLINE,
                memory_bytes: spec.memory.0,
                instances_max: spec.instances.into(),
            },
            reuse: spec.isolation == Isolation::Reuse,
        };
        if let Some(same) = before.and_then(|before| before.functions.get(&spec.name))
            && same.function.hash == function.hash
            && same.options == options
        {
            return LinkedFunction {
                function: same.function.clone(),
                options,
                services: same.services.clone(),
                account: same.account.clone(),
            };
        }
        LinkedFunction {
            function,
            options,
            services: self.services.clone(),
            account: Arc::default(),
        }
    }

    /// Configures every binding, in the order of the snapshot; with them, the hosts that standing plans send to.
    async fn bindings(
        &self,
        node: &Node,
        snapshot: &Snapshot,
        plugins: &BTreeMap<String, Arc<Plugin>>,
        before: Option<&Deployed>,
        problems: &mut Problems,
    ) -> (Vec<Arc<Binding>>, BTreeSet<String>) {
        let bound = snapshot.bindings.iter().zip(&snapshot.places);
        let configuring = bound.filter_map(|(spec, place)| {
            let plugin = plugins.get(&spec.plugin)?; // where there is none, its loading has been reported
            Some(async move { (spec, place, self.binding(spec, plugin, before).await) })
        });
        // Together, so that many slow ones take no longer than one.
        let mut configured = stream::iter(configuring).buffered(CONFIGURING_MAX);
        let mut bindings = Vec::with_capacity(snapshot.bindings.len());
        let mut pinned = BTreeSet::new();
        while let Some((spec, place, binding)) = configured.next().await {
            match binding {
                Ok(binding) => {
                    match check_destination(&binding, spec, node) {
                        Ok(host) => pinned.extend(host),
                        Err(problem) => problems.add(place, format!("{}: {problem}", spec.name)),
                    }
                    bindings.push(binding);
                }
                Err(error) => problems.add(
                    place,
                    format!("{}: plugin \"{}\": {error}", spec.name, spec.plugin),
                ),
            }
        }
        (bindings, pinned)
    }

    async fn binding(
        &self,
        spec: &Arc<model::Binding>,
        plugin: &Arc<Plugin>,
        before: Option<&Deployed>,
    ) -> Result<Arc<Binding>, String> {
        let mut kept = Kept::default();
        if let Some(before) = before {
            let known = || before.snapshot.bindings.iter().zip(&before.bindings);
            let same = |(other, binding): &(&Arc<model::Binding>, &Arc<Binding>)| {
                *other == spec && binding.plugin().hash == plugin.hash
            };
            if let Some((_, binding)) = known().find(same) {
                return Ok(binding.clone());
            }
            // Another version, or another configuration, of what is bound at the same place: its name says which, unless there are two.
            let mut at_place = known().filter(|(other, _)| other.name == spec.name);
            if let (Some((_, binding)), None) = (at_place.next(), at_place.next()) {
                kept = binding.kept();
            }
        }
        configuration::check(plugin, &spec.configuration)?;
        let options = BindingOptions {
            name: spec.name.clone(),
            step: step(spec.step),
            configuration: spec.configuration.to_string(),
            grants: grants(&spec.grants),
            limits: Limits {
                deadline: spec.limits.deadline,
                start_deadline: spec.limits.start_deadline,
                memory_bytes: spec.limits.memory_bytes,
                instances_max: spec.limits.instances.into(),
            },
            reuse: spec.isolation == Isolation::Reuse,
            kept,
        };
        let binding = Binding::new(plugin.clone(), options, self.services.clone()).await;
        binding.map_err(|error| error.to_string())
    }
}

/// Names what steps are bound to, for who wants it compiled.
fn with_components(manifest: Manifest, bindings: &[Arc<Binding>]) -> Manifest {
    let hashes = bindings.iter().map(|binding| binding.plugin().hash.clone());
    Manifest {
        components: hashes.collect(),
        ..manifest
    }
}

/// Loads plugins, beside those that are there.
struct Loader {
    runtime: Arc<Runtime>,
    /// By the hash of their content: a change of one plugin among hundreds costs one load.
    known: HashMap<String, Arc<Plugin>>,
}

impl Loader {
    fn plugin(&self, bytes: &[u8]) -> Result<Arc<Plugin>, String> {
        if let Some(plugin) = self.known.get(&content_hash(bytes)) {
            return Ok(plugin.clone());
        }
        let plugin = self.runtime.plugin(bytes);
        plugin.map_err(|error| error.to_string())
    }

    /// Loads a version that the node keeps: only what was handed to it, whose hash is the file's name.
    fn version(&self, file: &Path, policy: &Signatures) -> Result<Arc<Plugin>, String> {
        let plugin = read_signed(file, policy).and_then(|bytes| self.plugin(&bytes))?;
        if file.file_stem().is_none_or(|hash| *hash != *plugin.hash) {
            return Err(format!(
                "{} is not what was swapped in: its content has another hash than its name; swap the plugin in again, or \
                 take it out of versions.json beside it to serve what the configuration says",
                file.display()
            ));
        }
        Ok(plugin)
    }
}

/// Reads a component that this node may run. What was read is what was verified: nobody can change it in between.
fn read_signed(file: &Path, policy: &Signatures) -> Result<Vec<u8>, String> {
    let component = read_component(file)?;
    let signature = match policy {
        Signatures::Off => None,
        Signatures::Required(_) => signature::read_beside(file)?,
    };
    signature::check(policy, &component, signature.as_deref())
        .map_err(|problem| format!("{}: {problem}", file.display()))?;
    Ok(component)
}

fn read_component(file: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?
        .len();
    if size > COMPONENT_BYTES_MAX {
        return Err(format!(
            "{} has {size} bytes; a component has at most {COMPONENT_BYTES_MAX}",
            file.display()
        ));
    }
    std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

/// Sees that a standing plan to forward names an upstream or a granted host; returns the host where it is one.
fn check_destination(
    binding: &Binding,
    spec: &model::Binding,
    node: &Node,
) -> Result<Option<String>, String> {
    let uri = match &binding.setup.decision {
        Decision::Plan(StandingPlan::Forward { uri, .. }) => uri,
        Decision::Plan(StandingPlan::Invoke { function, .. })
            if !node.functions.contains_key(function) =>
        {
            return Err(format!("there is no function \"{function}\""));
        }
        _ => return Ok(None),
    };
    let Some((origin, _)) = uri.split_origin() else {
        return Ok(None);
    }; // known with the request, and checked then
    let parsed: http::Uri = origin
        .parse()
        .map_err(|_| format!("\"{origin}\" is no server"))?;
    let authority = parsed
        .authority()
        .ok_or_else(|| format!("\"{origin}\" names no host"))?;
    if node.upstreams.contains_key(authority.as_str()) {
        return Ok(None);
    }
    if host_is_granted(&spec.grants.upstream, authority) {
        return Ok(Some(authority.as_str().to_owned()));
    }
    Err(format!(
        "no upstream \"{authority}\", and the host is not granted (grants: upstream)"
    ))
}

/// Whether a grant's list has this host.
pub fn host_is_granted(granted: &[String], authority: &Authority) -> bool {
    granted.iter().any(|allowed| {
        allowed == "*"
            || allowed.eq_ignore_ascii_case(authority.as_str())
            || allowed.eq_ignore_ascii_case(authority.host())
    })
}

/// The sandbox's word for a step.
pub fn step(step: model::Step) -> Step {
    match step {
        model::Step::Authorizer => Step::Authorizer,
        model::Step::Throttle => Step::Throttle,
        model::Step::Validator => Step::Validator,
        model::Step::RequestTransform => Step::RequestTransform,
        model::Step::Integration => Step::Integration,
        model::Step::ResponseTransform => Step::ResponseTransform,
        model::Step::LogSink => Step::LogSink,
    }
}

fn grants(grants: &model::Grants) -> Grants {
    Grants {
        crypto: grants.crypto,
        jwks: grants.jwks.clone(),
        rate_limit: grants.rate_limit,
        quota: grants.quota,
        api_keys: grants.api_keys,
        shared_cache: grants.shared_cache,
        http_client: grants.http_client.clone(),
        secrets: grants.secrets.clone(),
        metrics: grants.metrics,
        log_output: grants.log_output.as_ref().map(destination),
    }
}

/// A log destination as one word: `stdout`, or `file:` and the path.
fn destination(output: &LogOutput) -> String {
    match output {
        LogOutput::Stdout => "stdout".to_owned(),
        LogOutput::File(path) => format!("file:{}", path.display()),
    }
}

/// Bindings that are configured at once: each has an instance for as long as it takes.
const CONFIGURING_MAX: usize = 64;
/// Interpreters need a good second for their first breath.
const START_DEADLINE: Duration = Duration::from_secs(5);
/// The largest component of the toolchains we know is 18 MiB (CPython inside).
pub const COMPONENT_BYTES_MAX: u64 = 256 << 20;
