//! One worker of four is slowed to a tenth: it stands still for most of the time, as a machine does that swaps or has a neighbour.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use operations::{Burn, burn};
use palfrey_host::{Runtime, directive::*};
use rustix::process::{Pid, Signal, kill_process};

use super::{ALL, Place, Row, Unit, timed};
use crate::palfrey;

/// More than there are cores, so that the others can do what the slow one does not.
const WORKERS: usize = 4;
/// About 5 ms.
const ROUNDS: u64 = 2_500_000;

/// Stopped and running, in turns.
const STOPPED: Duration = Duration::from_millis(90);
const RUNNING: Duration = Duration::from_millis(10);

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let (runtime, workers) = place.over_amqp(WORKERS).await?;
    let elements = if place.quick { 200 } else { 1_000 };
    let slow = workers.first().context("some were started")?.id();
    let slow = i32::try_from(slow).ok().and_then(Pid::from_raw).context("it is the number of a process")?;
    // Compiled and loaded everywhere.
    job(&runtime, elements).await?;
    let (mut slowed, mut undisturbed) = (Vec::new(), Vec::new());
    for _ in place.repetitions() {
        undisturbed.push(job(&runtime, elements).await?);
        let over = Arc::new(AtomicBool::new(false));
        let hindering = tokio::task::spawn_blocking({
            let over = over.clone();
            move || hinder(slow, &over)
        });
        let took = job(&runtime, elements).await;
        over.store(true, Ordering::Relaxed);
        hindering.await??;
        slowed.push(took?);
    }
    let what =
        format!("a job of {elements} elements, one of {WORKERS} workers standing still for nine tenths of the time");
    Ok(vec![Row::new(what, Unit::Seconds, slowed).beside("the same job undisturbed", undisturbed).keeps(ALL)])
}

async fn job(runtime: &Runtime, elements: u64) -> Result<f64> {
    let expected = (0..elements).map(|seed| burn(seed, ROUNDS)).fold(0, u64::wrapping_add);
    let source = IndexedStream::from(0..elements);
    let run = async { palfrey::total(source.map(&Burn { rounds: ROUNDS }).run(runtime).await?).await };
    let (took, sum) = timed(run).await?;
    ensure!(sum == expected, "the answer is wrong");
    Ok(took)
}

/// Lets a process run for a tenth of the time.
#[expect(clippy::disallowed_methods, reason = "a thread of its own that does nothing else")]
fn hinder(process: Pid, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        kill_process(process, Signal::STOP)?;
        thread::sleep(STOPPED);
        kill_process(process, Signal::CONT)?;
        thread::sleep(RUNNING);
    }
    Ok(())
}
