//! An orchestrator holds what is in flight, however much its source has.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use operations::Sum;
use palfrey_host::{Runtime, directive::*};

use super::{ALL, Bound, Place, Row, Unit};

const ELEMENTS: u64 = 10_000_000;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let (runtime, _workers) = place.over_amqp(2).await?;
    let (mut all, mut growth) = (Vec::new(), Vec::new());
    for _ in place.repetitions() {
        let seen = fold(&runtime).await?;
        let largest = |from: u64, to: u64| {
            let within = seen.iter().filter(|(done, _)| (from..=to).contains(done)).map(|(_, mib)| *mib);
            within.fold(0.0, f64::max)
        };
        // Until batches have grown more and more is in flight.
        let quarter = |number: u64| largest((number - 1) * ELEMENTS / 4, number * ELEMENTS / 4);
        all.push(largest(0, ELEMENTS));
        growth.push(quarter(4) - quarter(3));
    }
    Ok(vec![
        Row::new("largest resident memory", Unit::MiB, all).bound(Bound::Most(64.0)).keeps(ALL),
        Row::new("the last quarter of the job less the one before", Unit::MiB, growth)
            // What may come and go with the batches in flight.
            .bound(Bound::Most(4.0))
            .keeps(ALL),
    ])
}

/// MiB in memory, after so many elements.
async fn fold(runtime: &Runtime) -> Result<Vec<(u64, f64)>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let report = {
        let seen = seen.clone();
        move |progress: JobProgress| {
            if let (Ok(now), Ok(mut seen)) = (resident("self"), seen.lock()) {
                seen.push((progress.done, now));
            }
        }
    };
    let options = JobOptions::default().on_progress(report);
    let sum = IndexedStream::from(0..ELEMENTS).options(options).fold(&Sum).run(runtime).await?;
    ensure!(sum == ELEMENTS * (ELEMENTS - 1) / 2, "the sum is wrong");
    Ok(std::mem::take(&mut *seen.lock().ok().context("nothing panics")?))
}

/// MiB of a process that are in memory.
pub(super) fn resident(process: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the system does not tell")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
