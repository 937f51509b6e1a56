//! Contestants alternate, so that what disturbs the machine disturbs all of them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::{
    contestant::{Contestant, Outcome, Site, Who},
    explain::{Explained, Sums, Times},
    work::{Batch, Measure, Work},
};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Of each contestant.
    pub(crate) repetitions: usize,
    /// About as long as each repetition takes.
    pub(crate) length: Duration,
}

impl Effort {
    /// No repetition has to be longer, even if more elements would go faster still.
    fn longest(self) -> Duration {
        (4 * self.length).min(Duration::from_secs(5))
    }
}

/// The smallest, the middle and the largest of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

/// What a contestant has shown.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Shown {
    /// Elements of a repetition.
    pub(crate) elements: u64,
    /// Elements per second, or seconds an element.
    pub(crate) values: Vec<f64>,
    /// The seconds that 99 of 100 elements took at the most, if that was measured.
    pub(crate) slowest_of_hundred: Option<f64>,
    /// Elements of a message in the last repetition, in the mean, where the contestant chose it or was given it.
    pub(crate) batch: Option<usize>,
}

/// A work, and what each contestant has shown in it.
pub(crate) type Measured = BTreeMap<Who, Shown>;

const MOST_ELEMENTS: u64 = 50_000_000;
/// Twice as many elements, or more, at a rate so many times as high: it is not a job's last one yet.
const STILL_FASTER: f64 = 1.2;
/// Latencies are of single elements.
const MOST_LATENCIES: u64 = 5_000;

struct Runner {
    who: Who,
    contestant: Box<dyn Contestant>,
    count: u64,
    expected: u64,
    values: Vec<f64>,
    latencies: Vec<Duration>,
    batch: Option<usize>,
}

/// Starts the contestants of a work, lets each warm up, and has them alternate. Where there is somebody who hears it, tells where
/// the time of Palfrey's tasks went, once all are warm.
pub(crate) async fn measure(
    site: &Site,
    work: &Work,
    effort: Effort,
    times: Option<&Times>,
) -> Result<(Measured, Option<Explained>)> {
    let mut runners: Vec<Runner> = Vec::new();
    for who in work.contestants() {
        let contestant = who.start(site, work).await.with_context(|| format!("{who} does not start"))?;
        let mut runner = Runner::new(who, contestant);
        runner.warm_up(&like_the_first(work, &runners), effort).await?;
        runners.push(runner);
    }
    if let (Some(_), Some(palfrey)) = (times, runners.first_mut()) {
        palfrey.contestant.workers().iter_mut().try_for_each(|worker| worker.listen())?;
    }
    for _ in 0..effort.repetitions {
        for number in 0..runners.len() {
            let work = like_the_first(work, &runners[..number]);
            times.inspect(|times| times.listen(number == 0));
            let outcome = runners[number].run(&work).await?;
            times.inspect(|times| times.listen(false));
            runners[number].take(&work, outcome);
        }
    }
    let explained = match (times, runners.first_mut()) {
        (Some(times), Some(palfrey)) => Some(explained(times, palfrey).await?),
        _ => None,
    };
    Ok((runners.into_iter().map(Runner::shown).collect(), explained))
}

async fn explained(times: &Times, palfrey: &mut Runner) -> Result<Explained> {
    let orchestrator = times.take();
    let mut workers = Sums::default();
    let processes = palfrey.contestant.workers();
    if processes.is_empty() {
        workers = orchestrator;
    }
    for worker in processes {
        workers.add(&worker.heard().await?);
    }
    Ok(Explained { orchestrator, workers })
}

/// The work as it is for a contestant: with the batch of the first one, if that is what is asked for.
fn like_the_first(work: &Work, runners: &[Runner]) -> Work {
    match (work.batch, runners.first().and_then(|first| first.batch)) {
        (Batch::LikePalfrey, Some(batch)) => Work { batch: Batch::Fixed(batch), ..*work },
        _ => *work,
    }
}

impl Runner {
    fn new(who: Who, contestant: Box<dyn Contestant>) -> Self {
        Self { who, contestant, count: 1, expected: 0, values: Vec::new(), latencies: Vec::new(), batch: None }
    }

    /// Finds out how many elements take as long as a repetition is to take, or more of them where they go faster still the
    /// more there are: what is measured is what elements take, not what it takes to begin.
    async fn warm_up(&mut self, work: &Work, effort: Effort) -> Result<()> {
        let Effort { length, .. } = effort;
        let most = if work.measure == Measure::Latency { MOST_LATENCIES } else { MOST_ELEMENTS };
        // The first run is the coldest.
        self.timed(work, 1).await?;
        let mut rate = 0.0;
        loop {
            let took = self.timed(work, self.count).await?;
            let earlier = std::mem::replace(&mut rate, self.count as f64 / took.as_secs_f64().max(1e-9));
            let is_steady = rate < STILL_FASTER * earlier || took > effort.longest();
            if self.count == most || (took >= length / 2 && is_steady) {
                return Ok(());
            }
            let growth = (length.as_secs_f64() / took.as_secs_f64().max(1e-9)).clamp(2.0, 8.0);
            self.count = most.min((self.count as f64 * growth) as u64);
        }
    }

    async fn timed(&mut self, work: &Work, count: u64) -> Result<Duration> {
        self.expect(work, count);
        Ok(self.run(work).await?.took)
    }

    fn expect(&mut self, work: &Work, count: u64) {
        (self.count, self.expected) = (count, work.job.answer(count));
    }

    async fn run(&mut self, work: &Work) -> Result<Outcome> {
        let Self { who, contestant, count, expected, .. } = self;
        let outcome = contestant.run(work, *count).await.with_context(|| format!("{who} failed at `{}`", work.name))?;
        ensure!(outcome.answer == *expected, "{who} has a wrong answer to `{}` of {count} elements", work.name);
        self.batch = outcome.batch;
        Ok(outcome)
    }

    fn take(&mut self, work: &Work, mut outcome: Outcome) {
        self.values.push(match work.measure {
            Measure::Rate => self.count as f64 / outcome.took.as_secs_f64(),
            Measure::Latency => {
                outcome.latencies.sort_unstable();
                outcome.latencies[outcome.latencies.len() / 2].as_secs_f64()
            }
        });
        self.latencies.extend(outcome.latencies);
    }

    fn shown(mut self) -> (Who, Shown) {
        self.latencies.sort_unstable();
        let slowest = self.latencies.get(self.latencies.len() * 99 / 100).map(Duration::as_secs_f64);
        let Self { who, count, values, batch, .. } = self;
        (who, Shown { elements: count, values, slowest_of_hundred: slowest, batch })
    }
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Self { low: at(0), median: f64::midpoint(at(last / 2), at(last - last / 2)), high: at(last) }
    }

    /// Of one contestant's values over another's of the same repetition.
    pub(crate) fn of_ratios(of: &Shown, over: &Shown) -> Self {
        Self::of(of.values.iter().zip(&over.values).map(|(of, over)| of / over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_ones() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Spread { low: 1.0, median: 2.5, high: 4.0 });
        assert_eq!(Spread::of([2.0, 9.0, 1.0]), Spread { low: 1.0, median: 2.0, high: 9.0 });
    }

    #[test]
    fn ratios_are_of_the_same_repetition() {
        let shown =
            |values: &[f64]| Shown { elements: 1, values: values.to_vec(), slowest_of_hundred: None, batch: None };
        let ratios = Spread::of_ratios(&shown(&[10.0, 40.0, 20.0]), &shown(&[1.0, 4.0, 4.0]));
        assert_eq!(ratios, Spread { low: 5.0, median: 10.0, high: 10.0 });
    }
}
