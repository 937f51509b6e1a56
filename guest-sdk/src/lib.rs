//! Write operations for Palfrey: plain Rust types that become WebAssembly components.
//!
//! Palfrey spreads computation over machines. Its workers are generic: what they can do arrives at run time, as
//! components. This crate is for those who write what workers do. Programs that tell workers what to do use
//! `palfrey-host`, and the same types that are written here.
//!
//! # A first operation
//!
//! A plugin is a package of its own:
//!
//! ```toml
//! [package]
//! name = "geometry"
//! version = "0.1.0"
//! edition = "2024"
//!
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//!
//! [dependencies]
//! palfrey-sdk = "0.1"
//! serde = { version = "1", features = ["derive"] }
//! ```
//!
//! Its `src/lib.rs`, complete:
//!
//! ```
//! use palfrey_sdk::{FatalError, Monoid, Operation, RemoteExecute, Result, Schema};
//! use serde::{Deserialize, Serialize};
//!
//! palfrey_sdk::registry!(Area, Largest);
//!
//! /// Area of a rectangle, in a unit of `scale`.
//! #[derive(Serialize, Deserialize, Schema, RemoteExecute)]
//! #[postcard(crate = palfrey_sdk::postcard_schema)]
//! pub struct Area {
//!     pub scale: f64,
//! }
//!
//! impl Operation for Area {
//!     type Input = (f64, f64);
//!     type Output = f64;
//!
//!     fn execute(&self, (width, height): (f64, f64)) -> Result<f64> {
//!         if width < 0.0 || height < 0.0 {
//!             return Err(FatalError::msg(format!("{width} × {height} is no rectangle")).into());
//!         }
//!         Ok(width * height * self.scale)
//!     }
//! }
//!
//! /// The largest of all.
//! #[derive(Serialize, Deserialize, Schema, RemoteExecute)]
//! #[postcard(crate = palfrey_sdk::postcard_schema)]
//! pub struct Largest;
//!
//! impl Monoid for Largest {
//!     type Elem = f64;
//!
//!     fn empty(&self) -> f64 {
//!         f64::NEG_INFINITY
//!     }
//!
//!     fn combine(&self, left: f64, right: f64) -> Result<f64> {
//!         Ok(left.max(right))
//!     }
//! }
//!
//! // It is tested as what it is, a function:
//! assert_eq!(Area { scale: 2.0 }.execute((3.0, 4.0)).ok(), Some(24.0));
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes the component, and `palfrey deploy` takes it to the workers. The
//! operations are then `geometry/area` and `geometry/largest`.
//!
//! # Where to go on
//!
//! - [`Operation`] and [`Monoid`] are what an author implements, [`RemoteExecute`] what is derived, [`registry!`] what
//!   makes the package a plugin.
//! - [`OperationError`] says how to fail: for good, or so that it is tried again.
//! - [`context`] asks the worker whether the job was cancelled, and reports progress. Messages by `tracing` arrive in the
//!   worker's log; each costs a call, so where they are many, choose a
//!   [maximal level](https://docs.rs/tracing/latest/tracing/level_filters/index.html).
//! - [`Blob`] carries bytes efficiently.
//!
//! # Schemas
//!
//! A program and a deployed plugin may have been built from different sources. Types that derive [`Schema`] let the program
//! notice before it sends anything. It is found without being asked for; types without it work, unchecked. The schema is
//! that of the Postcard crate because it states what serde and Postcard see, fields in their order and widths included: two
//! equal schemas mean the same by the same bytes, and tools can turn JSON into those bytes by it. JSON Schema can do
//! neither. Of serde's attributes the derive knows `rename` alone: with others write the schema by hand, or none.
//!
//! # What it does not do
//!
//! It compiles natively without an engine, a runtime or a broker. It grants nothing: an operation has no files, network or
//! environment, its clocks and random numbers are the same in each execution, and each batch starts in a fresh instance.
//! [What an operation needs](RemoteExecute#what-an-operation-needs) beyond that it has to say.
//! A plugin that depends on another one has both registries in one component, which does not link: share types through
//! a crate without `registry!`.
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
/// Of a type that implements [`Operation`] or [`Monoid`]: see the trait for what it fills in.
///
/// ```
/// use palfrey_sdk::{Operation, RemoteExecute, Result};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, RemoteExecute)]
/// struct UpperCase;
///
/// impl Operation for UpperCase {
///     // ...
/// #     type Input = String;
/// #     type Output = String;
/// #     fn execute(&self, text: String) -> Result<String> { Ok(text.to_uppercase()) }
/// }
///
/// assert_eq!(UpperCase::NAME, "upper-case");
/// ```
pub use palfrey_sdk_derive::RemoteExecute;
pub use postcard_schema;
/// In this crate it is derived with the path under which a plugin finds it:
///
/// ```
/// use palfrey_sdk::Schema;
///
/// #[derive(Schema)]
/// #[postcard(crate = palfrey_sdk::postcard_schema)]
/// struct Point {
///     x: i32,
///     y: i32,
/// }
///
/// assert_eq!(Point::SCHEMA.name, "Point");
/// ```
pub use postcard_schema::Schema;
pub use serializer::{CodecError, Serializable, Serializer, UnknownSerializer};
