//! Which tasks are sent a second time.

use std::{cmp::Reverse, time::Duration};

/// How often late tasks are looked for, unless looking takes a while. A slot is expected to be busy for no shorter time.
const EVERY: Duration = Duration::from_millis(100);

/// How long to wait until late tasks among so many are looked for again: a tenth of a second, and longer where looking takes
/// a while.
pub fn hedge_every(unanswered: usize) -> Duration {
    let looking = Duration::from_micros(10).saturating_mul(u32::try_from(unanswered).unwrap_or(u32::MAX));
    looking.max(EVERY)
}

/// How long to wait until so many workers are told again which tasks need no second result any more. Telling everybody costs a broker
/// some fifty microseconds for each.
pub fn tell_every(workers: usize) -> Duration {
    Duration::from_millis(1).saturating_mul(u32::try_from(workers).unwrap_or(u32::MAX))
}

/// A task is late when it has taken this many times as long as its elements take in the mean …
const LATE: u32 = 3;

/// … and this long on top, for the way there and back.
const PATIENCE: Duration = Duration::from_millis(100);

/// Until the next copy of a task is sent it takes so many times as long as until the one before: a copy may have met a worker that
/// stands still as well, and an operation may take an hour.
const AGAIN: u32 = 8;

/// A copy takes at least so much of a slot's time: what it costs to send it and to answer.
const LEAST: Duration = Duration::from_millis(1);

/// What combining partial results is expected to take: it depends on their sizes and is not measured.
pub const COMBINING: Duration = Duration::from_secs(1);

/// A task that was sent and has no result yet. [`Hedge`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered<I> {
    /// Its number.
    pub id: I,
    /// When it was sent, the last time. All times are since one moment, whichever that is.
    pub sent: Duration,
    /// How long it takes in the mean to execute as many elements.
    pub expected: Duration,
    /// How often it was sent after the first time.
    pub copies: u32,
}

/// What is known of the workers of a job. [`Hedge`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Tasks that all of them execute at once.
    pub slots: usize,
    /// Tasks that the one executes at once that sent the last result.
    pub awake: usize,
    /// When that was.
    pub last_result: Duration,
}

/// Chooses the tasks that idle slots should execute as well. The first result of each counts.
///
/// This is for the end of a job, when nothing is left to send. The oldest late tasks get one copy each, as many as slots that have
/// nothing to do can execute until it is looked again: the backup tasks of MapReduce (Dean and Ghemawat, 2004), bounded by what
/// would do nothing otherwise. A copy is sound for operations whose result depends on nothing but their input.
///
/// A task is late from when it was sent or, since it may have waited for a slot until then, from when a slot had nothing to do. That
/// is so while fewer tasks have no result than there are slots, and when no result has come for so long that whoever executes
/// anything is late with it: a worker that has stopped holds more tasks than it has slots.
///
/// Late tasks wait, or run, where nothing moves. At most every other one occupies a slot, since a worker holds two tasks for each,
/// and none of them those of the worker that has answered last. A copy may be late as well, and is followed by another one much later.
///
/// ```
/// use std::time::Duration;
/// use palfrey_schedule::{Hedge, Seen, Unanswered};
///
/// // Two workers of two slots. One has stopped with four tasks of 25 milliseconds.
/// let task = |id| Unanswered { id, sent: Duration::ZERO, expected: Duration::from_millis(25), copies: 0 };
/// let stuck = [1, 2, 3, 4].map(task);
/// let seen = Seen { slots: 4, awake: 2, last_result: Duration::from_millis(50) };
/// let mut hedge = Hedge::default();
/// assert_eq!(hedge.second_copies(Duration::from_millis(200), seen, &stuck), []);
/// assert_eq!(hedge.second_copies(Duration::from_millis(300), seen, &stuck), [1, 2, 3, 4]);
/// ```
#[derive(Debug, Default)]
pub struct Hedge {
    /// Since when slots have had nothing to do.
    idle_since: Option<Duration>,
}

impl Hedge {
    /// Fewer tasks have no result than there are slots.
    pub fn slots_are_idle(&mut self, now: Duration) {
        self.idle_since.get_or_insert(now);
    }

    /// The tasks to send once more now.
    pub fn second_copies<I: Copy>(&mut self, now: Duration, seen: Seen, unanswered: &[Unanswered<I>]) -> Vec<I> {
        let Some(idle_since) = self.look(now, seen, unanswered) else { return Vec::new() };
        let age = |task: &Unanswered<I>| now.saturating_sub(task.sent.max(idle_since));
        let is_late = |task: &Unanswered<I>| age(task) >= patience(task.expected);
        let is_due = |task: &Unanswered<I>| {
            let times = AGAIN.checked_pow(task.copies).unwrap_or(u32::MAX);
            age(task) >= patience(task.expected).saturating_mul(times)
        };
        let moving = unanswered.iter().filter(|task| !is_late(task));
        let begun = moving.clone().filter(|task| task.copies == 0).count();
        let stuck = (unanswered.len() - begun).div_ceil(2).min(seen.slots.saturating_sub(seen.awake));
        let idle = seen.slots.saturating_sub(begun + stuck);
        let time = |task: &Unanswered<I>| task.expected.clamp(LEAST, EVERY);
        let copies: Duration = moving.filter(|task| task.copies > 0).map(time).sum();
        let room = EVERY.saturating_mul(u32::try_from(idle).unwrap_or(u32::MAX));
        let mut room = room.saturating_sub(copies);
        let mut chosen: Vec<_> = unanswered.iter().filter(|task| is_due(task)).collect();
        chosen.sort_by_key(|task| (task.sent, Reverse(task.expected)));
        let fits = |task: &&Unanswered<I>| {
            let fits = !room.is_zero();
            room = room.saturating_sub(time(task));
            fits
        };
        chosen.into_iter().take_while(fits).map(|task| task.id).collect()
    }

    /// Since when slots have had nothing to do, if that is so now.
    fn look<I>(&mut self, now: Duration, seen: Seen, unanswered: &[Unanswered<I>]) -> Option<Duration> {
        if unanswered.len() < seen.slots {
            self.slots_are_idle(now);
        } else {
            let was_idle = self.idle_since.take();
            let sent_since = |since| unanswered.iter().filter(|task| task.sent > since).count();
            let longest = unanswered.iter().map(|task| task.expected).max().unwrap_or_default();
            let is_silent = now.saturating_sub(seen.last_result) >= patience(longest);
            // What was sent since may have taken the slots that were idle.
            let since = was_idle.filter(|&since| sent_since(since) < seen.slots);
            self.idle_since = since.or(is_silent.then_some(seen.last_result));
        }
        self.idle_since
    }
}

/// How long a task may take that takes so long in the mean.
fn patience(expected: Duration) -> Duration {
    expected.saturating_mul(LATE).saturating_add(PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A task of a tenth of a second.
    fn task(id: u32, sent: u64) -> Unanswered<u32> {
        Unanswered { id, sent: millis(sent), expected: millis(100), copies: 0 }
    }

    fn seen(slots: usize, awake: usize, last_result: u64) -> Seen {
        Seen { slots, awake, last_result: millis(last_result) }
    }

    /// Where slots have been idle from the beginning.
    fn copies(now: u64, slots: usize, tasks: &[Unanswered<u32>]) -> Vec<u32> {
        let mut hedge = Hedge::default();
        hedge.slots_are_idle(Duration::ZERO);
        hedge.second_copies(millis(now), seen(slots, 1, now), tasks)
    }

    #[test]
    fn a_task_is_late_after_three_times_its_time_and_a_tenth_of_a_second() {
        assert_eq!(copies(1399, 2, &[task(1, 1000)]), []);
        assert_eq!(copies(1400, 2, &[task(1, 1000)]), [1]);
    }

    #[test]
    fn the_time_before_a_slot_was_idle_counts_for_nothing() {
        let mut hedge = Hedge::default();
        hedge.slots_are_idle(millis(5000));
        hedge.slots_are_idle(millis(5300));
        assert_eq!(hedge.second_copies(millis(5399), seen(2, 1, 5399), &[task(1, 0)]), []);
        assert_eq!(hedge.second_copies(millis(5400), seen(2, 1, 5400), &[task(1, 0)]), [1]);
    }

    #[test]
    fn the_oldest_come_first_and_only_idle_slots_are_used() {
        let tasks = [task(1, 500), task(2, 300), task(3, 400), task(4, 2000)];
        // One of six slots executes what is not late, two what is late: three have nothing to do.
        assert_eq!(copies(2000, 6, &tasks), [2, 3, 1]);
        assert_eq!(copies(2000, 5, &tasks), [2, 3]);
        assert_eq!(copies(2000, 3, &tasks), []);
    }

    #[test]
    fn copies_under_way_occupy_slots() {
        let copied = |id| Unanswered { copies: 1, ..task(id, 9_900) };
        assert_eq!(copies(10_000, 10, &[copied(1)]), []);
        assert_eq!(copies(10_000, 5, &[copied(1), copied(2), task(3, 0)]), [3]);
        assert_eq!(copies(10_000, 4, &[copied(1), copied(2), task(3, 0)]), []);
    }

    #[test]
    fn a_copy_that_met_a_stopped_worker_hides_nothing_and_is_followed_by_another_one_much_later() {
        let copied = |id, copies| Unanswered { copies, ..task(id, 0) };
        // All slots that were idle have got a copy, and nothing has come of it.
        assert_eq!(copies(401, 4, &[copied(1, 1), copied(2, 1), task(3, 0)]), [3]);
        assert_eq!(copies(3199, 4, &[copied(1, 1)]), []);
        assert_eq!(copies(3200, 4, &[copied(1, 1)]), [1]);
        assert_eq!(copies(3200, 4, &[copied(1, 2)]), []);
        assert_eq!(copies(25_600, 4, &[copied(1, 2)]), [1]);
    }

    #[test]
    fn a_slot_is_given_as_many_short_tasks_as_it_executes_until_it_is_looked_again() {
        let short = |id| Unanswered { expected: millis(25), ..task(id, 0) };
        let tasks: Vec<_> = (0..20).map(short).collect();
        // Half of the late ones would be ten of eleven slots.
        assert_eq!(copies(1000, 11, &tasks).len(), 4);
        let immeasurable = |id| Unanswered { expected: Duration::ZERO, ..task(id, 0) };
        let tasks: Vec<_> = (0..1000).map(immeasurable).collect();
        let mut hedge = Hedge::default();
        assert_eq!(hedge.second_copies(millis(1000), seen(4, 2, 0), &tasks).len(), 200);
    }

    #[test]
    fn a_stopped_worker_that_holds_more_tasks_than_there_are_slots_hides_nothing() {
        // Of two workers with two slots each, and of four, half have stopped, and hold four tasks each.
        for (slots, held) in [(4, 4), (8, 8)] {
            let tasks: Vec<_> = (0..held).map(|id| task(id, 100)).collect();
            let mut hedge = Hedge::default();
            // Results come: their slots may be busy, as far as anybody knows.
            assert_eq!(hedge.second_copies(millis(2000), seen(slots, 2, 1900), &tasks), []);
            assert_eq!(hedge.second_copies(millis(2299), seen(slots, 2, 1900), &tasks), []);
            let first = hedge.second_copies(millis(2300), seen(slots, 2, 1900), &tasks);
            assert_eq!(first.len(), slots / 2);
            // Each of them is answered a little later, and the others follow without another silence.
            let rest: Vec<_> = tasks.into_iter().filter(|task| !first.contains(&task.id)).collect();
            assert_eq!(hedge.second_copies(millis(2400), seen(slots, 2, 2399), &rest).len(), rest.len());
        }
    }

    #[test]
    fn one_worker_of_a_thousand_slots_that_is_awake_is_given_what_it_can_execute() {
        // Three of four have stopped, with as many tasks as there are slots, and half as many more.
        let tasks: Vec<_> = (0..6000).map(|id| task(id, 0)).collect();
        assert_eq!(Hedge::default().second_copies(millis(1000), seen(4000, 1000, 0), &tasks).len(), 1000);
    }

    #[test]
    fn a_worker_that_is_forgotten_hides_nothing_either() {
        let stuck = [task(1, 0), task(2, 0)];
        assert_eq!(Hedge::default().second_copies(millis(400), seen(1, 1, 0), &stuck), [1]);
    }

    #[test]
    fn tasks_that_were_sent_to_idle_slots_have_their_time() {
        let mut hedge = Hedge::default();
        hedge.slots_are_idle(millis(0));
        let tasks = [task(1, 500), task(2, 500)];
        assert_eq!(hedge.second_copies(millis(899), seen(2, 1, 500), &tasks), []);
        // They took all slots: one of them may have waited for the other one, as long as results come.
        assert_eq!(hedge.second_copies(millis(950), seen(2, 1, 940), &tasks), []);
    }
}
