//! Write operations for Palfrey: plain Rust types that become WebAssembly components.

mod error;
mod serializer;

pub use error::*;
pub use serializer::*;
