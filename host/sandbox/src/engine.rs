//! The two wasmtime engines and the clock that interrupts what runs too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::compiled_functions::CompiledFunctions;
use crate::limits::TABLE_ELEMENTS_MAX;

/// What the embedder chooses about the engines.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Instances alive at once, over all bindings, functions and threads. Address space is reserved for each, memory is not.
    pub instances_max: u32,
    /// The largest linear memory that any binding or function may be given, in bytes.
    pub memory_bytes_max: u64,
    /// Where compiled artifacts are kept; without it every start compiles anew.
    pub artifacts: Option<std::path::PathBuf>,
    /// What they may take there, in bytes; those not used for longest go first.
    pub artifact_bytes_max: u64,
    /// What single compiled functions may take in memory, in bytes, so that later versions with the same are loaded sooner.
    pub function_bytes_max: u64,
    /// Gives back to the system what the calling thread's heap does not need; called where much was allocated for a while.
    pub give_back: fn(),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            instances_max: 2000,
            memory_bytes_max: 1 << 30,
            artifacts: None,
            artifact_bytes_max: 2 << 30,
            function_bytes_max: 64 << 20, // two interpreters: Python has 33 MiB, JavaScript 7
            give_back: || {},
        }
    }
}

/// How often the epoch advances: the grain of every deadline, and the slice after which a busy function lets others run.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// An engine whose epoch advances every [`TICK`] for as long as this lives.
pub(crate) struct TickingEngine {
    pub(crate) engine: Engine,
    stop: Arc<AtomicBool>,
}

impl TickingEngine {
    /// An engine with or without the component model's own concurrency, which costs a call three to five times as much
    /// and which only `wasi:http` 0.3 functions need.
    pub(crate) fn new(
        settings: &Settings,
        concurrency: bool,
        functions: Arc<CompiledFunctions>,
    ) -> wasmtime::Result<Self> {
        let mut config = config(settings, concurrency);
        config.enable_incremental_compilation(functions)?;
        let engine = Engine::new(&config)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (ticking, stopped) = (engine.weak(), stop.clone());
        thread::Builder::new().name("epoch".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(TICK);
                let Some(engine) = ticking.upgrade() else {
                    break;
                };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { engine, stop })
    }
}

impl Drop for TickingEngine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn config(settings: &Settings, concurrency: bool) -> Config {
    let instances = settings.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * 2)
        .total_memories(instances)
        .total_tables(instances * 2)
        .total_stacks(instances)
        .max_core_instances_per_component(64)
        .max_memories_per_component(8)
        .max_tables_per_component(64)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(usize::try_from(settings.memory_bytes_max).unwrap_or(usize::MAX))
        // A fresh instance touches a few pages, and the kernel (from Linux 6.7 on) tells which they were; keeping them mapped
        // spares the page faults of the next one. The cost is bounded by instances that were once alive at the same time.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(4 << 10)
        .async_stack_keep_resident(16 << 10);

    let mut config = Config::new();
    config
        .concurrency_support(concurrency)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
