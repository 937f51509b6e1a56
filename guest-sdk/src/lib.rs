//! Write operations for Palfrey: plain Rust types that become WebAssembly components.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

extern crate self as palfrey_sdk;

#[doc(hidden)]
pub mod __private;
mod batch;
mod blob;
pub mod context;
mod descriptor;
mod error;
mod operation;
mod probe;
mod registry;
mod serializer;

#[cfg(target_family = "wasm")]
mod component;

pub use blob::Blob;
pub use descriptor::{Descriptor, Kind};
pub use error::{FatalError, FatalStrategy, OperationError, Result, RetryStrategy, TransientError};
pub use operation::{Monoid, Operation, RemoteExecute};
pub use palfrey_sdk_derive::RemoteExecute;
pub use postcard_schema::{self, Schema};
pub use serializer::{CodecError, Serializable, Serializer, UnknownSerializer};
