//! What it takes to execute one small batch in a fresh instance, beside wasmtime alone.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use palfrey_host::{
    engine::{Call, Engine, EngineConfig},
    task::Packed,
};

use super::{Place, Row, median};
use crate::{bare::Wasm, work::Job};

const MOST: f64 = 1.2;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let engine = Engine::new(&EngineConfig { cache_dir: Some(place.cache()), ..EngineConfig::default() })?;
    let plugin = engine.load(&place.component()?)?;
    let limits = engine.limits_for(&"operations/same".parse()?);
    let bare = Wasm::load(&place.site)?;
    let calls = if place.quick { 2_000 } else { 20_000 };
    let inputs: Packed = [[7]].into_iter().collect();
    // On the thread of the slot, where tasks are executed.
    let rounds = engine
        .run(move || {
            (0..9)
                .map(|_| {
                    let ours = each(calls, || {
                        let done = plugin.map(&Call::new("same", &[], limits), &inputs);
                        let done = done.map_err(|stopped| anyhow!("{stopped:?}"))?;
                        ensure!(done.outputs == inputs, "it is not the same");
                        Ok(())
                    })?;
                    let theirs = each(calls, || bare.answer(Job::Map, 7..8).map(drop))?;
                    Ok((ours, theirs))
                })
                .collect::<Result<Vec<_>>>()
        })
        .await?;
    let ratio = median(rounds.iter().map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect());
    let micros = |times: Vec<Duration>| median(times.iter().map(|time| 1e6 * time.as_secs_f64()).collect());
    let (ours, theirs): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    Ok(vec![
        Row::new("one call in an instance of its own", format!("{:.1} µs, {ratio:.2} ×", micros(ours)))
            .beside(format!("{:.1} µs, bare wasmtime", micros(theirs)))
            .goal(format!("≤ {MOST} ×"), ratio <= MOST),
    ])
}

fn each(calls: u32, mut call: impl FnMut() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    (0..calls).try_for_each(|_| call())?;
    Ok(started.elapsed() / calls)
}
