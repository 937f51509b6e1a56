//! Where the elements of a directive come from.

use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::Stream;
use palfrey_sdk::{CodecError, Serializable, Serializer};

use super::JobError;
use crate::task::PackedBuilder;

/// A value that can be an element of a directive: everything that serde can write and read, and [`Encoded`] bytes.
///
/// ```
/// use palfrey_host::directive::{Element, Encoded};
/// use palfrey_sdk::Serializer;
///
/// let mut buffer = Vec::new();
/// 300_u64.append(Serializer::Postcard, &mut buffer)?;
/// assert_eq!(u64::decode(Serializer::Postcard, buffer.clone().into())?, 300);
/// // Encoded bytes are taken as they are.
/// assert_eq!(Encoded::decode(Serializer::Postcard, buffer.into())?, Encoded::from(vec![0xac, 0x02]));
/// # Ok::<(), palfrey_sdk::CodecError>(())
/// ```
pub trait Element: Send + Sized {
    /// Appends the encoded value to a buffer.
    ///
    /// # Errors
    /// If the encoding cannot express it.
    fn append(&self, serializer: Serializer, buffer: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads an encoded value.
    ///
    /// # Errors
    /// If the bytes are not such a value.
    fn decode(serializer: Serializer, bytes: Bytes) -> Result<Self, CodecError>;

    /// Reads an encoded value that is a part of some bytes. It is [`decode`](Self::decode) of that part; a type that does not keep
    /// it need not share it.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    ///
    /// # Panics
    /// If the range is not within the bytes.
    fn decode_part(serializer: Serializer, bytes: &Bytes, part: Range<usize>) -> Result<Self, CodecError> {
        Self::decode(serializer, bytes.slice(part))
    }
}

impl<T: Serializable> Element for T {
    fn append(&self, serializer: Serializer, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        serializer.append(self, buffer)
    }

    fn decode(serializer: Serializer, bytes: Bytes) -> Result<Self, CodecError> {
        serializer.from_bytes(&bytes)
    }

    fn decode_part(serializer: Serializer, bytes: &Bytes, part: Range<usize>) -> Result<Self, CodecError> {
        serializer.from_bytes(&bytes[part])
    }
}

/// An element that is encoded already, for programs that do not have its Rust type. See
/// [`OperationHandle`](super::OperationHandle) for what can be mapped over it.
///
/// ```
/// use palfrey_host::directive::Encoded;
/// use palfrey_sdk::Serializer;
///
/// let element = Encoded::from(Serializer::Postcard.to_bytes(&300_u64)?);
/// assert_eq!(element.0[..], [0xac, 0x02]);
/// # Ok::<(), palfrey_sdk::CodecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Encoded(pub Bytes);

impl<B: Into<Bytes>> From<B> for Encoded {
    fn from(bytes: B) -> Self {
        Self(bytes.into())
    }
}

impl Element for Encoded {
    fn append(&self, _: Serializer, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        buffer.extend_from_slice(&self.0);
        Ok(())
    }

    fn decode(_: Serializer, bytes: Bytes) -> Result<Self, CodecError> {
        Ok(Self(bytes))
    }
}

/// Elements of some type, as a job sees them: it asks for them to be encoded into a batch.
pub(crate) trait Source: Send {
    /// Appends elements to the batch until it is full, which it is with so many elements or bytes. Those that are there stay in the
    /// batch while the next one is not. `None` is the end.
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        serializer: Serializer,
        batch: &mut PackedBuilder,
        full: Full,
    ) -> Poll<Option<Result<(), JobError>>>;

    /// How many elements are left, if that is known exactly.
    fn remaining(&self) -> Option<u64>;
}

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Full {
    pub(crate) elements: usize,
    pub(crate) bytes: usize,
}

struct Elements<S>(Pin<Box<S>>);

impl<T: Element, S: Stream<Item = anyhow::Result<T>> + Send> Source for Elements<S> {
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        serializer: Serializer,
        batch: &mut PackedBuilder,
        full: Full,
    ) -> Poll<Option<Result<(), JobError>>> {
        while batch.len() < full.elements && batch.byte_len() < full.bytes {
            let Some(element) = ready!(self.0.as_mut().poll_next(context)) else { return Poll::Ready(None) };
            let pushed = element.map_err(JobError::Source).and_then(|element| {
                batch
                    .push_with(|buffer| element.append(serializer, buffer))
                    .map_err(|source| JobError::Encode { what: "an element of the source".to_owned(), source })
            });
            if let Err(error) = pushed {
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(Some(Ok(())))
    }

    fn remaining(&self) -> Option<u64> {
        match self.0.size_hint() {
            (lower, Some(upper)) if lower == upper => Some(lower as u64),
            _ => None,
        }
    }
}

/// A stream as a source.
pub(crate) fn elements<'a, T: Element + 'a>(
    stream: impl Stream<Item = anyhow::Result<T>> + Send + 'a,
) -> Box<dyn Source + 'a> {
    Box::new(Elements(Box::pin(stream)))
}
