//! One element after the other.

use std::time::Instant;

use anyhow::Result;

use crate::{contestant::Outcome, work::weighted};

/// Sends the inputs `0..count` one by one, and takes the time of each.
pub(crate) async fn one_by_one(count: u64, mut call: impl AsyncFnMut(u64) -> Result<u64>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let started = Instant::now();
    for index in 0..count {
        let sent = Instant::now();
        let output = call(index).await?;
        outcome.latencies.push(sent.elapsed());
        outcome.answer = outcome.answer.wrapping_add(weighted(index, output));
    }
    outcome.took = started.elapsed();
    Ok(outcome)
}
