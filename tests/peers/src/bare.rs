//! The limits within one process: the component called in a loop without any of the host, and the function itself.

use std::{ops::Range, thread, time::Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use async_trait::async_trait;
use operations::burn;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use self::contract::{Plugin, PluginPre, exports::palfrey::plugin::operations::Packed};
use crate::{
    contestant::{Contestant, Outcome, Site},
    work::{Job, Work, weighted},
};

mod contract {
    #![allow(missing_docs, unreachable_pub, reason = "it is generated")]
    wasmtime::component::bindgen!({ path: "../../wit", world: "plugin" });
}

/// Elements of a call, where an element takes no time.
const BATCH: u64 = 32_768;

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Calls the component: a fresh instance for each batch, from the pool, on as many threads as there are slots.
pub(crate) struct Wasm {
    engine: Engine,
    plugin: PluginPre<State>,
}

impl Wasm {
    pub(crate) fn load(site: &Site) -> Result<Self> {
        let mut config = Config::new();
        config.concurrency_support(false);
        config.allocation_strategy(InstanceAllocationStrategy::pooling());
        let engine = Engine::new(&config).map_err(|error| anyhow!("{error:#}"))?;
        let load = || {
            let component = Component::from_file(&engine, &site.component)?;
            let mut linker = Linker::<State>::new(&engine);
            wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
            // Nobody calls it.
            linker.define_unknown_imports_as_traps(&component)?;
            PluginPre::new(linker.instantiate_pre(&component)?)
        };
        let plugin = load().map_err(|error| anyhow!("{error:#}"))?;
        Ok(Self { engine, plugin })
    }

    fn instance(&self) -> wasmtime::Result<(Store<State>, Plugin)> {
        let state = State { table: ResourceTable::new(), wasi: WasiCtx::builder().build() };
        let mut store = Store::new(&self.engine, state);
        let plugin = self.plugin.instantiate(&mut store)?;
        Ok((store, plugin))
    }

    /// Executes an operation without a config on one input.
    pub(crate) fn call(&self, operation: &str, input: u64) -> Result<u64> {
        let packed = Packed { ends: Vec::new(), bytes: postcard::to_stdvec(&input)? };
        let packed = Packed { ends: vec![packed.bytes.len() as u32], ..packed };
        let (mut store, plugin) = self.instance().map_err(|error| anyhow!("{error:#}"))?;
        let operations = plugin.palfrey_plugin_operations();
        let outcome = operations.call_map(&mut store, operation, &[], "postcard", &packed);
        Ok(postcard::from_bytes(&outcome.map_err(|error| anyhow!("{error:#}"))?.outputs.bytes)?)
    }

    /// The answer for some of the inputs.
    pub(crate) fn answer(&self, job: Job, inputs: Range<u64>) -> Result<u64> {
        let packed = pack(inputs.clone())?;
        let (mut store, plugin) = self.instance().map_err(|error| anyhow!("{error:#}"))?;
        let operations = plugin.palfrey_plugin_operations();
        let (operation, config) = match job {
            Job::Map => ("same", Vec::new()),
            Job::Burn(rounds) => ("burn", postcard::to_stdvec(&rounds)?),
            Job::Fold => {
                let sum = operations.call_fold(&mut store, "sum", &[], "postcard", &packed);
                let sum = sum.map_err(|error| anyhow!("{error:#}"))?.map_err(|failure| anyhow!("{failure:?}"))?;
                return Ok(postcard::from_bytes(&sum)?);
            }
            Job::MapAndFold | Job::Echo(_) => bail!("there is no bare loop for it"),
        };
        let outcome = operations.call_map(&mut store, operation, &config, "postcard", &packed);
        let outputs = outcome.map_err(|error| anyhow!("{error:#}"))?.outputs;
        ensure!(outputs.ends.len() as u64 == inputs.end - inputs.start, "there are outputs missing");
        let mut from = 0;
        inputs.zip(outputs.ends).try_fold(0_u64, |sum, (index, until)| {
            let output = outputs.bytes.get(from..until as usize).context("the offsets are wrong")?;
            from = until as usize;
            Ok(sum.wrapping_add(weighted(index, postcard::from_bytes(output)?)))
        })
    }
}

fn pack(inputs: Range<u64>) -> Result<Packed> {
    let mut packed = Packed { bytes: Vec::new(), ends: Vec::new() };
    for input in inputs {
        packed.bytes = postcard::to_extend(&input, packed.bytes)?;
        packed.ends.push(packed.bytes.len() as u32);
    }
    Ok(packed)
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
    Ok(Outcome { took: started.elapsed(), answer, latencies: Vec::new() })
}
