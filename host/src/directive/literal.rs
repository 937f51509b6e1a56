//! A single value as a directive.

use super::{Directive, Element, Functor, IndexedStream, JobError, MapStage};
use crate::runtime::Runtime;

/// A single value, and the operations that are to be applied to it.
///
/// ```no_run
/// # use palfrey_host::{JobError, Runtime, directive::{Directive, Functor, Literal}};
/// # async fn example(double: impl palfrey_sdk::Operation<Input = u64, Output = u64>) -> Result<(), JobError> {
/// # let runtime = Runtime::in_memory().await?;
/// let doubled = Literal::new(21_u64).map(&double).run(&runtime).await?;
/// assert_eq!(doubled, 42);
/// # Ok(())
/// # }
/// ```
pub struct Literal<'a, T>(IndexedStream<'a, T>);

impl<T: Element + 'static> Literal<'_, T> {
    /// A value.
    pub fn new(value: T) -> Self {
        Self(IndexedStream::from(std::iter::once(value)))
    }
}

impl<'a, T> Functor<'a> for Literal<'a, T> {
    type Item = T;
    type Mapped<B> = Literal<'a, B>;

    fn map<Op: MapStage<Input = T>>(self, operation: &'a Op) -> Literal<'a, Op::Output> {
        Literal(self.0.map(operation))
    }
}

impl<T: Element> Directive for Literal<'_, T> {
    type Output = T;

    async fn run(self, runtime: &Runtime) -> Result<T, JobError> {
        let values = self.0.run(runtime).await?.into_values_sorted().await?;
        values.into_iter().next().ok_or(JobError::Ignored)
    }
}
