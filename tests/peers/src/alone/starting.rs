//! From starting a worker until it takes tasks.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use palfrey_host::Runtime;

use super::{Place, Row, millis};
use crate::{bare_lapin, palfrey, worker::Worker};

const MORE: Duration = Duration::from_millis(100);

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let runtime = Runtime::from_config(&place.config()?).await?;
    let plugins = if place.quick { 10 } else { 100 };
    // What is deployed from here is compiled here, and in the cache from then on.
    for number in 1..=plugins {
        runtime.deploy(renamed(&place.component()?, number)?).await?;
    }
    let mut rounds = Vec::new();
    for _ in 0..7 {
        let connected = started(place, bare_lapin::CONNECTION).await?;
        rounds.push((started(place, palfrey::WORKER).await?, connected));
    }
    rounds.sort_unstable();
    let (ready, connected) = *rounds.get(rounds.len() / 2).context("there were some")?;
    let bound = connected + MORE;
    Ok(vec![
        Row::new(format!("until it takes tasks, {plugins} plugins in the log and in the cache"), millis(ready))
            .beside(format!("{} until a process is connected that does nothing else", millis(connected)))
            .goal(format!("≤ {}", millis(bound)), ready <= bound),
    ])
}

async fn started(place: &Place, kind: &str) -> Result<Duration> {
    let started = Instant::now();
    let worker = Worker::start(&place.site, kind, 0, Some(&place.cache()))?;
    worker.says(palfrey::READY).await?;
    Ok(started.elapsed())
}

/// The same plugin under another name.
pub(super) fn renamed(component: &[u8], number: usize) -> Result<Vec<u8>> {
    let (before, after) = (palfrey::renamed(0).into_bytes(), palfrey::renamed(number).into_bytes());
    ensure!(before.len() == after.len(), "names have one length");
    let mut renamed = component.to_vec();
    let places: Vec<_> =
        (0..=component.len() - before.len()).filter(|&at| component[at..].starts_with(&before)).collect();
    ensure!(!places.is_empty(), "the component does not contain its name");
    for at in places {
        renamed[at..at + after.len()].copy_from_slice(&after);
    }
    Ok(renamed)
}
