//! Jobs whose answers are known, whatever happens meanwhile.

use std::sync::Arc;

use futures::{
    FutureExt, Stream, TryStreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use palfrey_host::{JobError, Runtime, directive::*};
use probe_1::Stamp;
use text::{CharToString, Concat};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::soon;

/// Elements of each job.
pub const ELEMENTS: u64 = 20_000;

/// Those of them that a job does before it is asked to finish.
pub const FREE: u64 = 18_000;

/// Elements of each task.
pub const BATCH: u64 = 50;

/// Two jobs under way: a fold that is not commutative, and a map. They end with [`finish`](Self::finish), not before: the
/// last of their elements are held back until then, so that whatever is done meanwhile happens in their middle.
///
/// Dropping it abandons them.
#[derive(Debug)]
pub struct Exact {
    text: String,
    /// Elements that the jobs have been given.
    given: u64,
    /// Where they get the others.
    sources: Option<Sources>,
    folded: Job<String>,
    mapped: Job<Vec<(usize, (u32, u64))>>,
    version: u32,
}

#[derive(Debug)]
struct Sources {
    characters: UnboundedSender<char>,
    numbers: UnboundedSender<u64>,
}

#[derive(Debug)]
struct Job<T> {
    done: watch::Receiver<u64>,
    result: JoinHandle<Result<T, JobError>>,
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.result.abort();
    }
}

impl Exact {
    /// Starts both jobs, on the active version of `probe`, which is to be this one. `text` and `probe` have to be deployed.
    pub async fn start(runtime: &Arc<Runtime>, version: u32) -> Self {
        let mut exact = Self::start_without_elements(runtime, version, 0).await;
        exact.give(FREE);
        exact
    }

    /// Starts them with so much [`work`](Stamp::work) for each element of the map that they are [given](Self::give): 300,000
    /// take about a millisecond. From now on it makes no difference to them what is deployed.
    ///
    /// # Panics
    /// If they do not begin.
    pub async fn start_without_elements(runtime: &Arc<Runtime>, version: u32, work: u64) -> Self {
        let text: String = (0..)
            .flat_map(|number: u32| format!("{number} ").into_bytes())
            .map(char::from)
            .take(ELEMENTS as usize)
            .collect();
        let ((characters, more_characters), (numbers, more_numbers)) = (unbounded(), unbounded());
        let ((wants_characters, characters_wanted), (wants_numbers, numbers_wanted)) =
            (oneshot::channel(), oneshot::channel());
        let folded = fold(runtime.clone(), telling(more_characters, wants_characters));
        let mapped = map(runtime.clone(), telling(more_numbers, wants_numbers), Stamp { work });
        for wanted in [characters_wanted, numbers_wanted] {
            // A job that has failed says so at the end.
            soon(wanted).await.ok();
        }
        Self { text, given: 0, sources: Some(Sources { characters, numbers }), folded, mapped, version }
    }

    /// Gives both jobs their elements up to this one.
    pub fn give(&mut self, up_to: u64) {
        let Some(Sources { characters, numbers }) = &self.sources else { return };
        let more = self.given..up_to.clamp(self.given, ELEMENTS);
        let text = &self.text[more.start as usize..more.end as usize];
        text.chars().for_each(|character| send(characters, character));
        more.clone().for_each(|number| send(numbers, number));
        self.given = more.end;
    }

    /// Waits until both jobs have done so many elements, or have failed. [`FREE`] of them are done before [`finish`](Self::finish).
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn reaches(&self, elements: u64) {
        for mut done in [self.folded.done.clone(), self.mapped.done.clone()] {
            // A job that has failed says so at the end.
            soon(done.wait_for(|&done| done >= elements)).await.ok();
        }
    }

    /// Elements that each of the jobs has done.
    pub fn done(&self) -> (u64, u64) {
        (*self.folded.done.borrow(), *self.mapped.done.borrow())
    }

    /// Lets the jobs have the rest of their elements.
    pub fn release(&mut self) {
        self.give(ELEMENTS);
        self.sources = None;
    }

    /// Lets the jobs end, and looks at what came out: every character in its place, every number once, and all of them
    /// stamped by one version.
    ///
    /// # Panics
    /// If it takes too long, or anything is wrong.
    pub async fn finish(mut self) {
        self.release();
        let folded = soon(&mut self.folded.result).await.expect("the job does not panic");
        let folded = folded.unwrap_or_else(|error| panic!("the fold failed: {:#}", anyhow::Error::from(error)));
        let differs = folded.bytes().zip(self.text.bytes()).position(|(is, should)| is != should);
        assert!(folded == self.text, "{} characters instead of {ELEMENTS}, wrong at {differs:?}", folded.len());

        let mapped = soon(&mut self.mapped.result).await.expect("the job does not panic");
        let mut mapped = mapped.unwrap_or_else(|error| panic!("the map failed: {:#}", anyhow::Error::from(error)));
        assert_eq!(mapped.len() as u64, ELEMENTS, "each index comes once");
        mapped.sort_unstable();
        let version = self.version;
        for (expected, &(index, (by, number))) in (0..).zip(&mapped) {
            assert_eq!((index as u64, by, number), (expected, version, expected), "index, version and number");
        }
    }
}

fn send<T>(source: &UnboundedSender<T>, element: T) {
    // A job that has failed does not take it, and says so at the end.
    source.unbounded_send(element).ok();
}

fn options() -> (JobOptions, watch::Receiver<u64>) {
    let (progress, done) = watch::channel(0);
    let size = BatchSize::Fixed((BATCH as usize).try_into().expect("it is not zero"));
    let report = move |progressed: JobProgress| _ = progress.send(progressed.done);
    (JobOptions::default().batch_size(size).on_progress(report), done)
}

/// A source that tells when it is asked for the first time.
fn telling<T>(source: UnboundedReceiver<T>, asked: oneshot::Sender<()>) -> impl Stream<Item = T> {
    let first = async move {
        asked.send(()).ok();
        source
    };
    first.flatten_stream()
}

fn fold(runtime: Arc<Runtime>, characters: impl Stream<Item = char> + Send + 'static) -> Job<String> {
    let (options, done) = options();
    let result = tokio::spawn(async move {
        let source = IndexedStream::from_stream(characters).options(options);
        source.map(&CharToString).fold(&Concat).run(&runtime).await
    });
    Job { done, result }
}

fn map(
    runtime: Arc<Runtime>,
    numbers: impl Stream<Item = u64> + Send + 'static,
    stamp: Stamp,
) -> Job<Vec<(usize, (u32, u64))>> {
    let (options, done) = options();
    let result = tokio::spawn(async move {
        let results = IndexedStream::from_stream(numbers).options(options).map(&stamp).run(&runtime).await?;
        results.try_collect().await
    });
    Job { done, result }
}
