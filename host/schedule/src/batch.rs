//! How many elements travel together: one pure decision, in one place.

use std::{num::NonZeroUsize, time::Duration};

/// How many elements travel in one task.
///
/// Measuring is right for most jobs. A fixed size is for those whose first elements say nothing about the others.
///
/// ```
/// use std::num::NonZeroUsize;
/// use palfrey_schedule::BatchSize;
///
/// let alone = BatchSize::Fixed(NonZeroUsize::MIN);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchSize {
    /// Chosen from the measured time per element: one at first, then as many as take about 60 milliseconds, and fewer toward the
    /// end of a source of known length, but no fewer than are worth the way. With more than three hundred slots batches take longer,
    /// so that there are not more of them than a broker carries.
    #[default]
    Measured,
    /// Always this many, the last batch excepted, and those that are full at 1 MiB before.
    Fixed(NonZeroUsize),
}

/// What a batch should take to execute. Long against the cost of a task (tens of microseconds in memory; over a broker on the same
/// two cores milliseconds of them, which is why 25 were too few), short against a job, so that slots finish together and a lost
/// worker loses little.
const TARGET: Duration = Duration::from_millis(60);

/// What a task costs where all tasks go through: a queue of the broker and one orchestrator carry ten thousand a second.
const PER_TASK: Duration = Duration::from_micros(100);

/// A batch should take so much of the time that it is on its way. The end of a job is later by that at the most, where slots do not
/// finish together.
const WORTH: f64 = 0.25;

/// A measurement allows so many times its own batch as long as that is an eighth of the aim at the most, and twice otherwise.
const QUICK_GROWTH: usize = 4;

/// Outputs of a batch should have no more bytes than this, far below what a message or an output may have.
const MAX_OUTPUT: usize = 8 << 20;

/// The most elements in a batch: their offsets then take as much room as the smallest elements.
const MAX_ELEMENTS: usize = 65_536;

/// With what was measured of the same stages before, the first batches are to take so long: short enough to be wrong a thousand times.
const FIRST: Duration = Duration::from_micros(1500);

/// They have no more elements than this, and so much of the output that a batch may have.
const FIRST_ELEMENTS: usize = 16_384;
const FIRST_OUTPUT: usize = 512 << 10;

/// A batch that was executed.
///
/// ```
/// use std::time::Duration;
/// use palfrey_schedule::Executed;
///
/// let (round_trip, waited, execution) = (Duration::from_millis(9), Duration::from_millis(2), Duration::from_millis(4));
/// let transit = round_trip - waited - execution;
/// let batch = Executed { elements: 100, output: 800, execution, transit };
/// assert_eq!(batch.transit, Duration::from_millis(3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Executed {
    /// How many there were.
    pub elements: usize,
    /// Bytes of their outputs.
    pub output: usize,
    /// What it took to execute them.
    pub execution: Duration,
    /// What their way to a slot and the way of the outputs back took, without what they waited for a slot.
    pub transit: Duration,
}

/// What an element takes, as it was measured. Another job of the same stages [begins](BatchRule::beginning_at) with it.
///
/// ```
/// use std::time::Duration;
/// use palfrey_schedule::{BatchRule, BatchSize, Executed};
///
/// let mut first = BatchRule::new(BatchSize::Measured);
/// assert_eq!((first.pace(), first.next(None, 2)), (None, 1));
/// first.observe(&Executed { elements: 1, output: 8, execution: Duration::from_micros(10), ..Executed::default() }, 2);
/// let second = BatchRule::beginning_at(BatchSize::Measured, first.pace());
/// assert!(second.next(None, 2) > 100);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Seconds.
    time: f64,
    /// Of the output.
    bytes: f64,
    /// The least seconds that a batch was on its way.
    transit: f64,
}

impl Pace {
    /// Seconds that a batch should take for the sake of the way there and back.
    fn worth(self) -> f64 {
        WORTH * self.transit
    }
}

/// Chooses batch sizes from what executions took.
///
/// The first batches hold one element each. A measurement allows twice its own batch at the most, and four times while that is far
/// from the aim, so that a size is never extrapolated far; or as many elements as should take a fourth of the time that a batch is on its
/// way, up to a millisecond and a half, where that is more. It allows less when the aim over the time per element is less: 60 milliseconds, or with many slots as long as
/// leaves the broker half of its rate. Toward the end of a source of known length, a batch is at most half of an even share
/// of what remains, and less where elements differ much and few are left: guided self-scheduling (Polychronopoulos and Kuck, 1987)
/// with the factor of factoring (Hummel, Schonberg and Flynn, 1992), which depends on the variance. It does not get so small that
/// the broker could not keep all slots busy with them, nor that it takes less than a fourth of the time on its way: slots that finish
/// together more exactly than that gain little.
///
/// ```
/// use std::time::Duration;
/// use palfrey_schedule::{BatchRule, BatchSize, Executed};
///
/// let mut rule = BatchRule::new(BatchSize::Measured);
/// let slots = 8;
/// for _ in 0..10 {
///     let elements = rule.next(None, slots);
///     let execution = Duration::from_micros(100) * elements as u32;
///     rule.observe(&Executed { elements, execution, ..Executed::default() }, slots);
/// }
/// assert_eq!(rule.next(None, slots), 600);
/// assert_eq!(rule.next(Some(1600), slots), 100);
/// ```
#[derive(Debug)]
pub struct BatchRule {
    size: BatchSize,
    allowed: usize,
    /// Exponentially weighted means.
    per_element: Option<Pace>,
    /// Of the time per element.
    variance: f64,
    /// Elements of the batch that was observed last.
    last: usize,
    /// From another job.
    before: Option<Pace>,
}

impl BatchRule {
    /// Knows nothing yet.
    pub fn new(size: BatchSize) -> Self {
        Self { size, allowed: 1, per_element: None, variance: 0.0, last: 0, before: None }
    }

    /// Knows what was measured of the same stages before, and begins with a careful fraction of what would follow. The inputs may
    /// be of another kind: the first measurement counts as if nothing had been known.
    ///
    /// ```
    /// use std::time::Duration;
    /// use palfrey_schedule::{BatchRule, BatchSize, Executed};
    ///
    /// let mut rule = BatchRule::new(BatchSize::Measured);
    /// rule.observe(&Executed { elements: 1, execution: Duration::from_micros(100), ..Executed::default() }, 2);
    /// let next = BatchRule::beginning_at(BatchSize::Measured, rule.pace());
    /// assert_eq!(next.next(None, 2), 15);
    /// ```
    pub fn beginning_at(size: BatchSize, before: Option<Pace>) -> Self {
        let bounded = |most: f64, each: f64| within(most, each).unwrap_or(FIRST_ELEMENTS);
        let first = before.map_or(1, |Pace { time, bytes, .. }| {
            bounded(FIRST.as_secs_f64(), time).min(bounded(FIRST_OUTPUT as f64, bytes)).clamp(1, FIRST_ELEMENTS)
        });
        Self { allowed: first, before, ..Self::new(size) }
    }

    /// What was measured, for another job of the same stages.
    pub fn pace(&self) -> Option<Pace> {
        self.per_element
    }

    /// Learns from a batch. `slots` is how many tasks the workers execute at once, as far as they have been heard of.
    pub fn observe(&mut self, batch: &Executed, slots: usize) {
        const WEIGHT: f64 = 0.25;
        let Executed { elements, output, execution, transit } = *batch;
        if elements == 0 {
            return;
        }
        let per_element = |of_all: f64| of_all / elements as f64;
        let measured = Pace {
            time: per_element(execution.as_secs_f64()),
            bytes: per_element(output as f64),
            transit: self.known().map_or(f64::INFINITY, |pace| pace.transit).min(transit.as_secs_f64()),
        };
        let before = self.per_element.unwrap_or(measured);
        // Of small batches a part is what an instance takes. A larger one knows better, by its elements.
        let weight = WEIGHT.max(1.0 - self.last as f64 / elements as f64);
        self.last = elements;
        let mean = |before: f64, measured: f64, weight: f64| before + weight * (measured - before);
        // The mean of so many elements differs less than they do.
        self.variance = mean(self.variance, elements as f64 * (measured.time - before.time).powi(2), WEIGHT);
        let (time, bytes) = (mean(before.time, measured.time, weight), mean(before.bytes, measured.bytes, weight));
        self.per_element = Some(Pace { time, bytes, ..measured });
        let most = MAX_ELEMENTS as f64;
        let in_time = if time > 0.0 { TARGET.as_secs_f64().max(2.0 * least_time(slots)) / time } else { most };
        let in_bytes = if bytes > 0.0 { MAX_OUTPUT as f64 / bytes } else { most };
        let wanted = in_time.min(in_bytes);
        let is_far = 8.0 * QUICK_GROWTH as f64 * elements as f64 <= wanted;
        let growth = if is_far { QUICK_GROWTH } else { 2 };
        let tried = within(measured.worth().min(FIRST.as_secs_f64()), measured.time).unwrap_or(1);
        let reachable = elements.saturating_mul(growth).max(tried);
        self.allowed = (wanted as usize).clamp(1, self.allowed.max(reachable).min(MAX_ELEMENTS));
    }

    /// How long it takes in the mean to execute so many elements. For ever while nothing is known.
    pub fn expected(&self, elements: usize) -> Duration {
        let seconds = self.per_element.map(|pace| pace.time * elements as f64);
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(Duration::MAX)
    }

    /// How many bytes the outputs of so many elements have in the mean. Zero while nothing is known.
    pub fn expected_output(&self, elements: usize) -> usize {
        // Too much for the type is as much as it takes.
        self.per_element.map_or(0, |pace| (pace.bytes * elements as f64) as usize)
    }

    /// What a batch takes to execute in the mean, if it is known and batches do not grow any more.
    pub fn settled(&self) -> Option<Duration> {
        let size = match self.size {
            BatchSize::Fixed(size) => size.get(),
            BatchSize::Measured => 1,
        };
        let expected = self.per_element.map(|_| self.expected(size))?;
        (self.size != BatchSize::Measured || expected >= TARGET).then_some(expected)
    }

    /// Elements in the next batch. `remaining` is what the source still has, where that is known; `slots` as above.
    pub fn next(&self, remaining: Option<u64>, slots: usize) -> usize {
        match self.size {
            BatchSize::Fixed(size) => size.get(),
            BatchSize::Measured => match remaining {
                Some(remaining) => {
                    let share = remaining as f64 / (self.factor(remaining, slots) * slots.max(1) as f64);
                    let least = |pace: Pace| within(pace.worth().max(least_time(slots)), pace.time);
                    whole(share).max(self.known().and_then(least).unwrap_or(1)).clamp(1, self.allowed)
                }
                None => self.allowed,
            },
        }
    }

    /// What is known by now, be it from another job.
    fn known(&self) -> Option<Pace> {
        self.per_element.or(self.before)
    }

    /// Of what remains, a batch for each slot takes one part in so many: two, and more if few elements that differ much remain.
    fn factor(&self, remaining: u64, slots: usize) -> f64 {
        let mean = self.per_element.map_or(0.0, |pace| pace.time);
        if mean <= 0.0 || remaining == 0 {
            return 2.0;
        }
        let spread = slots as f64 / (2.0 * (remaining as f64).sqrt()) * self.variance.sqrt() / mean;
        2.0 + spread * spread + spread * (spread * spread + 4.0).sqrt()
    }
}

/// As many as have room in so much, if each takes some of it.
fn within(most: f64, each: f64) -> Option<usize> {
    (each > 0.0).then(|| whole(most / each))
}

/// Rounded down, but for what dividing has lost.
fn whole(elements: f64) -> usize {
    (elements + 1e-6) as usize
}

/// Seconds that a batch has to take so that the broker can keep all slots busy.
fn least_time(slots: usize) -> f64 {
    PER_TASK.as_secs_f64() * slots as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That takes no time on its way.
    fn batch(elements: usize, output: usize, execution: Duration) -> Executed {
        Executed { elements, output, execution, transit: Duration::ZERO }
    }

    /// Batch sizes while every batch is executed at once at a constant time per element.
    fn sizes(per_element: Duration, batches: usize) -> Vec<usize> {
        let mut rule = BatchRule::new(BatchSize::Measured);
        (0..batches)
            .map(|_| {
                let size = rule.next(None, 4);
                rule.observe(&batch(size, 0, per_element * size as u32), 4);
                size
            })
            .collect()
    }

    #[test]
    fn batches_grow_until_they_take_the_target() {
        assert_eq!(sizes(Duration::from_micros(500), 8), [1, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(sizes(Duration::from_micros(1), 8), [1, 4, 16, 64, 256, 1024, 4096, 8192]);
    }

    #[test]
    fn an_operation_of_a_minute_travels_alone() {
        assert_eq!(sizes(Duration::from_secs(60), 4), [1; 4]);
    }

    #[test]
    fn an_operation_that_takes_no_time_is_bounded() {
        assert_eq!(sizes(Duration::ZERO, 40).last(), Some(&MAX_ELEMENTS));
    }

    #[test]
    fn one_slow_element_shrinks_the_batches_and_fast_ones_let_them_grow_again() {
        let mut rule = BatchRule::new(BatchSize::Measured);
        for _ in 0..20 {
            let size = rule.next(None, 1);
            rule.observe(&batch(size, 0, Duration::from_micros(1) * size as u32), 1);
        }
        let fast = rule.next(None, 1);
        rule.observe(&batch(1, 0, Duration::from_secs(10)), 1);
        assert_eq!(rule.next(None, 1), 1);
        for _ in 0..100 {
            let size = rule.next(None, 1);
            rule.observe(&batch(size, 0, Duration::from_micros(1) * size as u32), 1);
        }
        assert!(rule.next(None, 1) > fast / 2);
    }

    #[test]
    fn the_end_of_a_source_is_shared_among_the_slots() {
        let mut rule = BatchRule::new(BatchSize::Measured);
        for _ in 0..20 {
            let size = rule.next(None, 4);
            rule.observe(&batch(size, 0, Duration::from_micros(100) * size as u32), 4);
        }
        assert_eq!(rule.next(Some(800), 4), 100);
        // A tenth of a millisecond for each slot is what a broker needs to hand a batch to every one.
        assert_eq!(rule.next(Some(0), 4), 4);
    }

    #[test]
    fn elements_that_differ_are_shared_in_smaller_parts_when_few_are_left() {
        let sizes = |times: [u64; 2]| {
            let mut rule = BatchRule::new(BatchSize::Measured);
            for number in 0..100 {
                rule.observe(&batch(200, 0, Duration::from_millis(times[number % 2])), 8);
            }
            [100_000, 1_000].map(|remaining| rule.next(Some(remaining), 8))
        };
        let (same, differing) = (sizes([20, 20]), sizes([16, 24]));
        assert!(same[0] > 230 && differing[0] > 230, "{same:?} and {differing:?}");
        assert!(same[1] == 62 && differing[1] < 50, "{same:?} and {differing:?}");
    }

    #[test]
    fn what_was_measured_before_is_where_the_next_job_begins_and_no_more() {
        let pace = |each: Duration, bytes: usize| {
            let mut rule = BatchRule::new(BatchSize::Measured);
            rule.observe(&batch(10, 10 * bytes, each * 10), 2);
            rule.pace()
        };
        let first = |before| BatchRule::beginning_at(BatchSize::Measured, before).next(None, 2);
        assert_eq!(first(None), 1);
        assert_eq!(first(pace(Duration::from_micros(10), 8)), 150);
        assert_eq!(first(pace(Duration::from_secs(1), 8)), 1);
        assert_eq!(first(pace(Duration::ZERO, 0)), FIRST_ELEMENTS);
        assert_eq!(first(pace(Duration::ZERO, 100 << 10)), 5);
        // Another kind of inputs takes a thousand times as long: what is sent before that is known ends within seconds.
        let mut wrong = BatchRule::beginning_at(BatchSize::Measured, pace(Duration::from_micros(10), 8));
        wrong.observe(&batch(150, 0, Duration::from_millis(1500)), 2);
        assert_eq!(wrong.next(None, 2), 6);
        // And where it was right the next batches grow from there.
        let mut right = BatchRule::beginning_at(BatchSize::Measured, pace(Duration::from_micros(10), 8));
        right.observe(&batch(150, 0, Duration::from_micros(1500)), 2);
        assert_eq!(right.next(None, 2), 600);
    }

    #[test]
    fn many_slots_get_batches_that_a_broker_can_carry() {
        let sizes = |slots| {
            let mut rule = BatchRule::new(BatchSize::Measured);
            for _ in 0..20 {
                let size = rule.next(None, slots);
                rule.observe(&batch(size, 0, Duration::from_millis(1) * size as u32), slots);
            }
            (rule.next(None, slots), rule.next(Some(1), slots))
        };
        assert_eq!(sizes(2), (60, 1));
        assert_eq!(sizes(640), (128, 64));
        assert_eq!(sizes(64_000), (12_800, 6_400));
    }

    #[test]
    fn large_outputs_travel_in_small_batches() {
        let mut rule = BatchRule::new(BatchSize::Measured);
        for _ in 0..20 {
            let size = rule.next(None, 4);
            rule.observe(&batch(size, size * (1 << 20), Duration::from_micros(1) * size as u32), 4);
        }
        assert_eq!((rule.next(None, 4), rule.expected_output(8)), (8, 8 << 20));
    }

    #[test]
    fn a_batch_of_which_most_is_the_instance_says_little_of_its_elements() {
        // 50 µs for an instance, and 10 ns an element.
        let mut rule = BatchRule::new(BatchSize::Measured);
        for elements in [1, 4, 16, 64, 256, 1024] {
            rule.observe(&batch(elements, 0, Duration::from_nanos(50_000 + 10 * elements as u64)), 2);
        }
        assert!(rule.expected(1_000_000) < Duration::from_millis(500), "{:?}", rule.expected(1_000_000));
    }

    #[test]
    fn batches_are_worth_the_way() {
        let executed = |elements: usize, per_element, transit| Executed {
            transit: Duration::from_micros(transit),
            ..batch(elements, 0, per_element * elements as u32)
        };
        let each = Duration::from_micros(10);
        // What should take a fourth of the time that a batch is on its way is tried at once.
        let tried = |transit| {
            let mut rule = BatchRule::new(BatchSize::Measured);
            rule.observe(&executed(1, each, transit), 2);
            rule.next(None, 2)
        };
        assert_eq!([20, 4000, 200_000].map(tried), [4, 100, 150]);
        let mut rule = BatchRule::new(BatchSize::Measured);
        // And nothing gets smaller than that at the end, by the shortest way that was seen.
        for (count, transit) in [(200, 8000), (800, 6000), (3200, 9000), (6000, 9000)] {
            rule.observe(&executed(count, each, transit), 2);
        }
        assert_eq!([1000, 100, 1].map(|remaining| rule.next(Some(remaining), 2)), [250, 150, 150]);
        // The next job of these stages knows the way.
        let mut next = BatchRule::beginning_at(BatchSize::Measured, rule.pace());
        assert_eq!(next.next(Some(1), 2), 150, "before anything is measured, too");
        next.observe(&executed(150, each, 50_000), 2);
        assert_eq!(next.next(Some(1), 2), 150);
    }

    #[test]
    fn a_fixed_size_stays() {
        let mut rule = BatchRule::new(BatchSize::Fixed(NonZeroUsize::new(7).unwrap()));
        rule.observe(&batch(7, 0, Duration::from_secs(100)), 4);
        assert_eq!(rule.next(Some(3), 4), 7);
    }
}
