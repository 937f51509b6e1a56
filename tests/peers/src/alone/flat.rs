//! What an element costs should not depend on how many there are, nor on what else is there.

use std::ops::Range;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use operations::Sum;
use palfrey_host::{Runtime, directive::*};

use super::{ALL, Bound, Place, Row, Unit, starting::renamed, timed};

const SLOTS: usize = 2;
/// Of the component.
const OPERATIONS: usize = 5;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    // Elements where something else is varied, and the most of them.
    let (usual, most) = if place.quick { (2_000_000, 2_000_000) } else { (10_000_000, 100_000_000) };
    let jobs: &[u64] = if place.quick { &[100] } else { &[10, 100, 1000] };
    let repetitions = place.repetitions();
    let in_memory = place.in_memory(SLOTS, place.component()?).await?;
    let mut flat =
        Flat { rows: Vec::new(), usual, repetitions, reference: &in_memory, how: "in memory", keeps: "nothing" };
    flat.vary_jobs(most, jobs).await?;
    let slots: &[usize] = if place.quick { &[1, 16] } else { &[1, 4, 16, 64] };
    for &slots in slots {
        let other = place.in_memory(slots, place.component()?).await?;
        flat.row(format!("{slots} slots"), &other, usual, 1).await?;
    }
    // Each plugin more is as many operations more. They are deployed for one runtime, beside one that has a single plugin.
    let plugins = if place.quick { 100 } else { 1_000 } / OPERATIONS + 1;
    let crowded = place.in_memory(SLOTS, place.component()?).await?;
    for number in 1..plugins {
        crowded.deploy(renamed(&place.component()?, number)?).await?;
    }
    flat.row(format!("{} operations deployed", plugins * OPERATIONS), &crowded, usual, 1).await?;
    let mut rows = flat.rows;

    let (over_amqp, _workers) = place.over_amqp(SLOTS).await?;
    let repetitions = place.repetitions();
    let mut flat = Flat { rows: Vec::new(), usual, repetitions, reference: &over_amqp, how: "RabbitMQ", keeps: ALL };
    flat.vary_jobs(most, jobs).await?;
    rows.extend(flat.rows);
    Ok(rows)
}

struct Flat<'a> {
    rows: Vec<Row>,
    usual: u64,
    repetitions: Range<usize>,
    reference: &'a Runtime,
    how: &'a str,
    keeps: &'a str,
}

impl Flat<'_> {
    async fn vary_jobs(&mut self, most: u64, jobs: &[u64]) -> Result<()> {
        let reference = self.reference;
        for elements in [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000] {
            if elements <= most {
                self.row(format!("{elements} elements"), reference, elements, 1).await?;
            }
        }
        for &jobs in jobs {
            self.row(format!("{jobs} jobs at once"), reference, self.usual, jobs).await?;
        }
        Ok(())
    }

    /// What an element costs there, in turns with what it costs in one job of the usual length. What it costs more must be what
    /// each job takes besides.
    async fn row(&mut self, what: String, runtime: &Runtime, elements: u64, jobs: u64) -> Result<()> {
        let (mut ours, mut usual, mut besides) = (Vec::new(), Vec::new(), Vec::new());
        for _ in self.repetitions.clone() {
            let reference = cost(self.reference, self.usual, 1).await?;
            let here = cost(runtime, elements, jobs).await?;
            besides.push((here - reference) * elements as f64 / jobs as f64);
            ours.push(here);
            usual.push(reference);
        }
        let beside = format!("one job of {} elements, {SLOTS} slots", self.usual);
        let row = Row::new(format!("{}: {what}", self.how), Unit::Seconds, ours).beside(beside, usual);
        self.rows.push(row.bound(Bound::Times(1.1)).keeps(self.keeps));
        if elements < self.usual || jobs > 1 {
            let what = format!("{}: {what}: what a job costs besides its elements", self.how);
            self.rows.push(Row::new(what, Unit::Seconds, besides).keeps(self.keeps));
        }
        Ok(())
    }
}

/// Seconds for each of so many elements, in so many folds at once.
async fn cost(runtime: &Runtime, elements: u64, jobs: u64) -> Result<f64> {
    let each = elements / jobs;
    let job = || async {
        let sum = IndexedStream::from(0..each).fold(&Sum).run(runtime).await?;
        ensure!(sum == each * (each - 1) / 2, "the sum is wrong");
        Ok(())
    };
    let (took, _) = timed(try_join_all((0..jobs).map(|_| job()))).await?;
    Ok(took / elements as f64)
}
