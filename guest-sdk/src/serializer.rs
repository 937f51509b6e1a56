//! Encodings of configs, inputs and outputs.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A value that can travel: everything that serde can write and read back. It is implemented by itself.
///
/// ```
/// use palfrey_sdk::Serializable;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Line {
///     number: u64,
///     text: String,
/// }
///
/// fn travels<T: Serializable>() {}
/// travels::<Line>();
/// travels::<Vec<(Line, Option<f64>)>>();
/// ```
pub trait Serializable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Serializable for T {}

/// The encodings.
///
/// ```
/// use palfrey_sdk::Serializer;
///
/// for serializer in [Serializer::Postcard, Serializer::Cbor] {
///     let bytes = serializer.to_bytes(&(7_u64, "seven"))?;
///     assert_eq!(serializer.from_bytes::<(u64, String)>(&bytes)?, (7, "seven".to_owned()));
/// }
/// # Ok::<(), palfrey_sdk::CodecError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Serializer {
    /// [Postcard](https://postcard.jamesmunns.com/wire-format): small and fast, not self-describing.
    #[default]
    Postcard,
    /// CBOR, [RFC 8949](https://www.rfc-editor.org/rfc/rfc8949): self-describing, read by most languages.
    Cbor,
}

impl Serializer {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::Postcard, Self::Cbor];

    /// The name that the contract uses: `postcard`, `cbor`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postcard => "postcard",
            Self::Cbor => "cbor",
        }
    }

    /// Encodes a value.
    ///
    /// # Errors
    /// If the value cannot be expressed in the encoding, such as a sequence of unknown length in Postcard.
    pub fn to_bytes<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, CodecError> {
        let mut buffer = Vec::new();
        self.append(value, &mut buffer)?;
        Ok(buffer.into())
    }

    /// Encodes a value behind what is in the buffer already.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes). The buffer is then as it was.
    pub fn append<T: Serialize + ?Sized>(self, value: &T, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        let length = buffer.len();
        let result = match self {
            Self::Postcard => postcard::serialize_with_flavor(value, Append(buffer)).map_err(CodecError::new),
            Self::Cbor => ciborium::into_writer(value, &mut *buffer).map_err(CodecError::new),
        };
        if result.is_err() {
            buffer.truncate(length);
        }
        result
    }

    /// Decodes a value that fills the bytes.
    ///
    /// # Errors
    /// If they are not a value of that type, or bytes are left over.
    pub fn from_bytes<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        let (result, position) = match self {
            Self::Postcard => {
                let mut decoder = postcard::Deserializer::from_bytes(bytes);
                let result = T::deserialize(&mut decoder).map_err(|error| (error.to_string(), None));
                let left = decoder.finalize().map_or(0, <[u8]>::len);
                (result, bytes.len() - left)
            }
            Self::Cbor => {
                let mut rest = bytes;
                let result = ciborium::from_reader(&mut rest).map_err(describe_cbor);
                (result, bytes.len() - rest.len())
            }
        };
        let at = |position: usize| u32::try_from(position).ok();
        match result {
            Err((message, exact)) => Err(CodecError { message: cut(message), position: at(exact.unwrap_or(position)) }),
            Ok(_) if position < bytes.len() => Err(CodecError {
                message: format!("{} bytes are left over behind the value", bytes.len() - position),
                position: at(position),
            }),
            Ok(value) => Ok(value),
        }
    }
}

/// A message may repeat what is wrong with the bytes, however long that is.
fn cut(mut message: String) -> String {
    const LONGEST: usize = 200;
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
        message.push('…');
    }
    message
}

fn describe_cbor<E: fmt::Debug>(error: ciborium::de::Error<E>) -> (String, Option<usize>) {
    use ciborium::de::Error;
    match error {
        Error::Io(_) => ("the bytes end before the value does".to_owned(), None),
        Error::Syntax(position) => ("malformed CBOR".to_owned(), Some(position)),
        Error::Semantic(position, message) => (message, position),
        Error::RecursionLimitExceeded => ("the value is nested too deeply".to_owned(), None),
    }
}

/// Where Postcard writes to. Its own flavors take the buffer away, and with it what was there when encoding fails.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Serializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Serializer {
    type Err = UnknownSerializer;

    fn from_str(name: &str) -> Result<Self, UnknownSerializer> {
        match name {
            "postcard" => Ok(Self::Postcard),
            "cbor" => Ok(Self::Cbor),
            _ => Err(UnknownSerializer(name.to_owned())),
        }
    }
}

/// A name that is no encoding.
///
/// ```
/// use palfrey_sdk::{Serializer, UnknownSerializer};
///
/// let error: UnknownSerializer = "json".parse::<Serializer>().unwrap_err();
/// assert_eq!(error.to_string(), "`json` is not an encoding: use `postcard` or `cbor`");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an encoding: use `postcard` or `cbor`")]
pub struct UnknownSerializer(String);

/// Bytes that are not a value of the expected type, or a value that the encoding cannot express.
///
/// ```
/// use palfrey_sdk::Serializer;
///
/// let error = Serializer::Postcard.from_bytes::<u8>(&[7, 8, 9]).unwrap_err();
/// assert_eq!(error.position(), Some(1));
/// assert_eq!(error.to_string(), "2 bytes are left over behind the value");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CodecError {
    message: String,
    position: Option<u32>,
}

impl CodecError {
    fn new(error: impl fmt::Display) -> Self {
        Self { message: error.to_string(), position: None }
    }

    /// Byte offset up to which decoding came before it failed. `None` for a value that could not be encoded.
    pub fn position(&self) -> Option<u32> {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Nothing,
        Number(i64),
        Pair(u8, char),
        Named { text: String, counts: BTreeMap<String, u64>, maybe: Option<Vec<f64>> },
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let counts = prop::collection::btree_map(any::<String>(), any::<u64>(), 0..5);
        let numbers = prop::option::of(prop::collection::vec(-1e300..1e300, 0..5));
        prop_oneof![
            Just(Shape::Nothing),
            any::<i64>().prop_map(Shape::Number),
            any::<(u8, char)>().prop_map(|(number, letter)| Shape::Pair(number, letter)),
            (any::<String>(), counts, numbers).prop_map(|(text, counts, maybe)| Shape::Named { text, counts, maybe }),
        ]
    }

    fn serializers() -> impl Strategy<Value = Serializer> {
        prop::sample::select(&Serializer::ALL[..])
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes(value in shapes(), serializer in serializers()) {
            let bytes = serializer.to_bytes(&value).unwrap();
            prop_assert_eq!(serializer.from_bytes::<Shape>(&bytes).unwrap(), value);
        }

        #[test]
        fn a_cut_value_is_refused_within_its_bytes(value in shapes(), serializer in serializers(), cut: prop::sample::Index) {
            let bytes = serializer.to_bytes(&value).unwrap();
            let length = cut.index(bytes.len());
            let error = serializer.from_bytes::<Shape>(&bytes[..length]).unwrap_err();
            prop_assert!(error.position().unwrap() as usize <= length, "{error:?}");
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, serializer in serializers()) {
            let _ = serializer.from_bytes::<Shape>(&bytes);
        }
    }

    #[test]
    fn bytes_behind_a_value_are_refused_with_their_position() {
        for serializer in Serializer::ALL {
            let mut bytes = serializer.to_bytes("word").unwrap().to_vec();
            bytes.extend([1, 2]);
            let error = serializer.from_bytes::<String>(&bytes).unwrap_err();
            assert_eq!(error.to_string(), "2 bytes are left over behind the value");
            assert_eq!(error.position(), Some(5));
        }
    }

    #[test]
    fn a_failed_append_leaves_the_buffer_as_it_was() {
        struct Half;
        impl Serialize for Half {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::{Error, SerializeTuple};
                let mut tuple = serializer.serialize_tuple(2)?;
                tuple.serialize_element(&7)?;
                Err(S::Error::custom("half is not enough"))
            }
        }
        for serializer in Serializer::ALL {
            let mut buffer = b"before".to_vec();
            assert!(serializer.append(&Half, &mut buffer).is_err());
            assert_eq!(buffer, b"before");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_exist() {
        let error = "json".parse::<Serializer>().unwrap_err();
        assert_eq!(error.to_string(), "`json` is not an encoding: use `postcard` or `cbor`");
        for serializer in Serializer::ALL {
            assert_eq!(serializer.name().parse(), Ok(serializer));
        }
    }
}
