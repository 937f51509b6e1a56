//! Encodings of configs, inputs and outputs.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A value that can travel: everything that serde can write and read back.
pub trait Serializable: Serialize + DeserializeOwned + Send + Sync {}

impl<T: Serialize + DeserializeOwned + Send + Sync> Serializable for T {}

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
    /// As [`to_bytes`](Self::to_bytes). The buffer may then hold a part of the value.
    pub fn append<T: Serialize + ?Sized>(self, value: &T, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Self::Postcard => {
                let taken = std::mem::take(buffer);
                *buffer = postcard::to_extend(value, taken).map_err(CodecError::new)?;
                Ok(())
            }
            Self::Cbor => ciborium::into_writer(value, buffer).map_err(CodecError::new),
        }
    }

    /// Decodes a value that fills the bytes.
    ///
    /// # Errors
    /// If they are not a value of that type, or bytes are left over.
    pub fn from_bytes<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        let (value, rest) = match self {
            Self::Postcard => postcard::take_from_bytes(bytes).map_err(CodecError::new)?,
            Self::Cbor => {
                let mut rest = bytes;
                let value = ciborium::from_reader(&mut rest).map_err(|error| match error {
                    ciborium::de::Error::Syntax(position) => {
                        CodecError { message: "malformed CBOR".to_owned(), position: u32::try_from(position).ok() }
                    }
                    other => CodecError::new(other),
                })?;
                (value, rest)
            }
        };
        match rest.len() {
            0 => Ok(value),
            left => Err(CodecError {
                message: format!("{left} bytes are left over behind the value"),
                position: u32::try_from(bytes.len() - left).ok(),
            }),
        }
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an encoding: use `postcard` or `cbor`")]
pub struct UnknownSerializer(String);

/// Bytes that are not a value of the expected type, or a value that the encoding cannot express.
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

    /// Byte offset at which decoding failed, where the decoder knows it.
    pub fn position(&self) -> Option<u32> {
        self.position
    }
}
