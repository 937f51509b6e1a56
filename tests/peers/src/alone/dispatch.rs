//! What it takes to execute one small batch in a fresh instance, beside wasmtime alone.

use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use palfrey_host::{
    engine::{Call, Engine, EngineConfig},
    task::Packed,
};

use super::{Bound, Place, Row, Unit};
use crate::{bare::Wasm, work::Job};

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let engine = Engine::new(&EngineConfig { cache_dir: Some(place.cache()), ..EngineConfig::default() })?;
    let plugin = engine.load(&place.component()?)?;
    let limits = engine.limits_for(&"operations/same".parse()?);
    let bare = Wasm::load(&place.site.component)?;
    let calls = if place.quick { 2_000 } else { 20_000 };
    let inputs: Packed = [[7]].into_iter().collect();
    let repetitions = place.repetitions();
    // On the thread of the slot, where tasks are executed.
    let rounds = engine.run(move || {
        let round = |_| {
            let theirs = each(calls, || bare.answer(Job::Map, 7..8).map(drop))?;
            let ours = each(calls, || {
                let done = plugin.map(&Call::new("same", &[], limits), &inputs);
                let done = done.map_err(|stopped| anyhow!("{stopped:?}"))?;
                ensure!(done.outputs == inputs, "it is not the same");
                Ok(())
            })?;
            Ok((ours, theirs))
        };
        repetitions.map(round).collect::<Result<Vec<_>>>()
    });
    let (ours, theirs): (Vec<_>, Vec<_>) = rounds.await?.into_iter().unzip();
    Ok(vec![
        Row::new("one call in an instance of its own", Unit::Seconds, ours)
            .beside("bare wasmtime, with the same machine code, and nothing around it", theirs)
            .bound(Bound::Times(1.2)),
    ])
}

fn each(calls: u32, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    (0..calls).try_for_each(|_| call())?;
    Ok(started.elapsed().as_secs_f64() / f64::from(calls))
}
