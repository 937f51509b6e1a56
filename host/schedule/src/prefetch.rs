//! How many tasks a worker holds.

use std::time::Duration;

/// What a worker holds should keep its slots busy for so long: until the broker has confirmed a result, heard the acknowledgement
/// and sent the next task, which takes some milliseconds with a disk in between.
const AHEAD: Duration = Duration::from_millis(10);

/// Tasks for each slot at the least: one under execution, and one that begins when it ends.
const PER_SLOT: usize = 2;

/// Tasks that take as long are not held before a slot is free for them.
const LONG: Duration = Duration::from_millis(500);

/// Tasks that a worker holds at the most, unless two for each slot are more.
const MOST: usize = 128;

/// A task counts for so much of what tasks take in the mean.
const WEIGHT: f64 = 1.0 / 16.0;

/// So many times the tasks that are held have to be quick before more of them are.
const SURE: usize = 16;

/// Chooses how many tasks a worker holds from what they take to execute.
///
/// What one worker holds no other can execute. So it is two for each slot, as long as they take some milliseconds, and no more
/// than fill ten milliseconds where they take less: otherwise slots would wait for the broker between two tasks. Where tasks take half
/// a second it is one for each slot: others may have a slot for the next one, which may be short.
/// The number doubles slowly and falls at once, by half or more.
///
/// ```
/// use std::time::Duration;
/// use palfrey_schedule::Prefetch;
///
/// let mut prefetch = Prefetch::new(1);
/// for _ in 0..10_000 {
///     prefetch.observe(Duration::from_micros(500));
/// }
/// assert_eq!(prefetch.tasks(), 21);
/// for _ in 0..10 {
///     prefetch.observe(Duration::from_secs(1));
/// }
/// assert_eq!(prefetch.tasks(), 2);
/// ```
#[derive(Debug)]
pub struct Prefetch {
    slots: usize,
    tasks: usize,
    /// Seconds, an exponentially weighted mean.
    mean: Option<f64>,
    /// Tasks that were quick since the number has changed.
    quick: usize,
}

impl Prefetch {
    /// For a worker that executes so many tasks at once.
    pub fn new(slots: usize) -> Self {
        let slots = slots.max(1);
        Self { slots, tasks: slots.saturating_mul(PER_SLOT), mean: None, quick: 0 }
    }

    /// How many tasks the worker should hold, those under execution included.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// Learns what a task took. Returns whether the number of tasks has changed.
    pub fn observe(&mut self, execution: Duration) -> bool {
        let seconds = execution.as_secs_f64();
        let mean = self.mean.map_or(seconds, |mean| mean + WEIGHT * (seconds - mean));
        self.mean = Some(mean);
        let wanted = self.wanted(mean);
        self.quick = if wanted > self.tasks { self.quick + 1 } else { 0 };
        let tasks = if 2 * wanted <= self.tasks {
            wanted
        } else if self.quick >= SURE * self.tasks {
            wanted.min(2 * self.tasks)
        } else {
            return false;
        };
        self.quick = 0;
        std::mem::replace(&mut self.tasks, tasks) != tasks
    }

    fn wanted(&self, mean: f64) -> usize {
        if mean >= LONG.as_secs_f64() {
            return self.slots;
        }
        let least = self.slots.saturating_mul(PER_SLOT);
        let ahead = AHEAD.as_secs_f64() / mean * self.slots as f64;
        // A mean of zero is more than fits into any number.
        self.slots.saturating_add(ahead as usize).clamp(least, least.max(MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(tasks: usize, execution: Duration, slots: usize) -> usize {
        let mut prefetch = Prefetch::new(slots);
        for _ in 0..tasks {
            prefetch.observe(execution);
        }
        prefetch.tasks()
    }

    #[test]
    fn tasks_of_some_milliseconds_are_held_two_for_each_slot() {
        for slots in [1, 4, 64, 200] {
            assert_eq!(after(100_000, Duration::from_millis(10), slots), 2 * slots);
            assert_eq!(after(100_000, Duration::from_millis(499), slots), 2 * slots);
        }
    }

    #[test]
    fn tasks_of_half_a_second_are_held_by_whoever_executes_them() {
        assert_eq!(after(1, Duration::from_millis(500), 4), 4);
        assert_eq!(after(1000, Duration::from_secs(60), 4), 4);
        let mut prefetch = Prefetch::new(4);
        prefetch.observe(Duration::from_secs(60));
        // The mean forgets what was long, and then they are held again.
        (0..1000).for_each(|_| _ = prefetch.observe(Duration::from_millis(25)));
        assert_eq!(prefetch.tasks(), 8);
    }

    #[test]
    fn tasks_that_take_no_time_are_bounded() {
        assert_eq!(after(100_000, Duration::ZERO, 1), MOST);
        assert_eq!(after(100_000, Duration::ZERO, 100), 200);
    }

    #[test]
    fn the_first_batches_of_a_job_change_little() {
        assert!(after(64, Duration::from_micros(10), 1) <= 4);
    }

    #[test]
    fn one_slow_task_among_many_quick_ones_lets_others_have_the_rest() {
        let mut prefetch = Prefetch::new(2);
        while prefetch.tasks() < MOST {
            prefetch.observe(Duration::from_micros(20));
        }
        assert!(prefetch.observe(Duration::from_secs(3)));
        assert_eq!(prefetch.tasks(), 4);
        assert!(!prefetch.observe(Duration::from_secs(3)));
    }
}
