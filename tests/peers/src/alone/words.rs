//! The demo's job on the demo's texts, beside threads that call the same functions natively, and the steps from the one to the other.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use palfrey_host::directive::*;
use palfrey_sdk::{Monoid, Operation};
use text::{MergeCounts, WordCount};
use walkdir::WalkDir;

use super::{Place, Row, Unit, timed};
use crate::bare::{Packed, Wasm, elements, pack};

const SLOTS: usize = 2;
/// Bytes of the texts that are executed together in a bare loop: what a batch of Palfrey's grows to, about.
const BATCH: usize = 1 << 20;

type Counts = BTreeMap<String, u64>;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let texts = sources(if place.quick { 8 << 20 } else { 64 << 20 })?;
    let bytes = texts.iter().map(String::len).sum::<usize>();
    let batches = batches(&texts);
    let bare = Wasm::load(&place.site.plugin("text"))?;
    let runtime = place.in_memory(SLOTS, place.plugin("text")?).await?;
    let mut took: [Vec<f64>; 5] = Default::default();
    for _ in place.repetitions() {
        let mut shown = Vec::new();
        let count = |text: &String| WordCount.execute(text.clone()).map_err(|error| anyhow!("{error}"));
        let natively =
            |sums: Counts, batch: &[String]| batch.iter().try_fold(sums, |sums, text| merge(sums, count(text)?));
        shown.push(on_threads(&batches, natively)?);
        // As between the stages of a task.
        let encoded = |sums: Counts, batch: &[String]| {
            let counts = pack(batch.iter().map(count).collect::<Result<Vec<_>>>()?)?;
            merge_all(sums, &counts)
        };
        shown.push(on_threads(&batches, encoded)?);
        let sandboxed = |sums: Counts, batch: &[String]| merge_all(sums, &bare.map("word-count", &[], &pack(batch)?)?);
        shown.push(on_threads(&batches, sandboxed)?);
        let both = |sums: Counts, batch: &[String]| {
            let counts = bare.map("word-count", &[], &pack(batch)?)?;
            merge(sums, postcard::from_bytes(&bare.fold("merge-counts", &counts)?)?)
        };
        shown.push(on_threads(&batches, both)?);
        let job =
            async { Ok(IndexedStream::from(texts.clone()).map(&WordCount).fold(&MergeCounts).run(&runtime).await?) };
        shown.push(timed(job).await?);
        let expected = shown.first().map(|(_, counts)| counts.clone());
        ensure!(shown.iter().all(|(_, counts)| Some(counts) == expected.as_ref()), "the counts are wrong");
        for (took, (seconds, _)) in took.iter_mut().zip(shown) {
            took.push(bytes as f64 / seconds);
        }
    }
    let steps = [
        "…counted natively, with the counts of each text encoded and decoded before they are added",
        "…counted in the sandbox (bare wasmtime: instances, copies, encoding), and added natively",
        "…counted and added in the sandbox (bare wasmtime), and only the sums of batches natively",
        "the words of the Rust sources, a job in memory: that, and batches, tasks, and sums of sums in the sandbox",
    ];
    let [native, others @ ..] = took;
    let row = |(what, values)| Row::new(what, Unit::Rate, values).beside("native threads", native.clone());
    Ok(steps.into_iter().zip(others).map(row).rev().collect())
}

/// The Rust sources of cargo's registry, which the demo counts as well: whole files, so many bytes of them at the most.
fn sources(most: usize) -> Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let folder = home.context("the home directory is unknown")?.join("registry/src");
    let (mut texts, mut bytes) = (Vec::new(), 0);
    for entry in WalkDir::new(&folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot look for sources in {}", folder.display()))?;
        if !entry.file_type().is_file() || entry.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        // Those that are not UTF-8 are left out.
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        bytes += text.len();
        if bytes > most {
            break;
        }
        texts.push(text);
    }
    ensure!(!texts.is_empty(), "there are no sources in {}", folder.display());
    Ok(texts)
}

fn batches(texts: &[String]) -> Vec<&[String]> {
    let (mut batches, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (index, text) in texts.iter().enumerate() {
        bytes += text.len();
        if bytes >= BATCH || index + 1 == texts.len() {
            batches.push(&texts[first..=index]);
            (first, bytes) = (index + 1, 0);
        }
    }
    batches
}

fn merge(sums: Counts, counts: Counts) -> Result<Counts> {
    MergeCounts.combine(sums, counts).map_err(|error| anyhow!("{error}"))
}

fn merge_all(sums: Counts, counts: &Packed) -> Result<Counts> {
    elements(counts).try_fold(sums, |sums, counts| merge(sums, postcard::from_bytes(counts?)?))
}

/// Seconds, and the counts.
fn on_threads(
    batches: &[&[String]],
    count: impl Fn(Counts, &[String]) -> Result<Counts> + Sync,
) -> Result<(f64, Counts)> {
    let next = Mutex::new(batches.iter());
    let work = || {
        let mut sums = MergeCounts.empty();
        loop {
            let Some(batch) = next.lock().ok().context("nothing panics")?.next() else { return anyhow::Ok(sums) };
            sums = count(sums, batch)?;
        }
    };
    let started = Instant::now();
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = (0..SLOTS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_fold(MergeCounts.empty(), |sums, thread| {
            let counts = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            merge(sums, counts)
        })
    })?;
    Ok((started.elapsed().as_secs_f64(), counts))
}
