//! Operations whose lengths nobody knows before, and how well slots finish together.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use operations::{Uneven, burn};
use palfrey_host::{Runtime, directive::*};

use super::{Place, Row, median, timed};
use crate::{bare::Wasm, palfrey};

const SLOTS: usize = 2;
const MOST: f64 = 1.1;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let rounds = lengths(if place.quick { 400 } else { 4_000 });
    let expected = rounds.iter().map(|&rounds| burn(rounds, rounds)).fold(0, u64::wrapping_add);
    let bare = Wasm::load(&place.site)?;
    let in_memory = place.in_memory(SLOTS).await?;
    let (over_amqp, _workers) = place.over_amqp(SLOTS).await?;
    let mut ratios = [Vec::new(), Vec::new()];
    let mut best = Vec::new();
    for _ in 0..5 {
        let static_schedule = in_hindsight(&bare, &rounds)?;
        for (runtime, ratios) in [&in_memory, &over_amqp].into_iter().zip(&mut ratios) {
            let (took, sum) = timed(run(runtime, &rounds)).await?;
            ensure!(sum == expected, "the answer is wrong");
            ratios.push(took.as_secs_f64() / static_schedule.as_secs_f64());
        }
        best.push(static_schedule.as_secs_f64());
    }
    let best = median(best);
    Ok(["in memory", "over RabbitMQ"]
        .into_iter()
        .zip(ratios.map(median))
        .map(|(how, ratio)| {
            Row::new(format!("makespan of {} elements, {how}", rounds.len()), format!("{ratio:.3} ×"))
                .beside(format!("{best:.2} s, longest first"))
                .goal(format!("≤ {MOST} ×"), ratio <= MOST)
        })
        .collect())
}

async fn run(runtime: &Runtime, rounds: &[u64]) -> Result<u64> {
    let source = IndexedStream::from(rounds.to_vec());
    palfrey::total(source.map(&Uneven).run(runtime).await?).await
}

/// Rounds by a Pareto distribution with a tail index of 1.5: half a millisecond at the least, and a tenth of a second at the most.
fn lengths(count: u64) -> Vec<u64> {
    const LEAST: f64 = 250_000.0;
    const MOST: f64 = 50_000_000.0;
    let uniform = |index| (burn(index + 1, 20) >> 11) as f64 / (1_u64 << 53) as f64;
    (0..count).map(|index| (LEAST * (1.0 - uniform(index)).powf(-1.0 / 1.5)).min(MOST) as u64).collect()
}

/// The makespan when all lengths are known: the longest first, each to the slot that is free. No more than a third longer than the
/// best that can be (Graham, 1969).
fn in_hindsight(bare: &Wasm, rounds: &[u64]) -> Result<Duration> {
    let mut order = rounds.to_vec();
    order.sort_unstable_by(|a, b| b.cmp(a));
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let work = || {
        while let Some(&rounds) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            bare.call("uneven", rounds).with_context(|| format!("{rounds} rounds"))?;
        }
        anyhow::Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..SLOTS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    Ok(started.elapsed())
}
