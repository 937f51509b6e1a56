//! Which tasks are sent a second time.

use std::time::Duration;

/// How long to wait until late tasks among so many are looked for again: a tenth of a second, and longer where looking takes
/// a while.
pub fn hedge_every(unanswered: usize) -> Duration {
    let looking = Duration::from_micros(10).saturating_mul(u32::try_from(unanswered).unwrap_or(u32::MAX));
    looking.max(Duration::from_millis(100))
}

/// A task is late when it has taken this many times as long as its elements take in the mean …
const LATE: u32 = 3;

/// … and this long on top, for the way there and back.
const PATIENCE: Duration = Duration::from_millis(100);

/// What combining partial results is expected to take: it depends on their sizes and is not measured.
pub const COMBINING: Duration = Duration::from_secs(1);

/// A task that was sent and has no result yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered<I> {
    /// Its number.
    pub id: I,
    /// How long ago it was sent, or the first slot had nothing to do, whichever is later: a slot is free for it since then.
    pub age: Duration,
    /// How long it takes in the mean to execute as many elements.
    pub expected: Duration,
    /// Whether it was sent a second time already.
    pub copied: bool,
}

/// Chooses the tasks that idle slots should execute a second time. The first result of each counts.
///
/// This is for the end of a job, when nothing is left to send. The oldest late tasks get one copy each, as many as there are
/// `idle` slots: the backup tasks of MapReduce (Dean and Ghemawat, 2004), bounded by what would do nothing otherwise. A
/// copy is sound for operations whose result depends on nothing but their input.
///
/// ```
/// use std::time::Duration;
/// use palfrey_schedule::{Unanswered, second_copies};
///
/// let expected = Duration::from_millis(25);
/// let task = |id, seconds| Unanswered { id, age: Duration::from_secs(seconds), expected, copied: false };
/// assert_eq!(second_copies([task(7, 1), task(3, 2), task(9, 0)], 1), [3]);
/// ```
pub fn second_copies<I>(unanswered: impl IntoIterator<Item = Unanswered<I>>, idle: usize) -> Vec<I> {
    let is_late =
        |task: &Unanswered<I>| !task.copied && task.age >= task.expected.saturating_mul(LATE).saturating_add(PATIENCE);
    let mut late: Vec<_> = unanswered.into_iter().filter(is_late).collect();
    late.sort_by_key(|task| std::cmp::Reverse(task.age));
    late.truncate(idle);
    late.into_iter().map(|task| task.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: u32, age: u64) -> Unanswered<u32> {
        Unanswered { id, age: Duration::from_millis(age), expected: Duration::from_millis(100), copied: false }
    }

    #[test]
    fn a_task_is_late_after_three_times_its_time_and_a_tenth_of_a_second() {
        assert_eq!(second_copies([task(1, 399)], 1), []);
        assert_eq!(second_copies([task(1, 400)], 1), [1]);
    }

    #[test]
    fn the_oldest_come_first_and_only_idle_slots_are_used() {
        let tasks = [task(1, 500), task(2, 700), task(3, 600), task(4, 10)];
        assert_eq!(second_copies(tasks, 2), [2, 3]);
        assert_eq!(second_copies(tasks, 0), []);
    }

    #[test]
    fn nothing_is_sent_a_third_time() {
        assert_eq!(second_copies([Unanswered { copied: true, ..task(1, 10_000) }], 5), []);
    }
}
