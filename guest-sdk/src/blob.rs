//! Bytes that travel as bytes.

use std::{fmt, ops::Deref};

use postcard_schema::{
    Schema,
    schema::{DataModelType, NamedType},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

/// Bytes that are encoded and decoded in one piece.
///
/// A `Vec<u8>` works too, but serde takes it for a sequence and handles one byte at a time. In Postcard both have the same
/// bytes. In CBOR this is a byte string and that an array of numbers.
///
/// ```
/// use palfrey_sdk::{Blob, Serializer};
///
/// let picture = Blob::from(vec![0, 127, 255]);
/// assert_eq!(picture.len(), 3);
/// assert_eq!(&Serializer::Cbor.to_bytes(&picture)?[..], [0x43, 0, 127, 255]);
/// # Ok::<(), palfrey_sdk::CodecError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blob(pub Vec<u8>);

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Blob> for Vec<u8> {
    fn from(blob: Blob) -> Self {
        blob.0
    }
}

/// Says how many bytes there are, not which.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Schema for Blob {
    const SCHEMA: &'static NamedType = &NamedType { name: "Blob", ty: &DataModelType::ByteArray };
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(Bytes).map(Self)
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    /// Programs in other languages may send an array of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = elements.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Serializer as Encoding;

    #[test]
    fn bytes_survive_every_encoding() {
        let blob = Blob((0..=255).collect());
        for encoding in Encoding::ALL {
            let bytes = encoding.to_bytes(&blob).unwrap();
            assert_eq!(encoding.from_bytes::<Blob>(&bytes).unwrap(), blob);
        }
    }

    #[test]
    fn a_sequence_of_numbers_is_a_blob_as_well() {
        let numbers = vec![1_u8, 200, 3];
        for encoding in Encoding::ALL {
            let bytes = encoding.to_bytes(&numbers).unwrap();
            assert_eq!(encoding.from_bytes::<Blob>(&bytes).unwrap(), Blob(numbers.clone()));
        }
    }
}
