//! How much may be in flight.

use std::time::Duration;

/// Tasks in flight at the least, unless it is set: enough to find out about workers that have not answered yet.
const MIN_TASKS: usize = 16;

/// Tasks in flight for each slot: one under execution, one prefetched, and two on their way.
const TASKS_PER_SLOT: usize = 4;

/// What is in flight should keep the slots busy for so long: the way to a worker and back through the broker's disk.
const AHEAD: Duration = Duration::from_millis(40);

/// Tasks in flight for each slot at the most, however short they are.
const MOST_PER_SLOT: usize = 128;

/// Tasks that take as long are sent when a slot is about to need them. What waits for minutes in front of a slot holds up other jobs:
/// their tasks come behind it.
const LONG: Duration = Duration::from_millis(500);

/// One of so many slots has a task of that kind waiting for it.
const SPARE: usize = 8;

/// Bytes of inputs in flight, at the most, and of the outputs that are expected of them, for up to 512 slots. One task is always
/// sent.
const BYTES: usize = 64 << 20;

/// Tasks for each slot that may be in flight however large their outputs are: one under execution and one on its way.
const LARGE_PER_SLOT: usize = 2;

/// With more slots there is so much for each of them …
const BYTES_PER_SLOT: usize = 128 << 10;

/// … up to this.
const MAX_BYTES: usize = 1 << 30;

/// A batch is full at this many bytes, whatever its number of elements.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Batches do not get smaller than that because there are many slots: a broker could not carry as many of them.
const MIN_BATCH_BYTES: usize = 64 << 10;

/// Bounds on what is sent and not yet answered. What is answered and has not been read is bounded by them as well: nothing is sent
/// while nobody reads.
///
/// ```
/// use palfrey_schedule::Window;
///
/// let window = Window { slots: 100, ..Window::default() };
/// assert!(window.allows(399, 0) && !window.allows(400, 0));
/// // The bytes are shared among the slots: large elements travel in batches that leave some for everybody.
/// assert_eq!(window.batch_bytes(), (64 << 20) / 200);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// The most tasks in flight, if the program said so.
    pub tasks: Option<usize>,
    /// Tasks that the workers execute at once, as far as they have been heard of.
    pub slots: usize,
    /// What a task takes to execute, where that is known and the tasks to come are no larger. Many that are short are in flight,
    /// and few that are long.
    pub expected: Option<Duration>,
    /// Bytes of a task's outputs, where they are known. Few whose outputs are large are in flight.
    pub output: usize,
    /// Whether there are most likely no workers that have not been heard of. Otherwise there must be tasks for them as well.
    pub complete: bool,
}

impl Window {
    /// Whether another task may be sent while so many tasks, with so many bytes of inputs, are unanswered.
    pub fn allows(self, tasks: usize, bytes: usize) -> bool {
        let most = self.tasks.unwrap_or_else(|| self.most_tasks());
        let most_outputs = self.bytes() / self.output.max(1);
        let most_large = most_outputs.max(LARGE_PER_SLOT.saturating_mul(self.slots)).max(1);
        tasks < most.min(most_large) && bytes < self.bytes()
    }

    fn most_tasks(self) -> usize {
        if self.complete && self.expected.is_some_and(|expected| expected >= LONG) {
            return self.slots.saturating_add(self.slots.div_ceil(SPARE)).max(1);
        }
        MIN_TASKS.max(self.tasks_per_slot().saturating_mul(self.slots))
    }

    fn tasks_per_slot(self) -> usize {
        let short = self.expected.map_or(0, |expected| AHEAD.as_nanos() / expected.as_nanos().max(1));
        usize::try_from(short).unwrap_or(usize::MAX).clamp(TASKS_PER_SLOT, MOST_PER_SLOT)
    }

    fn bytes(self) -> usize {
        BYTES_PER_SLOT.saturating_mul(self.slots).clamp(BYTES, MAX_BYTES)
    }

    /// A batch is full at so many bytes. Two for each slot fit into what may be in flight, so that large elements do not
    /// leave slots idle, unless there are thousands of slots.
    pub fn batch_bytes(self) -> usize {
        (self.bytes() / (2 * self.slots.max(1))).clamp(MIN_BATCH_BYTES, MAX_BATCH_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_have_not_answered_are_given_something() {
        let window = Window::default();
        assert!(window.allows(15, 0) && !window.allows(16, 0));
    }

    #[test]
    fn what_was_set_counts() {
        let window = Window { tasks: Some(3), slots: 1000, expected: Some(Duration::ZERO), output: 0, complete: true };
        assert!(window.allows(2, 0) && !window.allows(3, 0));
    }

    #[test]
    fn bytes_are_bounded_but_for_one_task() {
        let window = Window { slots: 4, ..Window::default() };
        assert!(window.allows(0, 0) && !window.allows(1, BYTES));
    }

    #[test]
    fn expected_outputs_are_bounded_but_for_what_keeps_every_slot_busy() {
        let most = |output, slots| {
            let window = Window { slots, output, expected: Some(Duration::ZERO), ..Window::default() };
            (0..).find(|&tasks| !window.allows(tasks, 0))
        };
        assert_eq!(
            [100, 1 << 20, 8 << 20, 1 << 30].map(|output| most(output, 1)),
            [Some(128), Some(64), Some(8), Some(2)]
        );
        assert_eq!(most(8 << 20, 100), Some(200));
        assert_eq!(most(1 << 30, 0), Some(1));
    }

    #[test]
    fn slots_do_not_wait_for_the_broker_between_short_tasks() {
        let most = |micros| {
            let window = Window { slots: 10, expected: Some(Duration::from_micros(micros)), ..Window::default() };
            (0..).find(|&tasks| !window.allows(tasks, 0))
        };
        assert_eq!([0, 1, 1000, 100_000].map(most), [Some(1280), Some(1280), Some(400), Some(40)]);
    }

    #[test]
    fn long_tasks_wait_with_the_source_once_all_workers_are_known() {
        let most = |complete, millis| {
            let expected = Some(Duration::from_millis(millis));
            let window = Window { slots: 16, expected, complete, ..Window::default() };
            (0..).find(|&tasks| !window.allows(tasks, 0))
        };
        assert_eq!((most(true, 500), most(true, 499), most(false, 60_000)), (Some(18), Some(64), Some(64)));
    }

    #[test]
    fn every_slot_gets_a_batch_of_large_elements() {
        for slots in [0, 1, 8, 64, 1000, 8000] {
            let window = Window { slots, ..Window::default() };
            assert!(window.batch_bytes() <= MAX_BATCH_BYTES);
            assert!(window.allows(slots, slots * window.batch_bytes()), "{slots} slots");
        }
    }
}
