//! The limits within one process: the component called in a loop without any of the host, and the function itself.

use std::{ops::Range, path::Path, thread, time::Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use async_trait::async_trait;
use operations::burn;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
    component::{Component, HasSelf, Linker},
};

pub(crate) use self::contract::exports::palfrey::plugin::operations::Packed;
use self::contract::{PluginPre, palfrey::plugin::context};
use crate::{
    contestant::{Contestant, Outcome},
    work::{Job, Work, weighted},
};

mod contract {
    #![allow(missing_docs, unreachable_pub, reason = "it is generated")]
    wasmtime::component::bindgen!({ path: "../../wit", world: "plugin" });
}

/// Elements of a call, where an element takes no time.
const BATCH: u64 = 32_768;

/// Nobody whom guests could ask or tell: they are never cancelled.
struct Nobody;

impl context::Host for Nobody {
    fn cancelled(&mut self) -> bool {
        false
    }

    fn attempt(&mut self) -> u32 {
        0
    }

    fn progress(&mut self, _: u64, _: u64, _: String) {}

    fn log(&mut self, _: context::Level, _: String, _: String) {}

    fn panicked(&mut self, _: String, _: Option<String>) {}
}

/// Calls the component: a fresh instance for each batch, from the pool, on as many threads as there are slots. The machine code is
/// that of Palfrey's workers. Nothing else is: no limits, no log, no system interface, and nobody who would stop a guest.
pub(crate) struct Wasm {
    engine: Engine,
    plugin: PluginPre<Nobody>,
}

impl Wasm {
    pub(crate) fn load(component: &Path) -> Result<Self> {
        let load = || {
            let engine = Engine::new(&settings())?;
            let component = Component::from_file(&engine, component)?;
            let mut linker = Linker::new(&engine);
            context::add_to_linker::<_, HasSelf<Nobody>>(&mut linker, |nobody| nobody)?;
            // The system's interface: these operations call none of it.
            linker.define_unknown_imports_as_traps(&component)?;
            component.initialize_copy_on_write_image()?;
            let plugin = PluginPre::new(linker.instantiate_pre(&component)?)?;
            Ok(Self { engine, plugin })
        };
        load().map_err(plain)
    }

    /// Maps a batch in an instance of its own.
    pub(crate) fn map(&self, operation: &str, config: &[u8], inputs: &Packed) -> Result<Packed> {
        let call = || {
            let mut store = self.store();
            let plugin = self.plugin.instantiate(&mut store)?;
            plugin.palfrey_plugin_operations().call_map(&mut store, operation, config, "postcard", inputs)
        };
        let outcome = call().map_err(plain)?;
        ensure!(outcome.outputs.ends.len() == inputs.ends.len(), "there are outputs missing: {:?}", outcome.failure);
        Ok(outcome.outputs)
    }

    /// Folds a batch in an instance of its own.
    pub(crate) fn fold(&self, operation: &str, inputs: &Packed) -> Result<Vec<u8>> {
        let call = || {
            let mut store = self.store();
            let plugin = self.plugin.instantiate(&mut store)?;
            plugin.palfrey_plugin_operations().call_fold(&mut store, operation, &[], "postcard", inputs)
        };
        call().map_err(plain)?.map_err(|failure| anyhow!("{failure:?}"))
    }

    fn store(&self) -> Store<Nobody> {
        let mut store = Store::new(&self.engine, Nobody);
        // Never: nobody advances the epoch.
        store.set_epoch_deadline(1);
        store
    }

    /// The answer for some of the inputs.
    pub(crate) fn answer(&self, job: Job, inputs: Range<u64>) -> Result<u64> {
        let packed = pack(inputs.clone())?;
        let (operation, config) = match job {
            Job::Map => ("same", Vec::new()),
            Job::Burn(rounds) => ("burn", postcard::to_stdvec(&rounds)?),
            Job::Fold => return Ok(postcard::from_bytes(&self.fold("sum", &packed)?)?),
            Job::MapAndFold | Job::Echo(_) => bail!("there is no bare loop for it"),
        };
        let outputs = self.map(operation, &config, &packed)?;
        inputs.zip(elements(&outputs)).try_fold(0_u64, |sum, (index, output)| {
            Ok(sum.wrapping_add(weighted(index, postcard::from_bytes(output?)?)))
        })
    }
}

/// Those of Palfrey's engine, as far as they have a share in how quick instances and their code are.
fn settings() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(2 << 20)
        .table_keep_resident(512 << 10)
        .max_memory_size(1 << 30)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_init_cow(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .gc_support(false);
    config
}

fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}

/// Packs values.
pub(crate) fn pack<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> Result<Packed> {
    let mut packed = Packed { bytes: Vec::new(), ends: Vec::new() };
    for value in values {
        packed.bytes = postcard::to_extend(&value, packed.bytes)?;
        packed.ends.push(packed.bytes.len() as u32);
    }
    Ok(packed)
}

/// The elements, one after the other.
pub(crate) fn elements(packed: &Packed) -> impl Iterator<Item = Result<&[u8]>> {
    let mut from = 0;
    packed.ends.iter().map(move |&until| {
        let element = packed.bytes.get(from..until as usize).context("the offsets are wrong");
        from = until as usize;
        element
    })
}

#[async_trait(?Send)]
impl Contestant for Wasm {
    async fn run(&mut self, work: &Work, count: u64) -> Result<Outcome> {
        let batch = if matches!(work.job, Job::Burn(_)) { 1 } else { BATCH };
        on_threads(work.slots, batch, count, |inputs| self.answer(work.job, inputs))
    }
}

/// Calls the function.
pub(crate) struct Native;

#[async_trait(?Send)]
impl Contestant for Native {
    async fn run(&mut self, work: &Work, count: u64) -> Result<Outcome> {
        // Without the black box there is nothing left to measure.
        let same = std::hint::black_box::<fn(u64) -> u64>(|number| number);
        let sum = |inputs: Range<u64>, of: &dyn Fn(u64) -> u64| inputs.map(of).fold(0, u64::wrapping_add);
        let batch = if matches!(work.job, Job::Burn(_)) { 1 } else { BATCH };
        on_threads(work.slots, batch, count, |inputs| match work.job {
            Job::Map => Ok(sum(inputs, &|index| weighted(index, same(index)))),
            Job::Fold | Job::MapAndFold => Ok(sum(inputs, &same)),
            Job::Burn(rounds) => Ok(sum(inputs, &|index| weighted(index, burn(index, rounds)))),
            Job::Echo(_) => bail!("there is no bare loop for it"),
        })
    }
}

/// The inputs in batches, one after the other to whichever thread is free.
fn on_threads(
    threads: usize,
    batch: u64,
    count: u64,
    answer: impl Fn(Range<u64>) -> Result<u64> + Sync,
) -> Result<Outcome> {
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || {
        let mut sum = 0_u64;
        loop {
            let first = next.fetch_add(batch, std::sync::atomic::Ordering::Relaxed);
            if first >= count {
                return Ok(sum);
            }
            sum = sum.wrapping_add(answer(first..(first + batch).min(count))?);
        }
    };
    let started = Instant::now();
    let sums = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        joined.collect::<Result<Vec<u64>>>()
    })?;
    let answer = sums.into_iter().fold(0, u64::wrapping_add);
    Ok(Outcome { took: started.elapsed(), answer, ..Outcome::default() })
}
