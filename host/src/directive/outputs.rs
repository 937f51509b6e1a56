//! Outputs on their way from a job to its reader.

use palfrey_sdk::{CodecError, Serializer};

use super::Element;
use crate::task::Packed;

/// Outputs of consecutive elements of the source.
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

    /// Reads the next one. It comes with its index.
    pub(crate) fn next<T: Element>(&mut self, serializer: Serializer) -> Option<(u64, Result<T, CodecError>)> {
        let part = self.packed.range(self.taken)?;
        let index = self.first + self.taken as u64;
        self.taken += 1;
        Some((index, T::decode_part(serializer, self.packed.bytes(), part)))
    }
}
