//! From deploying a plugin until all running workers can execute it.

use std::{thread, time::Instant};

use anyhow::{Context as _, Result, anyhow};
use palfrey_host::{
    Runtime,
    engine::{Engine, EngineConfig},
};

use super::{ALL, Bound, Place, Row, Unit, starting::renamed};
use crate::{palfrey, worker::Worker};

const WORKERS: usize = 10;
/// Numbers of plugins that nothing else deploys, from this on.
const UNUSED: usize = 900;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let runtime = Runtime::from_config(&place.config()?).await?;
    let mut rows = Vec::new();
    let mut number = UNUSED;
    for (shared, compilers, what, beside) in [
        (true, 1, "workers of one machine have it, which share a cache", "to compile it once, in a child process"),
        (
            false,
            WORKERS,
            "workers with a cold cache each have it, which all compile on this one machine",
            "to compile it ten times at once, in child processes, and nothing else",
        ),
    ] {
        let cache = |number| if shared { place.cache() } else { place.own_cache(number) };
        let start = |number| Worker::start(&place.site, palfrey::WORKER, number, Some(&cache(number)));
        let workers = (0..WORKERS).map(start).collect::<Result<Vec<_>>>()?;
        for worker in &workers {
            worker.says(palfrey::READY).await?;
        }
        let (mut all, mut compiling, mut logged) = (Vec::new(), Vec::new(), Vec::new());
        for _ in place.repetitions() {
            number += 1;
            let component = renamed(&place.component()?, number)?;
            compiling.push(compile(&component, compilers)?);
            let started = Instant::now();
            runtime.deploy(component).await?;
            logged.push(started.elapsed().as_secs_f64());
            for worker in &workers {
                worker.says(&format!("loaded plugin=\"{}\"", palfrey::renamed(number))).await?;
            }
            all.push(started.elapsed().as_secs_f64());
        }
        let row = Row::new(format!("until ten {what}"), Unit::Seconds, all).beside(beside, compiling);
        rows.push(row.bound(Bound::More(0.1)).keeps(ALL));
        rows.push(
            Row::new("of it until it is in the log, where it is checked and compiled first", Unit::Seconds, logged)
                .keeps(ALL),
        );
    }
    Ok(rows)
}

/// Seconds to compile it so often at once without a cache.
fn compile(component: &[u8], at_once: usize) -> Result<f64> {
    let config = EngineConfig { compiler: palfrey::compiler()?, ..EngineConfig::default() };
    let engines = (0..at_once).map(|_| Engine::new(&config)).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = engines.iter().map(|engine| scope.spawn(|| engine.load(component))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?.context("it does not compile").map(drop)
        })
    })?;
    Ok(started.elapsed().as_secs_f64())
}
