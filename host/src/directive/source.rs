//! Where the elements of a directive come from.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
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
}

impl<T: Serializable> Element for T {
    fn append(&self, serializer: Serializer, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        serializer.append(self, buffer)
    }

    fn decode(serializer: Serializer, bytes: Bytes) -> Result<Self, CodecError> {
        serializer.from_bytes(&bytes)
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

/// Elements of some type, as a job sees them: it asks for the next one to be encoded into a batch.
pub(crate) trait Source: Send {
    /// Appends the next element to the batch. `None` is the end.
    fn poll_next_into(
        &mut self,
        context: &mut Context<'_>,
        serializer: Serializer,
        batch: &mut PackedBuilder,
    ) -> Poll<Option<Result<(), JobError>>>;

    /// How many elements are left, if that is known exactly.
    fn remaining(&self) -> Option<u64>;
}

struct Elements<'a, T>(BoxStream<'a, anyhow::Result<T>>);

impl<T: Element> Source for Elements<'_, T> {
    fn poll_next_into(
        &mut self,
        context: &mut Context<'_>,
        serializer: Serializer,
        batch: &mut PackedBuilder,
    ) -> Poll<Option<Result<(), JobError>>> {
        self.0.poll_next_unpin(context).map(|next| {
            next.map(|element| {
                let element = element.map_err(JobError::Source)?;
                batch
                    .push_with(|buffer| element.append(serializer, buffer))
                    .map_err(|source| JobError::Encode { what: "an element of the source".to_owned(), source })
            })
        })
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
    Box::new(Elements(stream.boxed()))
}
