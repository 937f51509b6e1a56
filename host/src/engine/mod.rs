//! Executes operations: the only place that knows wasmtime.
//!
//! An [`Engine`] turns the bytes of a component into a [`Plugin`], and a plugin executes one batch per call. Each call has
//! a fresh instance, is limited in everything it can use, and finds nothing that differs between machines; so it is a
//! function of its arguments, unless the operation needs something that the plugin was [granted](Plugin::granted). The engine knows
//! nothing of tasks' routing, queues or registries.
//!
//! Start with [`Engine::load`] and [`Plugin::map`]. How an instance is made and stopped is in `instance`, what a guest
//! finds around it in `wasi` and `context`, what is checked on the way in `load` and out in `call`.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use palfrey_host::engine::{Call, Engine, EngineConfig};
//!
//! let engine = Engine::new(&EngineConfig { slots: 2, ..EngineConfig::default() })?;
//! let plugin = engine.load(&std::fs::read("target/wasm32-wasip2/release/arith.wasm")?)?;
//! let limits = engine.limits_for(&"arith/fib-at".parse()?);
//! let outcome = engine.run(move || plugin.map(&Call::new("fib-at", &[], limits), &[[10]].into_iter().collect())).await?;
//! assert_eq!(outcome.outputs, [[55]].into_iter().collect());
//! # Ok(())
//! # }
//! ```

mod bindings;
mod cache;
mod call;
pub(crate) mod capability;
mod compiler;
mod context;
mod description;
mod error;
mod grants;
mod instance;
mod journal;
mod limits;
mod load;
mod permits;
mod slots;
mod ticker;
mod wasi;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, ProfilingStrategy, Store,
    component::{HasSelf, Linker},
};

use self::{
    bindings::{PluginPre, exports::palfrey::plugin::operations::Guest, palfrey::plugin::context as context_interface},
    cache::Cache,
    context::Context,
    instance::{Answer, Request, State},
    permits::Permits,
    slots::Slots,
    ticker::Ticker,
};
pub use self::{
    call::{Call, Failure, FailureKind, MapOutcome},
    capability::{Capability, CapabilityError},
    compiler::{CompileLimits, Compiler, child::compile_component},
    context::{Progress, ProgressSink},
    description::{Description, DescriptionError, Descriptor, Kind, MAX_OPERATIONS, MAX_SCHEMA, MAX_SUMMARY},
    error::{EngineError, LoadError, Stopped},
    grants::{AllowError, Allowance, Grants},
    limits::{LimitRule, LimitRuleError, LimitRules, Limits, MAX_MEMORY, MAX_OUTPUT, MAX_TABLE_ELEMENTS, MAX_TIME},
};
use crate::task::{Digest, OperationId};

/// The most slots: each takes address space for the largest memories, and there are not that many processors.
pub const MAX_SLOTS: usize = 1024;

/// A guest's own stack. Calls nested deeper are a trap.
const MAX_WASM_STACK: usize = 1 << 20;

/// Memories, tables and core instances of one component. Compilers make one memory and a handful of instances; a component
/// that bundles an interpreter and its libraries has more of both.
const MEMORIES: u32 = 2;
const TABLES: u32 = 16;
const CORE_INSTANCES: u32 = 64;

/// How an engine is set up.
///
/// ```
/// use palfrey_host::engine::{EngineConfig, LimitRule, LimitRules};
///
/// let rule: LimitRule = "memory=64MiB".parse()?;
/// let config = EngineConfig { slots: 4, limits: LimitRules::from_iter([rule]), ..EngineConfig::default() };
/// # Ok::<(), palfrey_host::engine::LimitRuleError>(())
/// ```
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Calls that are executed at the same time.
    pub slots: usize,
    /// Where machine code is kept, in a folder of its own within this one. Without it each start compiles again.
    pub cache_dir: Option<PathBuf>,
    /// What calls may use.
    pub limits: LimitRules,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What compiling may use.
    pub compile_limits: CompileLimits,
    /// Whether the names of all guest functions, and where their machine code is, are written to `/tmp/perf-PID.map`, where
    /// `perf` looks for them. For profiling only: the file is not removed.
    pub perf_map: bool,
}

impl Default for EngineConfig {
    /// One slot, no cache, the default limits, and a compiler within the process.
    fn default() -> Self {
        Self {
            slots: 1,
            cache_dir: None,
            limits: LimitRules::default(),
            compiler: Compiler::default(),
            compile_limits: CompileLimits::default(),
            perf_map: false,
        }
    }
}

/// Loads plugins, and has the threads on which they are executed. Clones share everything. See [the module](self) for an
/// example; a process needs one engine, since its slots and the address space behind them are what costs.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
    slots: Arc<Slots>,
}

/// What a plugin needs in order to be executed.
struct Core {
    wasmtime: wasmtime::Engine,
    linker: Linker<State>,
    ticker: Ticker,
    cache: Option<Cache>,
    limits: LimitRules,
    /// What the pool has room for.
    largest: Limits,
    compiler: Compiler,
    compile_limits: CompileLimits,
    compilations: Permits,
    /// One for each slot.
    calls: Permits,
    /// One: descriptions must not take the room of calls.
    smoke_calls: Permits,
}

impl Engine {
    /// Sets up the sandbox, and starts the threads.
    ///
    /// # Errors
    /// If the cache folder cannot be used, or threads or address space cannot be had. The error says what to do.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        if config.slots == 0 || config.slots > MAX_SLOTS {
            return Err(EngineError::Slots);
        }
        let largest = config.limits.largest();
        let sandbox = |error: wasmtime::Error| EngineError::Sandbox {
            slots: config.slots,
            memory: largest.memory,
            reason: error.root_cause().to_string(),
        };
        let mut settings = settings(config.slots, &largest);
        if config.perf_map {
            settings.profiler(ProfilingStrategy::PerfMap);
        }
        let wasmtime = wasmtime::Engine::new(&settings).map_err(sandbox)?;
        let mut linker = Linker::new(&wasmtime);
        wasi::add_to_linker(&mut linker).map_err(sandbox)?;
        context_interface::add_to_linker::<_, HasSelf<Context>>(&mut linker, |state: &mut State| &mut state.context)
            .map_err(sandbox)?;
        let cache = config.cache_dir.as_ref().map(|folder| Cache::open(folder, &wasmtime)).transpose()?;
        let core = Core {
            ticker: Ticker::start(wasmtime.weak()).map_err(EngineError::Threads)?,
            wasmtime,
            linker,
            cache,
            limits: config.limits.clone(),
            largest,
            compiler: config.compiler.clone(),
            compile_limits: config.compile_limits,
            compilations: Permits::new(compiler::AT_ONCE),
            calls: Permits::new(config.slots),
            smoke_calls: Permits::new(1),
        };
        let slots = Slots::start(config.slots).map_err(EngineError::Threads)?;
        Ok(Self { core: Arc::new(core), slots: Arc::new(slots) })
    }

    /// The most calls that are executed at the same time. What is more waits for a slot.
    pub fn slots(&self) -> usize {
        self.slots.count()
    }

    /// The limits of an operation, as [configured](EngineConfig::limits).
    pub fn limits_for(&self, operation: &OperationId) -> Limits {
        self.core.limits.limits_for(operation)
    }

    /// Whether a component with so many bytes may be [loaded](Self::load), before they are read.
    ///
    /// # Errors
    /// [`LoadError::TooLarge`] with the limit, which is one of [`EngineConfig::compile_limits`].
    pub fn check_size(&self, bytes: u64) -> Result<(), LoadError> {
        self.core.check_size(bytes)
    }

    /// Runs work on the thread of a slot, under the current span, as soon as one is free.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> anyhow::Result<()> {
    /// use palfrey_host::engine::{Engine, EngineConfig};
    ///
    /// let engine = Engine::new(&EngineConfig::default())?;
    /// assert_eq!(engine.run(|| 6 * 7).await, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Dropping the future does not stop the work: cancel the call for that.
    ///
    /// # Panics
    /// If the work panics, with its panic. The slot goes on.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.slots.run(work).await
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("slots", &self.slots()).finish_non_exhaustive()
    }
}

impl Core {
    /// What of some limits the pool has room for.
    fn within_pool(&self, limits: Limits) -> Limits {
        Limits {
            memory: limits.memory.min(self.largest.memory),
            table_elements: limits.table_elements.min(self.largest.table_elements),
            time: limits.time.min(MAX_TIME),
            output: limits.output.min(MAX_OUTPUT),
            log: limits.log,
        }
    }
}

/// A component that can be executed: what [`Engine::load`] returns. Clones share everything.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<PluginInner>,
    grants: Grants,
}

struct PluginInner {
    core: Arc<Core>,
    pre: PluginPre<State>,
    digest: Digest,
    description: Description,
    imports: Vec<String>,
    size: u64,
    /// For each operation, whether its elements are executed apart: see [`Plugin::map`].
    apart: Box<[AtomicBool]>,
}

impl Plugin {
    /// Of the component's bytes.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// What it says about itself.
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// The interfaces that it imports, with their versions: `palfrey:plugin/context@0.1.0`, `wasi:cli/stderr@0.2.6`.
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// The number of the component's bytes.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// The plugin with these grants, in place of those that it had: at first none. Each of its operations is given what it needs of
    /// them, and is not executed if something is missing.
    ///
    /// ```no_run
    /// # fn example(plugin: palfrey_host::engine::Plugin) -> anyhow::Result<()> {
    /// use palfrey_host::engine::{Call, Grants, Limits};
    ///
    /// let plugin = plugin.granted(Grants::allowed(&["clocks".parse()?])?);
    /// let now = plugin.map(&Call::new("now", &[], Limits::default()), &[[0]].into_iter().collect())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn granted(&self, grants: Grants) -> Self {
        Self { inner: Arc::clone(&self.inner), grants }
    }

    /// What it was granted.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Something that an operation needs and was not granted: it is not executed then.
    pub fn withheld(&self, operation: &str) -> Option<&Capability> {
        self.description().operation(operation)?.needs.iter().find(|need| !self.grants.has(need))
    }

    fn execute<T>(
        &self,
        request: Request<'_>,
        call: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<Answer<T>, Stopped> {
        let PluginInner { core, pre, description, .. } = &*self.inner;
        core.execute(&core.calls, &description.name, pre, request, call)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Description { name, version, .. } = self.description();
        f.debug_struct("Plugin")
            .field("name", name)
            .field("version", version)
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

/// How wasmtime executes.
fn settings(slots: usize, largest: &Limits) -> Config {
    // One more than there are slots: a plugin that is loaded describes itself.
    let instances = slots as u32 + 1;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * CORE_INSTANCES)
        .total_memories(instances * MEMORIES)
        .total_tables(instances * TABLES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .max_memories_per_module(MEMORIES)
        // Metadata of an instance: it grows with the number of functions, globals and imports.
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        .max_memory_size(usize::try_from(largest.memory).unwrap_or(usize::MAX))
        .table_elements(largest.table_elements as usize)
        // An instance that stays below these leaves its pages in place, so that the next one need not fault them in. Where the
        // kernel can say which of them were written (Linux from 6.7), only those are set back.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(2 << 20)
        .table_keep_resident(512 << 10);
    let mut config = code_settings();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// How wasmtime compiles: all that decides what machine code is like. Everything that could make results differ between
/// machines is off.
fn code_settings() -> Config {
    let mut config = Config::new();
    config
        // Address space instead of a check at each access: 4 GiB and a guard are what a 32-bit address can reach.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_init_cow(true)
        .parallel_compilation(true)
        .max_wasm_stack(MAX_WASM_STACK)
        .epoch_interruption(true)
        // The bits of a NaN are the processor's choice, and so are the results of relaxed SIMD. A guest could tell machines
        // apart by them, and results would not be a function of the arguments.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Synchronous calls only; without the bookkeeping of tasks a call costs half.
        .concurrency_support(false)
        .gc_support(false)
        // Threads are not compiled in. Memories of 64 bits would need the checks that the reservation saves.
        .shared_memory(false)
        .wasm_memory64(false);
    config
}
