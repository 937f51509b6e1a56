//! What a worker takes that has nothing to do.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Place, Row, memory::resident};

/// Hundredths of a second are what the system counts in.
const TICK: f64 = 0.01;
const MOST: f64 = 0.5;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let (_runtime, workers) = place.over_amqp(1).await?;
    let id = workers.first().context("one was started")?.id();
    let length = Duration::from_secs(if place.quick { 5 } else { 20 });
    // What it does when it has begun is not what is asked for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = processor_time(id)?;
    tokio::time::sleep(length).await;
    let percent = 100.0 * (processor_time(id)? - before) / length.as_secs_f64();
    Ok(vec![
        Row::new("processor", format!("{percent:.2} %")).goal(format!("≤ {MOST} %"), percent <= MOST),
        Row::new("resident memory", format!("{:.1} MiB", resident(&id.to_string())?)),
    ])
}

/// Seconds that a process has had.
fn processor_time(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("the system does not tell")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks * TICK)
}
