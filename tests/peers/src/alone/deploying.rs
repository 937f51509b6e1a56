//! From deploying a plugin until all running workers can execute it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use palfrey_host::{
    Runtime,
    engine::{Engine, EngineConfig},
};

use super::{Place, Row, millis, starting::renamed};
use crate::palfrey;

const WORKERS: usize = 10;
/// Numbers of plugins that nothing else deploys.
const UNUSED: std::ops::Range<usize> = 900..905;
const MORE: Duration = Duration::from_millis(100);

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let runtime = Runtime::from_config(&place.config()?).await?;
    let workers = place.workers(WORKERS)?;
    for worker in &workers {
        worker.says(palfrey::READY).await?;
    }
    let mut rounds = Vec::new();
    for number in UNUSED {
        let component = renamed(&place.component()?, number)?;
        // Compiled here without a cache: so long it takes whoever does it.
        let engine = Engine::new(&EngineConfig::default())?;
        let started = Instant::now();
        engine.load(&component)?;
        let compiling = started.elapsed();

        let started = Instant::now();
        runtime.deploy(component).await?;
        let deployed = started.elapsed();
        for worker in &workers {
            worker.says(&format!("loaded plugin=\"{}\"", palfrey::renamed(number))).await?;
        }
        rounds.push((started.elapsed(), compiling, deployed));
    }
    rounds.sort_unstable();
    let (all, compiling, deployed) = *rounds.get(rounds.len() / 2).context("there were some")?;
    let bound = compiling + MORE;
    Ok(vec![
        Row::new(
            format!("until the last of {WORKERS} workers has it, on one machine"),
            format!("{} ({} of it until it is in the log)", millis(all), millis(deployed)),
        )
        .beside(format!("{} to compile it", millis(compiling)))
        .goal(format!("≤ {}", millis(bound)), all <= bound),
    ])
}
