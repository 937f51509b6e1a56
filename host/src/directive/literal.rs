//! A single value as a directive.

use super::{Directive, Element, Functor, IndexedStream, JobError, MapStage};
use crate::runtime::Runtime;

/// A single value, and the operations that are to be applied to it.
///
/// ```no_run
/// # async fn example(runtime: palfrey_host::Runtime) -> Result<(), palfrey_host::JobError> {
/// use arith::MultiplyBy;
/// use palfrey_host::directive::{Directive, Functor, Literal};
///
/// let doubled = Literal::new(21).map(&MultiplyBy(2)).run(&runtime).await?;
/// assert_eq!(doubled, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Literal<'a, T>(IndexedStream<'a, T>);

impl<T: Element + 'static> Literal<'_, T> {
    /// A value, which is encoded and sent when the directive runs.
    pub fn new(value: T) -> Self {
        Self(IndexedStream::from(std::iter::once(value)))
    }
}

impl<'a, T> Functor<'a> for Literal<'a, T> {
    type Item = T;
    type Mapped<B>
        = Literal<'a, B>
    where
        B: 'a;

    fn map<Op: MapStage<Input = T>>(self, operation: &'a Op) -> Literal<'a, Op::Output>
    where
        Op::Output: 'a,
    {
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
