//! Partial results of a fold, and which of them to combine next.
//!
//! Every partial result stands for a contiguous range of the source. Only neighbours are combined, left before right, so
//! that a monoid that is not commutative comes out in order, whatever the order in which partial results arrive.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;

use crate::task::{Packed, PackedBuilder};

/// Partial results combined by one task, at the most. Larger means fewer levels and messages, smaller more parallelism.
const ARITY: usize = 32;

/// Bytes of partial results in one task, at the most. Two are always combined, however large they are.
const MAX_BYTES: usize = 8 << 20;

/// The partial results that are there.
#[derive(Debug, Default)]
pub(crate) struct FoldTree {
    /// Start of the range to its end and value. Ranges are disjoint.
    partials: BTreeMap<u64, (u64, Bytes)>,
}

impl FoldTree {
    /// Adds the combination of the source's elements in `range`, which is not empty and overlaps no other.
    pub(crate) fn insert(&mut self, range: Range<u64>, partial: Bytes) {
        debug_assert!(range.start < range.end);
        self.partials.insert(range.start, (range.end, partial));
    }

    /// Takes neighbours out that are worth combining: as many as a task should hold, or, once everything else is
    /// `complete`, as few as two. They come back as one partial result for the returned range.
    pub(crate) fn take_run(&mut self, complete: bool) -> Option<(Range<u64>, Packed)> {
        let range = self.find_run(if complete { 2 } else { ARITY })?;
        let mut batch = PackedBuilder::default();
        let mut start = range.start;
        while start < range.end {
            let (end, partial) = self.partials.remove(&start).expect("a run is made of partial results that are there");
            batch.push(&partial);
            start = end;
        }
        Some((range, batch.build()))
    }

    fn find_run(&self, at_least: usize) -> Option<Range<u64>> {
        let mut run = 0..0;
        let (mut count, mut bytes) = (0, 0);
        for (&start, (end, partial)) in &self.partials {
            let follows = count > 0 && run.end == start;
            let fits = count < 2 || (count < ARITY && bytes + partial.len() <= MAX_BYTES);
            if follows && fits {
                run.end = *end;
                count += 1;
                bytes += partial.len();
                continue;
            }
            if Self::is_worth_it(count, at_least, follows) {
                return Some(run);
            }
            run = start..*end;
            (count, bytes) = (1, partial.len());
        }
        Self::is_worth_it(count, at_least, false).then_some(run)
    }

    /// A run that was cut off because it is full is worth combining even if it is shorter than asked for.
    fn is_worth_it(count: usize, at_least: usize, full: bool) -> bool {
        count >= at_least || (full && count >= 2)
    }

    /// The result, once a single partial result is left and it stands for the whole source.
    pub(crate) fn result(&self, elements: u64) -> Option<&Bytes> {
        match self.partials.first_key_value() {
            Some((0, (end, value))) if *end == elements => Some(value),
            _ => None,
        }
    }

    /// Number of partial results.
    pub(crate) fn len(&self) -> usize {
        self.partials.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn concat(packed: &Packed) -> Bytes {
        packed.bytes().clone()
    }

    proptest! {
        /// Concatenation is not commutative, so any mistake in the order shows.
        #[test]
        fn any_partition_in_any_order_folds_to_the_native_result(
            parts in prop::collection::vec(1_usize..5, 1..200),
            order in any::<u64>(),
            early in any::<bool>(),
        ) {
            let text: String = (0..parts.iter().sum()).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
            let mut start = 0;
            let mut ranges: Vec<_> = parts.iter().map(|len| { let range = start..start + len; start += len; range }).collect();
            // A shuffle by a multiplicative hash of the position.
            ranges.sort_by_key(|range| (range.start as u64 + 1).wrapping_mul(order | 1).rotate_left(17));

            let mut tree = FoldTree::default();
            for range in ranges {
                tree.insert(range.start as u64..range.end as u64, Bytes::copy_from_slice(text[range].as_bytes()));
                while early && let Some((range, batch)) = tree.take_run(false) {
                    prop_assert!(batch.len() >= 2 && batch.len() <= ARITY);
                    tree.insert(range, concat(&batch));
                }
            }
            while let Some((range, batch)) = tree.take_run(true) {
                tree.insert(range, concat(&batch));
            }
            prop_assert_eq!(tree.len(), 1);
            prop_assert_eq!(tree.result(text.len() as u64), Some(&Bytes::from(text)));
        }
    }

    #[test]
    fn gaps_are_not_bridged() {
        let mut tree = FoldTree::default();
        tree.insert(0..1, Bytes::from_static(b"a"));
        tree.insert(2..3, Bytes::from_static(b"c"));
        assert!(tree.take_run(true).is_none());
        assert!(tree.result(3).is_none());
        tree.insert(1..2, Bytes::from_static(b"b"));
        assert_eq!(tree.take_run(true), Some((0..3, ["a", "b", "c"].into_iter().collect())));
    }

    #[test]
    fn large_partial_results_are_combined_in_pairs() {
        let mut tree = FoldTree::default();
        for start in 0..4 {
            tree.insert(start..start + 1, Bytes::from(vec![0; MAX_BYTES]));
        }
        assert_eq!(tree.take_run(false).map(|(range, batch)| (range, batch.len())), Some((0..2, 2)));
    }
}
