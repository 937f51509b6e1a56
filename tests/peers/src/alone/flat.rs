//! What an element costs should not depend on how many there are, nor on what else is there.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use operations::Sum;
use palfrey_host::{Runtime, directive::*};

use super::{Place, Row, median, starting::renamed, timed};

/// Elements where something else is varied.
const ELEMENTS: u64 = 10_000_000;
const SLOTS: usize = 2;
const FLAT: f64 = 1.1;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let most = if place.quick { 10_000_000 } else { 100_000_000 };
    let runtime = place.in_memory(SLOTS).await?;
    let reference = cost(&runtime, ELEMENTS, 1).await?;
    for elements in
        [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000].into_iter().filter(|&elements| elements <= most)
    {
        rows.push(row(format!("{elements} elements"), cost(&runtime, elements, 1).await?, reference));
    }
    for jobs in [10, 100, 1000] {
        rows.push(row(format!("{jobs} jobs at once"), cost(&runtime, ELEMENTS, jobs).await?, reference));
    }
    let plugins = if place.quick { 10 } else { 100 };
    for number in 1..=plugins {
        runtime.deploy(renamed(&place.component()?, number)?).await?;
    }
    rows.push(row(format!("{} plugins deployed", plugins + 1), cost(&runtime, ELEMENTS, 1).await?, reference));
    drop(runtime);
    for slots in [1, 4, 16, 64] {
        let runtime = place.in_memory(slots).await?;
        rows.push(row(format!("{slots} slots"), cost(&runtime, ELEMENTS, 1).await?, reference));
    }
    Ok(rows)
}

fn row(what: String, nanos: f64, reference: f64) -> Row {
    let ratio = nanos / reference;
    Row::new(what, format!("{nanos:.1} ns an element, {ratio:.2} ×"))
        .beside(format!("{reference:.1} ns: one job of {ELEMENTS}, {SLOTS} slots"))
        .goal(format!("≤ {FLAT} ×"), ratio <= FLAT)
}

/// Nanoseconds for each of so many elements, in so many folds at once.
async fn cost(runtime: &Runtime, elements: u64, jobs: u64) -> Result<f64> {
    let each = elements / jobs;
    let job = || async {
        let sum = IndexedStream::from(0..each).fold(&Sum).run(runtime).await?;
        ensure!(sum == each * (each - 1) / 2, "the sum is wrong");
        Ok(())
    };
    let mut costs = Vec::new();
    for _ in 0..5 {
        let (took, _) = timed(try_join_all((0..jobs).map(|_| job()))).await?;
        costs.push(1e9 * took.as_secs_f64() / elements as f64);
    }
    Ok(median(costs))
}
