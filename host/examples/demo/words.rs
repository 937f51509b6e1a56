//! The first job: the words of all sources, on workers and, to compare with, in a plain loop.

use std::{cmp::Reverse, collections::BTreeMap, fmt, time::Duration, time::Instant};

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use futures::stream;
use palfrey_host::{Runtime, directive::*, task::Digest};
use palfrey_sdk::{Monoid, Operation, OperationError, Serializer};
use text::{MergeCounts, WordCount};

use crate::{progress, sources::Sources};

/// Words in the table.
const MOST_FREQUENT: usize = 20;

/// How long workers may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often each word occurs, and how long it took to find out.
#[derive(Debug)]
pub(crate) struct Words {
    counts: BTreeMap<String, u64>,
    digest: Digest,
    time: Duration,
}

/// Waits until a worker has loaded the plugin, by letting it count six words.
pub(crate) async fn first_answer(runtime: &Runtime) -> anyhow::Result<()> {
    let started = Instant::now();
    let text = "to be or not to be".to_owned();
    let options = JobOptions::default().timeout(PATIENCE);
    let counts = IndexedStream::from([text]).map(&WordCount).fold(&MergeCounts).options(options).run(runtime).await?;
    println!("First answer, {counts:?}, after {:.2} s.", started.elapsed().as_secs_f64());
    Ok(())
}

/// Counts the words on the workers: a file is an element, and partial counts are merged where they arise.
pub(crate) async fn on_workers(runtime: &Runtime, sources: &Sources) -> anyhow::Result<Words> {
    let started = Instant::now();
    let texts = IndexedStream::from_fallible_stream(stream::iter(sources.texts()));
    let options = JobOptions::default().on_progress(progress::bar("files"));
    let counts = texts.map(&WordCount).fold(&MergeCounts).options(options).run(runtime).await?;
    Words::new(counts, started)
}

/// Counts the words with the same functions, compiled natively, on this thread.
pub(crate) fn natively(sources: &Sources) -> anyhow::Result<Words> {
    let started = Instant::now();
    let mut counts = MergeCounts.empty();
    for text in sources.texts() {
        let more = WordCount.execute(text?).map_err(failed)?;
        counts = MergeCounts.combine(counts, more).map_err(failed)?;
    }
    Words::new(counts, started)
}

fn failed(error: OperationError) -> anyhow::Error {
    anyhow::anyhow!("counting words failed: {error}")
}

impl Words {
    fn new(counts: BTreeMap<String, u64>, started: Instant) -> anyhow::Result<Self> {
        let time = started.elapsed();
        let digest = Digest::of(&Serializer::Postcard.to_bytes(&counts)?);
        Ok(Self { counts, digest, time })
    }

    /// Equal for equal counts.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Prints the most frequent words, in two columns.
    pub(crate) fn print(&self) {
        let mut words: Vec<_> = self.counts.iter().collect();
        words.sort_by_key(|&(word, count)| (Reverse(count), word));
        words.truncate(MOST_FREQUENT);
        let (left, right) = words.split_at(words.len().div_ceil(2));
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["word", "times", "word", "times"]);
        for (row, &(word, count)) in left.iter().enumerate() {
            let (other, other_count) =
                right.get(row).map_or_else(Default::default, |(word, count)| (word.as_str(), count.to_string()));
            table.add_row([word, &count.to_string(), other, &other_count]);
        }
        align_right(&mut table, &[1, 3]);
        let all: u64 = self.counts.values().sum();
        println!("\n{table}\n{} different words, {all} in all.\n", self.counts.len());
    }

    /// Prints how fast it was, and how fast the native loop was.
    pub(crate) fn print_speeds(&self, native: &Self, sources: &Sources) {
        let speed = |words: &Self| sources.megabytes() / words.time.as_secs_f64();
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["counted by", "seconds", "MB/s"]);
        for (who, words) in [("Palfrey's workers, sandboxed", self), ("a native loop on one thread", native)] {
            table.add_row([who, &format!("{:.2}", words.time.as_secs_f64()), &format!("{:.0}", speed(words))]);
        }
        align_right(&mut table, &[1, 2]);
        println!(
            "{table}\nThe workers took {:.2} times as long as the loop.",
            self.time.as_secs_f64() / native.time.as_secs_f64()
        );
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counts, time, .. } = self;
        write!(f, "Counted {} different words in {:.2} s.", counts.len(), time.as_secs_f64())
    }
}

fn align_right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
