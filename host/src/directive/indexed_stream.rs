//! Many values as a directive.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use palfrey_sdk::Serializer;

use super::{
    Directive, Element, FoldStage, Foldable, Functor, JobError, JobOptions, MapStage,
    job::Job,
    outputs::Outputs,
    plan::Plan,
    source::{Source, elements},
};
use crate::{runtime::Runtime, task::Apply};

/// A source of elements, and the operations that are to be mapped over them. The position of an element in the source is
/// its index. It is read while the job runs, as fast as results are taken, so that it may be endless.
///
/// ```
/// use futures::stream;
/// use palfrey_host::directive::IndexedStream;
///
/// let from_iterator = IndexedStream::from(1..=10_u64);
/// let from_stream = IndexedStream::from_stream(stream::iter(["a".to_owned(), "b".to_owned()]));
/// let lines = stream::iter([Ok("fine".to_owned()), Err(std::io::Error::other("disk on fire"))]);
/// let from_fallible = IndexedStream::from_fallible_stream(lines);
/// ```
pub struct IndexedStream<'a, T> {
    source: Box<dyn Source + 'a>,
    plan: Plan<'a>,
    options: JobOptions,
    element: PhantomData<fn() -> T>,
}

impl<'a, T, I> From<I> for IndexedStream<'a, T>
where
    T: Element + 'a,
    I: IntoIterator<Item = T>,
    I::IntoIter: Send + 'a,
{
    fn from(iterator: I) -> Self {
        Self::from_stream(stream::iter(iterator))
    }
}

impl<'a, T: Element + 'a> IndexedStream<'a, T> {
    /// Elements as they come. What came so far is sent as soon as a slot has nothing else to do, so that a stream that
    /// is not ready holds nothing back.
    pub fn from_stream(stream: impl Stream<Item = T> + Send + 'a) -> Self {
        Self::from_fallible_stream(stream.map(Ok::<_, anyhow::Error>))
    }

    /// Elements as they come. The first error ends the job with [`JobError::Source`].
    ///
    /// ```no_run
    /// # async fn example(runtime: palfrey_host::Runtime) -> anyhow::Result<()> {
    /// use std::{fs::File, io::{BufRead, BufReader}};
    /// use futures::stream;
    /// use palfrey_host::directive::*;
    /// use text::{MergeCounts, WordCount};
    ///
    /// let lines = BufReader::new(File::open("README.md")?).lines();
    /// let lines = IndexedStream::from_fallible_stream(stream::iter(lines));
    /// let counts = lines.map(&WordCount).fold(&MergeCounts).run(&runtime).await?;
    /// println!("{} different words", counts.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_fallible_stream<E: Into<anyhow::Error>>(stream: impl Stream<Item = Result<T, E>> + Send + 'a) -> Self {
        let source = elements(stream.map(|element| element.map_err(Into::into)));
        Self { source, plan: Plan::default(), options: JobOptions::default(), element: PhantomData }
    }
}

impl<T> IndexedStream<'_, T> {
    /// Sets what is asked of the job beyond its plan: see [`JobOptions`].
    pub fn options(mut self, options: JobOptions) -> Self {
        self.options = options;
        self
    }
}

impl<'a, T> Functor<'a> for IndexedStream<'a, T> {
    type Item = T;
    type Mapped<B>
        = IndexedStream<'a, B>
    where
        B: 'a;

    fn map<Op: MapStage<Input = T>>(mut self, operation: &'a Op) -> IndexedStream<'a, Op::Output>
    where
        Op::Output: 'a,
    {
        self.plan.push(operation, Apply::Map);
        IndexedStream { source: self.source, plan: self.plan, options: self.options, element: PhantomData }
    }
}

impl<'a, T: Element> Foldable<'a> for IndexedStream<'a, T> {
    type Item = T;

    fn fold<M: FoldStage<Elem = T>>(mut self, monoid: &'a M) -> Fold<'a, T> {
        self.plan.push(monoid, Apply::Fold);
        Fold(self)
    }
}

impl<'a, T: Element> Directive for IndexedStream<'a, T> {
    type Output = Results<'a, T>;

    async fn run(self, runtime: &Runtime) -> Result<Results<'a, T>, JobError> {
        let job = Job::start(runtime, self.source, &self.plan, self.options).await?;
        let batches = stream::try_unfold(Box::new(job), |mut job| async move {
            let outputs = job.next_outputs().await?;
            Ok(outputs.map(|outputs| (outputs, job)))
        });
        Ok(Results {
            batches: batches.boxed(),
            current: Outputs::default(),
            serializer: runtime.serializer(),
            element: PhantomData,
        })
    }
}

impl<T> fmt::Debug for IndexedStream<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexedStream")
            .field("plan", &self.plan)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// An [`IndexedStream`] that is to be folded to one value: what [`Foldable::fold`] returns. Running it gives the value.
///
/// ```no_run
/// # async fn example(runtime: palfrey_host::Runtime) -> Result<(), palfrey_host::JobError> {
/// use std::time::Duration;
/// use arith::{FibAt, Sum};
/// use palfrey_host::directive::*;
///
/// let fold: Fold<u64> = IndexedStream::from(1..=10).map(&FibAt).fold(&Sum);
/// let in_time = fold.options(JobOptions::default().timeout(Duration::from_secs(10)));
/// assert_eq!(in_time.run(&runtime).await?, 143);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Fold<'a, T>(IndexedStream<'a, T>);

impl<T> Fold<'_, T> {
    /// Sets what is asked of the job beyond its plan: see [`JobOptions`].
    pub fn options(self, options: JobOptions) -> Self {
        Self(self.0.options(options))
    }
}

impl<T: Element> Directive for Fold<'_, T> {
    type Output = T;

    async fn run(self, runtime: &Runtime) -> Result<T, JobError> {
        let mut job = Job::start(runtime, self.0.source, &self.0.plan, self.0.options).await?;
        let folded = job.folded().await?;
        T::decode(runtime.serializer(), folded).map_err(|source| JobError::Decode { element: 0, source })
    }
}

/// The values of a running job with their indices, as they finish. Nothing is sent while nobody asks for the next one, so
/// that a slow reader holds a bounded number of tasks in flight. Dropping it ends the job. The first error is the last item.
///
/// ```no_run
/// # async fn example(runtime: palfrey_host::Runtime) -> anyhow::Result<()> {
/// use arith::FibAt;
/// use futures::TryStreamExt;
/// use palfrey_host::directive::*;
///
/// let mut results = IndexedStream::from(1..=90).map(&FibAt).run(&runtime).await?;
/// while let Some((index, number)) = results.try_next().await? {
///     println!("{index}: {number}");
///     if number > 1_000_000 {
///         break; // What else is under way is stopped when `results` goes out of scope.
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Results<'a, T> {
    batches: BoxStream<'a, Result<Outputs, JobError>>,
    /// What is left of the last batch.
    current: Outputs,
    serializer: Serializer,
    element: PhantomData<fn() -> T>,
}

impl<T: Element> Results<'_, T> {
    /// All values in the order of the source. An element that failed in a way to be ignored has none, so that there may be fewer
    /// values than elements.
    ///
    /// ```no_run
    /// # async fn example(runtime: palfrey_host::Runtime) -> Result<(), palfrey_host::JobError> {
    /// # use arith::MultiplyBy;
    /// # use palfrey_host::directive::*;
    /// let doubled = IndexedStream::from([3, 1, 2]).map(&MultiplyBy(2)).run(&runtime).await?;
    /// assert_eq!(doubled.into_values_sorted().await?, [6, 2, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The one that ended the job.
    pub async fn into_values_sorted(self) -> Result<Vec<T>, JobError> {
        let mut values: Vec<_> = self.try_collect().await?;
        values.sort_unstable_by_key(|(index, _)| *index);
        Ok(values.into_iter().map(|(_, value)| value).collect())
    }
}

impl<T: Element> Stream for Results<'_, T> {
    type Item = Result<(usize, T), JobError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let serializer = self.serializer;
            if let Some((index, output)) = self.current.next(serializer) {
                return Poll::Ready(Some(match output {
                    // An index that does not fit in memory's address space could not have been held by the source either.
                    Ok(value) => Ok((index as usize, value)),
                    Err(source) => {
                        // It is the last item.
                        self.batches = stream::empty().boxed();
                        self.current = Outputs::default();
                        Err(JobError::Decode { element: index, source })
                    }
                }));
            }
            match ready!(self.batches.poll_next_unpin(context)) {
                Some(Ok(outputs)) => self.current = outputs,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T> fmt::Debug for Results<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}
