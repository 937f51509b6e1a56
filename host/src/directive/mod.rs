//! Directives: what to compute, stated as a plan.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use arith::{FibAt, Sum};
//! use palfrey_host::{Runtime, directive::*};
//!
//! let runtime = Runtime::in_memory().await?;
//! runtime.deploy(std::fs::read("target/wasm32-wasip2/release/arith.wasm")?).await?;
//! let sum = IndexedStream::from(1..=10).map(&FibAt).fold(&Sum).run(&runtime).await?;
//! assert_eq!(sum, 143);
//! # Ok(())
//! # }
//! ```
//!
//! A directive is built lazily and run once. [`IndexedStream`] is the source with the operations that are mapped over it;
//! [`Functor::map`] appends one, and [`Foldable::fold`] ends the plan. Running it sends batches of consecutive inputs,
//! each with *all* stages of the plan, so that intermediate values never come back: `map(a).map(b).fold(c)` returns one
//! partial result a batch. Start with `plan`, which says what is to be done; `job` does it; its decisions are those of
//! the crate `palfrey-schedule`, without any I/O.

mod error;
mod indexed_stream;
mod job;
mod literal;
mod options;
mod outputs;
mod plan;
mod source;
mod timer;

pub use error::JobError;
pub use indexed_stream::{Fold, IndexedStream, Results};
pub use literal::Literal;
pub use options::{JobOptions, JobProgress};
pub use palfrey_schedule::BatchSize;
pub(crate) use plan::resolve_type;
pub use plan::{FoldStage, MapStage, OperationHandle};
pub use source::{Element, Encoded};

use crate::runtime::Runtime;

/// A computation that can be run.
///
/// Nothing happens before it is run. A [fold](Fold) and a [`Literal`] result in their value; an [`IndexedStream`] results at
/// once in the stream of its [`Results`], and what goes wrong later comes out of that stream.
///
/// ```no_run
/// use palfrey_host::{JobError, Runtime, directive::Directive};
///
/// async fn timed<D: Directive>(directive: D, runtime: &Runtime) -> Result<D::Output, JobError> {
///     let started = std::time::Instant::now();
///     let output = directive.run(runtime).await?;
///     println!("{:?}", started.elapsed());
///     Ok(output)
/// }
/// ```
pub trait Directive: Sized {
    /// What running it results in.
    type Output;

    /// Runs it on the workers of a runtime.
    ///
    /// # Errors
    /// If an operation is not deployed or its types differ from the deployed ones, an element fails for good, the
    /// source fails, the time is up, or the broker refuses. Nothing of the job goes on afterwards.
    fn run(self, runtime: &Runtime) -> impl Future<Output = Result<Self::Output, JobError>> + Send;
}

/// What an operation can be mapped over: an [`IndexedStream`] or a [`Literal`].
///
/// ```
/// use palfrey_host::directive::{Functor, IndexedStream};
/// use text::{CharToString, WordCount};
///
/// // Each `map` takes what the one before it gives; anything else does not compile.
/// let counts = IndexedStream::from(['a', 'b']).map(&CharToString).map(&WordCount);
/// ```
pub trait Functor<'a>: Sized {
    /// Type of the elements.
    type Item;
    /// The same shape, with elements of another type.
    type Mapped<B>
    where
        B: 'a;

    /// Applies an operation to each element. It is executed together with the stages around it.
    fn map<Op: MapStage<Input = Self::Item>>(self, operation: &'a Op) -> Self::Mapped<Op::Output>
    where
        Op::Output: 'a;
}

/// What can be folded: an [`IndexedStream`].
///
/// ```
/// use palfrey_host::directive::{Foldable, Functor, IndexedStream};
/// use text::{CharToString, Concat};
///
/// // The order of the source is kept, on however many workers: `Concat` is not commutative.
/// let text = IndexedStream::from(['p', 'a', 'l']).map(&CharToString).fold(&Concat);
/// ```
pub trait Foldable<'a>: Sized {
    /// Type of the elements.
    type Item: Element;

    /// Combines all elements to one, in the order of the source. Folding nothing gives the monoid's identity.
    fn fold<M: FoldStage<Elem = Self::Item>>(self, monoid: &'a M) -> Fold<'a, Self::Item>;
}
