//! From bytes to something that can be called: engines, linkers and the artifact cache of a node.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rayon::ThreadPoolBuildError;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use crate::artifact::{Artifacts, compatibility, content_hash};
use crate::bindings::gateway::tidegate::gateway as imports;
use crate::bindings::keyvalue::wasi::keyvalue;
use crate::compiled_functions::CompiledFunctions;
use crate::compilers::Compilers;
use crate::component::{Handles, Inspection, LoadError, Needs, PACKAGE, Plugin};
use crate::engine::{Settings, TickingEngine};
use crate::function::{Function, FunctionState, Handler};
use crate::instance::StepState;
use crate::next;
use crate::shared_code::{Code, SharedCode};
use crate::wasi;

/// Loads components. One for a node.
pub struct Runtime {
    settings: Settings,
    plain: TickingEngine,
    /// Made when the first function needs it: it reserves a pool of its own.
    concurrent: OnceLock<TickingEngine>,
    calm: Linker<StepState>,
    waiting: Linker<StepState>,
    functions: Linker<FunctionState>,
    artifacts: Option<Artifacts>,
    compiled_functions: Arc<CompiledFunctions>,
    shared_code: SharedCode,
    compilers: Compilers,
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The machine or the limits do not allow the engine's pool.
    #[error("the WebAssembly engine does not start: {0:#}")]
    Engine(wasmtime::Error),
    /// There are no threads to compile on.
    #[error("no threads for compiling components")]
    Compilers(#[source] ThreadPoolBuildError),
    /// The directory for artifacts cannot be used.
    #[error("the directory for compiled components, {path}, cannot be used")]
    Artifacts {
        /// The directory.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Runtime {
    /// Starts the engine and opens the artifact cache.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    pub fn new(settings: Settings) -> Result<Self, RuntimeError> {
        let compiled_functions = Arc::new(CompiledFunctions::new(settings.function_bytes_max));
        let plain = TickingEngine::new(&settings, false, compiled_functions.clone());
        let plain = plain.map_err(RuntimeError::Engine)?;
        let artifacts = match &settings.artifacts {
            None => None,
            Some(path) => Some(Artifacts::open(path, settings.artifact_bytes_max).map_err(
                |source| RuntimeError::Artifacts {
                    path: path.clone(),
                    source,
                },
            )?),
        };
        let engine = &plain.engine;
        Ok(Self {
            calm: step_linker(engine, false).map_err(RuntimeError::Engine)?,
            waiting: step_linker(engine, true).map_err(RuntimeError::Engine)?,
            functions: function_linker(engine).map_err(RuntimeError::Engine)?,
            concurrent: OnceLock::new(),
            plain,
            artifacts,
            compiled_functions,
            shared_code: SharedCode::default(),
            compilers: Compilers::start(settings.give_back).map_err(RuntimeError::Compilers)?,
            settings,
        })
    }

    /// From here on there are requests, and loading gives way to them.
    pub fn give_way(&self) {
        self.compilers.give_way();
    }

    /// Loads a plugin. Compiles it where the cache does not have it: takes 5 ms to some seconds of one or more cores, and
    /// waits for threads made for that, so call it off the request's threads.
    ///
    /// # Errors
    ///
    /// Says by name what is wrong with the component.
    pub fn plugin(&self, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        self.compilers.run(|| self.load_plugin(bytes))
    }

    /// Loads a function, as [`Runtime::plugin`] does a plugin.
    ///
    /// # Errors
    ///
    /// Says by name what is wrong with the component.
    pub fn function(&self, bytes: &[u8]) -> Result<Arc<Function>, LoadError> {
        self.compilers.run(|| self.load_function(bytes))
    }

    fn load_plugin(&self, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        let inspection = Inspection::of(bytes)?;
        inspection.check_plugin()?;
        let Loaded {
            component,
            hash,
            code,
        } = self.component(&self.plain.engine, bytes)?;
        let waits = waits(&component);
        let linker = if waits { &self.waiting } else { &self.calm };
        let pre = link(linker, &component)?;
        let needs = Needs {
            waits,
            request_body: inspection.imports_interface("request-body"),
            response_body: inspection.imports_interface("response-body"),
        };
        Ok(Arc::new(Plugin {
            inspection,
            pre,
            needs,
            hash,
            code_bytes: component.text().len(),
            _code: code,
        }))
    }

    fn load_function(&self, bytes: &[u8]) -> Result<Arc<Function>, LoadError> {
        let inspection = Inspection::of(bytes)?;
        let (handler, loaded) = match inspection.handles()? {
            Handles::Http02 => {
                let loaded = self.component(&self.plain.engine, bytes)?;
                let pre = link(&self.functions, &loaded.component)?;
                (Handler::incoming(pre), loaded)
            }
            Handles::Http03 => {
                let engine = &self.concurrent()?.engine;
                let loaded = self.component(engine, bytes)?;
                let linker = concurrent_linker(engine)
                    .map_err(|error| LoadError::Compile(format!("{error:#}")))?;
                (
                    Handler::concurrent(link(&linker, &loaded.component)?),
                    loaded,
                )
            }
        };
        let handler = handler.map_err(|error| LoadError::Import(format!("{error:#}")))?;
        Ok(Arc::new(Function {
            handler,
            cases: inspection.cases,
            hash: loaded.hash,
            _code: loaded.code,
        }))
    }

    /// What machine code of steps has to be for, to be used here: engine, settings and CPU as one word.
    pub fn compatibility(&self) -> String {
        compatibility(&self.plain.engine)
    }

    /// The machine code of a component that steps were compiled from, where it is kept.
    pub fn artifact(&self, hash: &str) -> Option<Vec<u8>> {
        self.artifacts.as_ref()?.read(&self.plain.engine, hash)
    }

    /// Whether that machine code is kept; what it is worth is seen when it is loaded.
    pub fn has_artifact(&self, hash: &str) -> bool {
        let artifacts = self.artifacts.as_ref();
        artifacts.is_some_and(|artifacts| artifacts.has(&self.plain.engine, hash))
    }

    /// Keeps machine code that another node compiled, so that the component with this hash need not be compiled here. Loading
    /// it is trusting it as one's own: only from a node that this one takes its plugins from.
    pub fn keep_artifact(&self, hash: &str, code: &[u8]) {
        if let Some(artifacts) = &self.artifacts {
            artifacts.write(&self.plain.engine, hash, code);
        }
    }

    fn concurrent(&self) -> Result<&TickingEngine, LoadError> {
        if self.concurrent.get().is_none() {
            let engine = TickingEngine::new(&self.settings, true, self.compiled_functions.clone())
                .map_err(|error| {
                    LoadError::Compile(format!(
                        "the engine for wasi:http 0.3 does not start: {error:#}"
                    ))
                })?;
            _ = self.concurrent.set(engine); // another thread may have been first: then its engine serves
        }
        Ok(self.concurrent.get().expect("set above"))
    }

    fn component(&self, engine: &Engine, bytes: &[u8]) -> Result<Loaded, LoadError> {
        let hash = content_hash(bytes);
        let component = self.read_or_compile(engine, bytes, &hash)?;
        let code = self.shared_code.share(&component).map_err(|error| {
            LoadError::Compile(format!("its machine code cannot be mapped: {error}"))
        })?;
        Ok(Loaded {
            component,
            hash,
            code,
        })
    }

    /// Compiled code, from the cache or new.
    fn read_or_compile(
        &self,
        engine: &Engine,
        bytes: &[u8],
        hash: &str,
    ) -> Result<Component, LoadError> {
        if let Some(code) = self
            .artifacts
            .as_ref()
            .and_then(|artifacts| artifacts.read(engine, hash))
        {
            // SAFETY: the artifact carries a MAC under this node's own key (`Artifacts::read`), so it is what
            // `Component::serialize` gave to this node's user, for an engine of this compatibility hash.
            match unsafe { Component::deserialize(engine, &code) } {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(hash, "compiled artifact is of no use: {error:#}"),
            }
        }
        let began = Instant::now();
        let component = Component::new(engine, bytes)
            .map_err(|error| LoadError::Compile(format!("{error:#}")))?;
        let took_ms = began.elapsed().as_millis();
        tracing::debug!(hash, took_ms, "component compiled");
        if let Some(artifacts) = &self.artifacts {
            match component.serialize() {
                Ok(code) => artifacts.write(engine, hash, &code),
                Err(error) => tracing::warn!(hash, "compiled component cannot be kept: {error:#}"),
            }
        }
        Ok(component)
    }
}

/// Compiled code, with what it shares.
struct Loaded {
    component: Component,
    /// SHA-256 of the component, in hex.
    hash: String,
    code: Code,
}

fn link<T: 'static>(
    linker: &Linker<T>,
    component: &Component,
) -> Result<InstancePre<T>, LoadError> {
    linker
        .instantiate_pre(component)
        .map_err(|error| LoadError::Import(format!("{error:#}")))
}

/// Whether any imported function can wait for something outside the instance.
fn waits(component: &Component) -> bool {
    let engine = component.engine();
    let component_type = component.component_type();
    component_type
        .imports(engine)
        .any(|(interface, item)| match item.ty {
            ComponentItem::ComponentInstance(instance) => {
                instance.exports(engine).any(|(function, item)| {
                    matches!(item.ty, ComponentItem::ComponentFunc(_))
                        && function_waits(interface, function)
                })
            }
            _ => false,
        })
}

fn function_waits(interface: &str, function: &str) -> bool {
    let ours = interface
        .strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_prefix('/'));
    match ours.and_then(|rest| rest.split('@').next()) {
        Some(interface) => matches!(interface, "jwks" | "http-client" | "quota"),
        None => wasi::waits(interface, function),
    }
}

fn step_linker(engine: &Engine, waiting: bool) -> wasmtime::Result<Linker<StepState>> {
    type State = HasSelf<StepState>;
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    if waiting {
        wasmtime_wasi::p2::add_to_linker_async(l)?;
        imports::jwks::add_to_linker::<_, State>(l, |state| state)?;
        imports::http_client::add_to_linker::<_, State>(l, |state| state)?;
        imports::quota::add_to_linker::<_, State>(l, |state| state)?;
    } else {
        wasi::add_calm(l)?;
    }
    imports::types::add_to_linker::<_, State>(l, |state| state)?;
    imports::request::add_to_linker::<_, State>(l, |state| state)?;
    imports::request_body::add_to_linker::<_, State>(l, |state| state)?;
    imports::response::add_to_linker::<_, State>(l, |state| state)?;
    imports::response_body::add_to_linker::<_, State>(l, |state| state)?;
    imports::log::add_to_linker::<_, State>(l, |state| state)?;
    imports::crypto::add_to_linker::<_, State>(l, |state| state)?;
    imports::rate_limit::add_to_linker::<_, State>(l, |state| state)?;
    imports::api_keys::add_to_linker::<_, State>(l, |state| state)?;
    imports::shared_cache::add_to_linker::<_, State>(l, |state| state)?;
    imports::secrets::add_to_linker::<_, State>(l, |state| state)?;
    imports::metrics::add_to_linker::<_, State>(l, |state| state)?;
    imports::log_output::add_to_linker::<_, State>(l, |state| state)?;
    Ok(linker)
}

fn function_linker(engine: &Engine) -> wasmtime::Result<Linker<FunctionState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    add_keyvalue(&mut linker)?;
    Ok(linker)
}

fn concurrent_linker(engine: &Engine) -> wasmtime::Result<Linker<FunctionState>> {
    let mut linker = function_linker(engine)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    next::add_to_linker(&mut linker)?;
    Ok(linker)
}

fn add_keyvalue(linker: &mut Linker<FunctionState>) -> wasmtime::Result<()> {
    type State = HasSelf<FunctionState>;
    keyvalue::store::add_to_linker::<_, State>(linker, |state| state)?;
    keyvalue::atomics::add_to_linker::<_, State>(linker, |state| state)?;
    keyvalue::batch::add_to_linker::<_, State>(linker, |state| state)
}
