//! A list of encoded elements in one buffer.

use std::ops::Range;

use bytes::Bytes;

/// Encoded elements packed into one buffer with their end offsets: the variable-size binary layout of
/// [Apache Arrow](https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-layout) without its leading zero.
///
/// Cloning and slicing share the bytes.
///
/// ```
/// use palfrey_host::task::Packed;
///
/// let packed: Packed = ["a", "", "bc"].into_iter().collect();
/// assert_eq!(packed.len(), 3);
/// assert_eq!(&packed.get(2).unwrap()[..], b"bc");
/// assert_eq!(packed.slice(1..3), ["", "bc"].into_iter().collect());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    bytes: Bytes,
    ends: Vec<u32>,
}

/// Offsets that do not describe the buffer they came with.
///
/// ```
/// use palfrey_host::task::{Packed, PackedError};
///
/// assert_eq!(Packed::new("abc".into(), vec![1, 2]), Err(PackedError::Length { end: 2, length: 3 }));
/// let error = Packed::new("abc".into(), vec![2, 1, 3]).unwrap_err();
/// assert_eq!(error.to_string(), "offset 1 is 1, less than the 2 before it");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackedError {
    /// An offset is smaller than the one before it.
    #[error("offset {index} is {end}, less than the {before} before it")]
    Decreasing {
        /// Position of the offset.
        index: usize,
        /// The offset.
        end: u32,
        /// The offset before it.
        before: u32,
    },
    /// The last offset is not the length of the buffer.
    #[error("the last offset is {end}, and the buffer has {length} bytes")]
    Length {
        /// The last offset, or zero where there is none.
        end: u32,
        /// The length of the buffer.
        length: usize,
    },
}

impl Packed {
    /// Checks that the offsets describe the buffer.
    ///
    /// # Errors
    /// If they decrease, or the last one (zero without any) is not the length of `bytes`.
    pub fn new(bytes: Bytes, ends: Vec<u32>) -> Result<Self, PackedError> {
        let mut before = 0;
        for (index, &end) in ends.iter().enumerate() {
            if end < before {
                return Err(PackedError::Decreasing { index, end, before });
            }
            before = end;
        }
        if before as usize != bytes.len() {
            return Err(PackedError::Length { end: before, length: bytes.len() });
        }
        Ok(Self { bytes, ends })
    }

    /// One element.
    ///
    /// # Panics
    /// If it is larger than 4 GiB, the most that an offset can say.
    pub fn single(element: Bytes) -> Self {
        let end = u32::try_from(element.len()).expect("an element is smaller than 4 GiB");
        Self { bytes: element, ends: vec![end] }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The elements' bytes, one after the other.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// For each element, the offset just behind its last byte.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The element at an index, sharing this buffer.
    pub fn get(&self, index: usize) -> Option<Bytes> {
        self.range(index).map(|range| self.bytes.slice(range))
    }

    /// Where the element at an index is in the [bytes](Self::bytes).
    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(index)? as usize;
        Some(self.start(index)..end)
    }

    /// The elements in order, sharing this buffer.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Bytes> + '_ {
        (0..self.len()).map(|index| self.bytes.slice(self.start(index)..self.ends[index] as usize))
    }

    /// The elements of a range, sharing this buffer.
    ///
    /// # Panics
    /// If the range is not within `0..len()`.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let ends = &self.ends[range.clone()];
        let start = self.start(range.start);
        let end = ends.last().map_or(start, |&end| end as usize);
        Self { bytes: self.bytes.slice(start..end), ends: ends.iter().map(|&end| end - start as u32).collect() }
    }

    /// The elements but one, copied.
    ///
    /// # Panics
    /// If there is no element at the index.
    pub fn without(&self, index: usize) -> Self {
        let mut rest = PackedBuilder::default();
        rest.extend(&self.slice(0..index));
        rest.extend(&self.slice(index + 1..self.len()));
        rest.build()
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Packed {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut builder = PackedBuilder::default();
        for element in elements {
            builder.push(element.as_ref());
        }
        builder.build()
    }
}

/// Packs elements as they come.
///
/// ```
/// use palfrey_host::task::PackedBuilder;
///
/// let mut builder = PackedBuilder::default();
/// builder.push(b"one");
/// builder.push_with(|buffer| std::io::Write::write_all(buffer, b"two"))?;
/// assert_eq!(builder.byte_len(), 6);
/// assert_eq!(builder.build(), ["one", "two"].into_iter().collect());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct PackedBuilder {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl PackedBuilder {
    /// Appends an element.
    ///
    /// # Panics
    /// If the elements together exceed 4 GiB, the most that an offset can say. Limits on messages are far below that.
    pub fn push(&mut self, element: &[u8]) {
        self.bytes.extend_from_slice(element);
        self.end_element();
    }

    /// Appends the element that `write` puts behind what is there, without a copy in between. If it fails nothing is
    /// appended.
    ///
    /// # Errors
    /// Those of `write`.
    ///
    /// # Panics
    /// As [`push`](Self::push).
    pub fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let before = self.bytes.len();
        match write(&mut self.bytes) {
            Ok(()) => self.end_element(),
            Err(error) => {
                self.bytes.truncate(before);
                return Err(error);
            }
        }
        Ok(())
    }

    fn end_element(&mut self) {
        self.ends.push(u32::try_from(self.bytes.len()).expect("a batch is smaller than 4 GiB"));
    }

    /// Appends all elements of a packed list.
    pub fn extend(&mut self, packed: &Packed) {
        for element in packed.iter() {
            self.push(&element);
        }
    }

    /// Number of elements so far.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of the elements so far.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The packed list. The builder is empty afterwards and can be used again.
    pub fn build(&mut self) -> Packed {
        Packed { bytes: std::mem::take(&mut self.bytes).into(), ends: std::mem::take(&mut self.ends) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_lie_are_refused() {
        let bytes = Bytes::from_static(b"abc");
        assert_eq!(
            Packed::new(bytes.clone(), vec![2, 1, 3]),
            Err(PackedError::Decreasing { index: 1, end: 1, before: 2 })
        );
        assert_eq!(Packed::new(bytes.clone(), vec![2]), Err(PackedError::Length { end: 2, length: 3 }));
        assert_eq!(Packed::new(bytes.clone(), vec![4]), Err(PackedError::Length { end: 4, length: 3 }));
        assert_eq!(Packed::new(bytes, vec![]), Err(PackedError::Length { end: 0, length: 3 }));
        assert_eq!(Packed::new(Bytes::new(), vec![]), Ok(Packed::default()));
    }

    #[test]
    fn a_slice_of_a_slice_is_the_inner_range() {
        let packed: Packed = ["aa", "b", "", "cccc", "d"].into_iter().collect();
        let inner = packed.slice(1..5).slice(1..3);
        assert_eq!(inner, ["", "cccc"].into_iter().collect());
        assert!(packed.slice(2..2).is_empty());
    }
}
