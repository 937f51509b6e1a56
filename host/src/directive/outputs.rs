//! Outputs on their way from a job to its reader.

use bytes::Bytes;

use crate::task::Packed;

/// Outputs of consecutive elements of the source, with their indices.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// Index of the first one.
    first: u64,
    packed: Packed,
    taken: usize,
}

impl Outputs {
    pub(crate) fn new(first: u64, packed: Packed) -> Self {
        Self { first, packed, taken: 0 }
    }
}

impl Iterator for Outputs {
    type Item = (u64, Bytes);

    fn next(&mut self) -> Option<(u64, Bytes)> {
        let output = self.packed.get(self.taken)?;
        let index = self.first + self.taken as u64;
        self.taken += 1;
        Some((index, output))
    }
}
