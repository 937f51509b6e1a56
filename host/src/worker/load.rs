//! How busy a worker has been lately.

use std::time::Duration;

use tokio::time::Instant;

/// How long the past counts: what was a minute ago counts a third of what is now.
const MINUTE: Duration = Duration::from_secs(60);

/// An average of a number over time that forgets exponentially, as the load average of Unix does.
#[derive(Debug)]
pub(super) struct LoadAverage {
    /// The number since `since`.
    current: f64,
    since: Instant,
    /// The average up to `since`.
    average: f64,
}

impl LoadAverage {
    pub(super) fn new(now: Instant) -> Self {
        Self { current: 0.0, since: now, average: 0.0 }
    }

    /// The number changes.
    pub(super) fn set(&mut self, number: usize, now: Instant) {
        self.average = self.at(now);
        self.since = now;
        self.current = number as f64;
    }

    /// The average as of now.
    pub(super) fn at(&self, now: Instant) -> f64 {
        let forgotten = (-now.duration_since(self.since).as_secs_f64() / MINUTE.as_secs_f64()).exp();
        self.current + (self.average - self.current) * forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_what_lasts_and_forgets_what_was() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut load = LoadAverage::new(start);
        assert_eq!(load.at(after(1000)), 0.0);
        load.set(4, start);
        assert!((load.at(after(60)) - 4.0 * (1.0 - (-1.0_f64).exp())).abs() < 1e-9);
        assert!(load.at(after(600)) > 3.99);
        load.set(0, after(600));
        assert!(load.at(after(600)) > 3.99 && load.at(after(1200)) < 0.01);
    }

    #[test]
    fn what_changes_quickly_counts_by_its_share_of_the_time() {
        let start = Instant::now();
        let mut load = LoadAverage::new(start);
        for millisecond in 0..600_000_u64 {
            // Busy for one millisecond of four.
            load.set(usize::from(millisecond % 4 == 0), start + Duration::from_millis(millisecond));
        }
        let load = load.at(start + Duration::from_secs(600));
        assert!((load - 0.25).abs() < 0.01, "{load}");
    }
}
