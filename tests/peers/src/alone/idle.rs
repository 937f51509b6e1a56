//! What a worker takes that has nothing to do.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{ALL, Bound, Place, Row, Unit, memory::resident};

/// Hundredths of a second are what the system counts in.
const TICK: f64 = 0.01;

#[expect(clippy::disallowed_methods, reason = "what a worker costs in some time in which nothing happens")]
pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let (_runtime, workers) = place.over_amqp(1).await?;
    let id = workers.first().context("one was started")?.id();
    let length = Duration::from_secs(if place.quick { 1 } else { 5 });
    // What it does when it has begun is not what is asked for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (mut busy, mut memory) = (Vec::new(), Vec::new());
    for _ in place.repetitions() {
        let before = processor_time(id)?;
        tokio::time::sleep(length).await;
        busy.push(100.0 * (processor_time(id)? - before) / length.as_secs_f64());
        memory.push(resident(&id.to_string())?);
    }
    Ok(vec![
        Row::new("processor", Unit::Percent, busy).bound(Bound::Most(0.5)).keeps(ALL),
        Row::new("resident memory", Unit::MiB, memory).keeps(ALL),
    ])
}

/// Seconds that a process has had.
fn processor_time(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("the system does not tell")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks * TICK)
}
