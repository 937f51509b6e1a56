//! Partial results of a fold, and which of them to combine next.
//!
//! Every partial result stands for a contiguous range of the source. Only neighbours are combined, left before right, so
//! that a monoid that is not commutative comes out in order, whatever the order in which partial results arrive.
//!
//! What combining costs is decoding what goes in and encoding what comes out. A partial result that is large beside its
//! neighbours is therefore left alone until these have grown: combining it with each of them in turn would encode it anew
//! every time. It is the rule of a binary counter, and of the levels of a log-structured merge tree (O'Neil, Cheng, Gawlick
//! and O'Neil, 1996).

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

/// Partial results combined by one task, at the most. Larger means fewer levels and messages, smaller more parallelism.
const ARITY: usize = 32;

/// Partial results combined by one task, at the least, where slots are idle. While all inputs have the size of the output,
/// combining `n` in groups of `k` takes as long as `(k + 1) · log n / log k`, which is least for four.
const IDLE_ARITY: usize = 4;

/// Bytes of partial results in one task, at the most. Two are always combined, however large they are.
const MAX_BYTES: usize = 32 << 20;

/// Below this many bytes in all, the number of messages matters and not what is in them.
const SMALL: usize = 1 << 20;

/// How far a fold is.
///
/// ```
/// use palfrey_schedule::{FoldTree, Phase};
///
/// let mut tree = FoldTree::default();
/// (0..4).for_each(|index| tree.insert(index..index + 1, index, 1 << 20));
/// assert_eq!(tree.take_run(Phase::Busy), None, "there may be more of them soon");
/// assert_eq!(tree.take_run(Phase::Idle), Some((0..4, vec![0, 1, 2, 3])));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// All slots have something to do: only what costs least is worth it.
    Busy,
    /// Slots are idle, and some partial results are still to come. Where all of them are small they are waited for: combining what
    /// is there would cost a way there and back more than it saves.
    Idle,
    /// All partial results are there. What is returned is for so many slots.
    Complete {
        /// Tasks that the workers execute at once.
        slots: usize,
    },
}

/// The partial results that are there.
///
/// ```
/// use palfrey_schedule::{FoldTree, Phase};
///
/// let mut tree = FoldTree::default();
/// tree.insert(3..5, "ladin", 5);
/// tree.insert(0..3, "Pa", 2);
/// assert_eq!(tree.take_run(Phase::Busy), None);
/// assert_eq!(tree.take_run(Phase::Complete { slots: 1 }), Some((0..5, vec!["Pa", "ladin"])));
/// ```
#[derive(Debug)]
pub struct FoldTree<P> {
    /// By the start of the range. Ranges are disjoint.
    partials: BTreeMap<u64, Partial<P>>,
    /// Starts of partial results whose neighbourhood has not been looked at in this phase.
    unseen: Vec<u64>,
    phase: Phase,
    /// Runs that are to be returned next, once everything is there.
    planned: VecDeque<Range<u64>>,
    /// Of all partial results.
    bytes: usize,
}

#[derive(Debug)]
struct Partial<P> {
    end: u64,
    bytes: usize,
    value: P,
}

impl<P> Default for FoldTree<P> {
    fn default() -> Self {
        Self { partials: BTreeMap::new(), unseen: Vec::new(), phase: Phase::Busy, planned: VecDeque::new(), bytes: 0 }
    }
}

impl<P> FoldTree<P> {
    /// Adds the combination of the source's elements in `range`, which is not empty and overlaps no other. It has so many
    /// bytes.
    pub fn insert(&mut self, range: Range<u64>, value: P, bytes: usize) {
        debug_assert!(range.start < range.end);
        self.partials.insert(range.start, Partial { end: range.end, bytes, value });
        self.bytes += bytes;
        self.unseen.push(range.start);
    }

    /// Takes neighbours out that are worth combining in this phase, from left to right. They come back as one partial
    /// result for the returned range. To be called until nothing comes out.
    pub fn take_run(&mut self, phase: Phase) -> Option<(Range<u64>, Vec<P>)> {
        let range = match phase {
            Phase::Busy => self.find_run(phase, ARITY)?,
            Phase::Idle => self.find_run(phase, if self.bytes <= SMALL { ARITY } else { IDLE_ARITY })?,
            Phase::Complete { slots } => {
                if self.planned.is_empty() {
                    self.planned = self.plan(slots);
                }
                self.planned.pop_front()?
            }
        };
        let mut run = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let partial = self.partials.remove(&start).expect("a run is made of partial results that are there");
            run.push(partial.value);
            self.bytes -= partial.bytes;
            start = partial.end;
        }
        Some((range, run))
    }

    /// Looks around what is new. In a phase of its own everything is.
    fn find_run(&mut self, phase: Phase, at_least: usize) -> Option<Range<u64>> {
        if self.phase != phase {
            self.phase = phase;
            self.unseen = self.partials.keys().copied().collect();
        }
        while let Some(start) = self.unseen.pop() {
            if !self.partials.contains_key(&start) {
                continue;
            }
            if let Some(range) = self.run_around(start, at_least) {
                // What is beside it may be worth combining as well.
                self.unseen.push(start);
                let before = self.partials.range(..range.start).next_back().map(|(&before, _)| before);
                self.unseen.extend(before.into_iter().chain([range.end]));
                return Some(range);
            }
        }
        None
    }

    /// A run among the neighbours of the partial result at `start`.
    fn run_around(&self, start: u64, at_least: usize) -> Option<Range<u64>> {
        let mut first = start;
        for (&before, partial) in self.partials.range(..start).rev().take(ARITY - 1) {
            if partial.end != first {
                break;
            }
            first = before;
        }
        let stretch = self.stretch(first, 2 * ARITY - 1);
        let run = (0..stretch.len()).find_map(|start| worthwhile(&stretch[start..], at_least))?;
        Some(run.start..run.end)
    }

    /// Neighbours from `first` on.
    fn stretch(&self, first: u64, at_most: usize) -> Vec<Neighbour> {
        let mut end = first;
        let neighbours = self.partials.range(first..).map_while(|(&start, partial)| {
            (start == end).then(|| {
                end = partial.end;
                Neighbour { start, end, bytes: partial.bytes }
            })
        });
        neighbours.take(at_most).collect()
    }

    /// Cuts everything into runs of about the same number of bytes.
    fn plan(&self, slots: usize) -> VecDeque<Range<u64>> {
        let mut runs = VecDeque::new();
        let mut next = self.partials.first_key_value().map(|(&start, _)| start);
        while let Some(first) = next {
            let stretch = self.stretch(first, usize::MAX);
            let end = stretch.last().map_or(first, |last| last.end);
            runs.extend(cut(&stretch, slots));
            next = self.partials.range(end..).next().map(|(&start, _)| start);
        }
        runs
    }

    /// The result, once a single partial result is left and it stands for the whole source.
    pub fn result(&self, elements: u64) -> Option<&P> {
        match self.partials.first_key_value() {
            Some((0, partial)) if partial.end == elements => Some(&partial.value),
            _ => None,
        }
    }

    /// Number of partial results.
    pub fn len(&self) -> usize {
        self.partials.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.partials.is_empty()
    }
}

/// A partial result as its neighbours see it.
#[derive(Debug, Clone, Copy)]
struct Neighbour {
    start: u64,
    end: u64,
    bytes: usize,
}

/// The longest run at the beginning of a stretch, if it is worth combining.
fn worthwhile(stretch: &[Neighbour], at_least: usize) -> Option<Range<u64>> {
    let (mut bytes, mut largest) = (0, 0);
    let fits = |count, bytes: usize, next: usize| count < 2 || (count < ARITY && bytes + next <= MAX_BYTES);
    let run = stretch.iter().enumerate().take_while(|(count, next)| {
        let fits = fits(*count, bytes, next.bytes);
        if fits {
            bytes += next.bytes;
            largest = largest.max(next.bytes);
        }
        fits
    });
    let count = run.count();
    let full = count >= 2 && stretch.get(count).is_some_and(|next| bytes + next.bytes > MAX_BYTES);
    // What is encoded anew is then a part of something several times as large, so that this happens seldom to each byte. A
    // run that is full does not get any better.
    let balanced = if full { 3 * largest <= 2 * bytes } else { 4 * largest <= bytes };
    let run = stretch.first()?.start..stretch[..count].last()?.end;
    ((full || count >= at_least) && balanced).then_some(run)
}

/// Cuts a stretch into runs for so many slots. What is as large as a run should be stays alone.
fn cut(stretch: &[Neighbour], slots: usize) -> Vec<Range<u64>> {
    let all: usize = stretch.iter().map(|next| next.bytes).sum();
    let arity = if all <= SMALL { ARITY } else { stretch.len().div_ceil(slots.max(1)).clamp(IDLE_ARITY, ARITY) };
    let share = all.div_ceil(stretch.len().div_ceil(arity).max(1));
    let mut runs = Vec::new();
    let mut rest = stretch;
    let mut alone = false;
    while !rest.is_empty() {
        let (mut count, mut bytes) = (0, 0);
        for next in rest {
            let full = count >= ARITY || bytes + next.bytes > MAX_BYTES;
            // Two that stay alone side by side would never be combined.
            if (count >= 2 && (full || bytes >= share)) || (count == 1 && !alone && bytes >= share) {
                break;
            }
            count += 1;
            bytes += next.bytes;
        }
        let (run, others) = rest.split_at(count);
        alone = count == 1;
        if let ([first, _, ..], Some(last)) = (run, run.last()) {
            runs.push(first.start..last.end);
        }
        rest = others;
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Concatenation is not commutative, so any mistake in the order shows.
        #[test]
        fn any_partition_in_any_order_folds_to_the_native_result(
            parts in prop::collection::vec(1_usize..5, 1..200),
            order in any::<u64>(),
            early in any::<bool>(),
            // So that the bounds on bytes are met as well.
            bytes_each in prop_oneof![Just(1_usize), Just(10_000), Just(1 << 20), Just(5 << 20), Just(50 << 20)],
            slots in 0_usize..100,
        ) {
            let text: String = (0..parts.iter().sum()).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
            let mut start = 0;
            let mut ranges: Vec<_> = parts.iter().map(|len| { let range = start..start + len; start += len; range }).collect();
            // A shuffle by a multiplicative hash of the position.
            ranges.sort_by_key(|range| (range.start as u64 + 1).wrapping_mul(order | 1).rotate_left(17));

            let mut tree = FoldTree::default();
            let half = ranges.len() / 2;
            for (position, range) in ranges.into_iter().enumerate() {
                tree.insert(range.start as u64..range.end as u64, text[range.clone()].to_owned(), range.len() * bytes_each);
                let phase = if position < half { Phase::Busy } else { Phase::Idle };
                while early && let Some((range, batch)) = tree.take_run(phase) {
                    prop_assert!(batch.len() >= 2 && batch.len() <= ARITY);
                    let bytes = (range.end - range.start) as usize * bytes_each;
                    tree.insert(range, batch.concat(), bytes);
                }
            }
            let mut levels = 0;
            while tree.len() > 1 {
                let runs: Vec<_> = std::iter::from_fn(|| tree.take_run(Phase::Complete { slots })).collect();
                prop_assert!(!runs.is_empty(), "{} partial results are left", tree.len());
                for (range, batch) in runs {
                    let bytes = (range.end - range.start) as usize * bytes_each;
                    tree.insert(range, batch.concat(), bytes);
                }
                levels += 1;
            }
            prop_assert!(levels <= 10);
            prop_assert_eq!(tree.result(text.len() as u64), Some(&text));
        }
    }

    #[test]
    fn gaps_are_not_bridged() {
        let complete = Phase::Complete { slots: 1 };
        let mut tree = FoldTree::default();
        tree.insert(0..1, "a", 1);
        tree.insert(2..3, "c", 1);
        assert!(tree.take_run(complete).is_none());
        assert!(tree.result(3).is_none());
        tree.insert(1..2, "b", 1);
        assert_eq!(tree.take_run(complete), Some((0..3, vec!["a", "b", "c"])));
    }

    #[test]
    fn large_partial_results_are_combined_in_pairs() {
        let mut tree = FoldTree::default();
        for start in 0..4 {
            tree.insert(start..start + 1, (), MAX_BYTES);
        }
        assert_eq!(
            tree.take_run(Phase::Busy).map(|(range, batch)| (range.end - range.start, batch.len())),
            Some((2, 2))
        );
    }

    #[test]
    fn a_large_partial_result_waits_until_its_neighbours_have_grown() {
        let mut tree = FoldTree::default();
        tree.insert(0..1000, (), 10 << 20);
        for start in 1000..1031 {
            tree.insert(start..start + 1, (), 100 << 10);
        }
        assert_eq!(tree.take_run(Phase::Busy), None);
        tree.insert(1031..1032, (), 100 << 10);
        assert_eq!(tree.take_run(Phase::Busy).map(|(range, _)| range), Some(1000..1032));
    }

    #[test]
    fn idle_slots_share_what_is_left() {
        let runs = |slots| {
            let mut tree = FoldTree::default();
            for start in 0..32 {
                tree.insert(start..start + 1, (), 1 << 20);
            }
            std::iter::from_fn(|| tree.take_run(Phase::Complete { slots }))
                .map(|(_, run)| run.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(runs(1), [32]);
        assert_eq!(runs(2), [16, 16]);
        assert_eq!(runs(100), [4; 8]);
    }

    /// Bytes decoded and encoded by all combining, for each byte of the leaves that were combined. A partial result for `n`
    /// leaves has `n^growth` times the bytes of one. `behind` tasks are always under way.
    fn cost(leaves: u64, leaf_bytes: f64, growth: f64, behind: usize) -> f64 {
        let size = |range: &Range<u64>| (leaf_bytes * ((range.end - range.start) as f64).powf(growth)) as usize;
        let mut tree = FoldTree::default();
        let mut under_way: VecDeque<Range<u64>> = VecDeque::new();
        let (mut moved, mut next) = (0, 0);
        loop {
            let finished = if under_way.len() > behind || next == leaves { under_way.pop_front() } else { None };
            let phase = match finished {
                Some(range) => {
                    let bytes = size(&range);
                    tree.insert(range, bytes, bytes);
                    if next < leaves { Phase::Busy } else { Phase::Idle }
                }
                None if next < leaves => {
                    under_way.push_back(next..next + 1);
                    next += 1;
                    continue;
                }
                None if tree.len() == 1 => return moved as f64 / (leaves as f64 * leaf_bytes),
                None => Phase::Complete { slots: behind },
            };
            let mut phase = phase;
            loop {
                while let Some((range, run)) = tree.take_run(phase) {
                    moved += run.iter().sum::<usize>() + size(&range);
                    under_way.push_back(range);
                }
                if under_way.is_empty() && next == leaves && tree.len() > 1 && !matches!(phase, Phase::Complete { .. })
                {
                    phase = Phase::Complete { slots: behind };
                } else {
                    break;
                }
            }
        }
    }

    #[test]
    fn combining_moves_each_byte_a_few_times_however_many_there_are() {
        for (growth, bound) in [(0.0, 2.0), (0.5, 3.0), (0.7, 4.0), (0.9, 8.0), (1.0, 15.0)] {
            for leaves in [100, 1000, 3000] {
                for behind in [4, 200] {
                    let cost = cost(leaves, 100e3, growth, behind);
                    assert!(cost <= bound, "{cost} for {leaves} leaves that grow with {growth}, {behind} under way");
                }
            }
        }
    }
}
