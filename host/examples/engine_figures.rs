//! What the engine costs on this machine: medians of compiling, loading from the cache, and calling.
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2 -p arith
//! cargo run --example engine_figures -- target/wasm32-wasip2/release/arith.wasm fib-at
//! ```
//!
//! The operation is mapped over the element `0`, a single byte in Postcard, without a config.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use palfrey_host::{
    engine::{Call, Engine, EngineConfig},
    task::Packed,
};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (path, operation) = arguments.next().zip(arguments.next()).context("usage: engine_figures FILE OPERATION")?;
    let wasm = std::fs::read(&path).with_context(|| path.clone())?;
    let folder = tempfile::tempdir()?;
    let cold = Engine::new(&EngineConfig::default())?;
    let warm = Engine::new(&EngineConfig { cache_dir: Some(folder.path().to_owned()), ..EngineConfig::default() })?;
    let plugin = warm.load(&wasm)?;
    let limits = warm.limits_for(&format!("{}/{operation}", plugin.description().name).parse()?);
    let call = Call::new(&operation, &[], limits);
    let one: Packed = [[0]].into_iter().collect();
    let many: Packed = std::iter::repeat_n([0], 10_000).collect();
    let outcome = plugin.map(&call, &one)?;
    anyhow::ensure!(outcome.failure.is_none(), "{operation} does not take the element: {:?}", outcome.failure);

    println!("{} of {} KiB", plugin.description().name, plugin.size() >> 10);
    row("compile and check", median(5, || cold.load(&wasm))?);
    row("load from the cache and check", median(50, || warm.load(&wasm))?);
    let none = Packed::default();
    row("call with no element, fresh instance included", median(2_000, || plugin.map(&call, &none))?);
    let fresh = median(2_000, || plugin.map(&call, &one))?;
    row("call with one element, fresh instance included", fresh);
    let batch = median(100, || plugin.map(&call, &many))?;
    row("each element more", batch.saturating_sub(fresh) / (many.len() as u32 - 1));
    Ok(())
}

fn row(what: &str, time: Duration) {
    println!("{what:50} {time:>12.2?}");
}

fn median<T, E>(count: usize, mut run: impl FnMut() -> Result<T, E>) -> Result<Duration, E> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[count / 2])
}
