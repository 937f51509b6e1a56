//! From starting a worker until its first result is there.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use operations::Same;
use palfrey_host::{Runtime, runtime::Task};

use super::{ALL, Bound, Place, Row, Unit};
use crate::{
    bare_lapin::{self, Lapin},
    palfrey,
    worker::Worker,
};

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let runtime = Runtime::from_config(&place.config()?).await?;
    let plugins = if place.quick { 10 } else { 100 };
    // What is deployed from here is compiled here, and in the cache from then on.
    for number in 1..plugins {
        runtime.deploy(renamed(&place.component()?, number)?).await?;
    }
    runtime.deploy(place.component()?).await?;
    let mut bare = Lapin::without_workers(&place.site.uri).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in place.repetitions() {
        theirs.push(first_message(place, &mut bare, number as u64).await?);
        ours.push(first_result(place, &runtime).await?);
    }
    let what = format!("until the result of a task that waits is there, {plugins} plugins in the log and in the cache");
    Ok(vec![
        Row::new(what, Unit::Seconds, ours)
            .beside("a process that connects and answers a message by hand", theirs)
            .bound(Bound::More(0.1))
            .keeps(ALL),
    ])
}

async fn first_result(place: &Place, runtime: &Runtime) -> Result<f64> {
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<Same, ()>().await?;
    sender.publish(&Task { routing_key, metadata: (), op: &Same, input: 7 }).await?;
    let started = Instant::now();
    let _worker = Worker::start(&place.site, palfrey::WORKER, 0, Some(&place.cache()))?;
    let (result, acker) = results.next().await.context("there is no result")?;
    let took = started.elapsed().as_secs_f64();
    acker.ack().await?;
    ensure!(result?.output == 7, "the result is wrong");
    results.release().await;
    Ok(took)
}

async fn first_message(place: &Place, bare: &mut Lapin, number: u64) -> Result<f64> {
    bare.send(number).await?;
    let started = Instant::now();
    let _worker = Worker::start(&place.site, bare_lapin::WORKER, 0, None)?;
    while bare.receive().await? != number {}
    Ok(started.elapsed().as_secs_f64())
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
