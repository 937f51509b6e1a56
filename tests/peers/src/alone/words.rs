//! The demo's job, beside threads that call the same functions natively.

use std::{collections::BTreeMap, sync::Mutex, thread, time::Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use palfrey_host::{Config, Runtime, directive::*};
use palfrey_sdk::{Monoid, Operation};
use text::{MergeCounts, WordCount};

use super::{Place, Row, median, timed};

const SLOTS: usize = 2;
/// Bytes of a text.
const TEXT: usize = 64 << 10;

type Counts = BTreeMap<String, u64>;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let texts = texts(if place.quick { 128 } else { 1024 });
    let config = Config { slots: SLOTS.try_into().ok(), cache_dir: Some(place.cache()), ..Config::default() };
    let runtime = Runtime::from_config(&config).await?;
    let text = &place.site.text;
    runtime.deploy(std::fs::read(text).with_context(|| format!("cannot read {}", text.display()))?).await?;
    let (mut ratios, mut rates, mut natively) = (Vec::new(), Vec::new(), Vec::new());
    let megabytes = (texts.len() * TEXT) as f64 / 1e6;
    for _ in 0..7 {
        let started = Instant::now();
        let expected = native(&texts)?;
        let native = started.elapsed();
        let job =
            async { Ok(IndexedStream::from(texts.clone()).map(&WordCount).fold(&MergeCounts).run(&runtime).await?) };
        let (ours, counts) = timed(job).await?;
        ensure!(counts == expected, "the counts are wrong");
        ratios.push(native.as_secs_f64() / ours.as_secs_f64());
        rates.push(megabytes / ours.as_secs_f64());
        natively.push(megabytes / native.as_secs_f64());
    }
    Ok(vec![
        Row::new("words of a text, in memory", format!("{:.0} MB/s, {:.3} ×", median(rates), median(ratios)))
            .beside(format!("{:.0} MB/s, native threads", median(natively))),
    ])
}

/// Texts of words that are as frequent as their rank says (Zipf).
fn texts(count: u64) -> Vec<String> {
    let mut seed = 0;
    let mut word = move || {
        seed += 1;
        let uniform = (operations::burn(seed, 20) >> 11) as f64 / (1_u64 << 53) as f64;
        // The inverse of the distribution, nearly: 20,000 words.
        format!("word{}", 20_000_f64.powf(uniform) as u64)
    };
    (0..count)
        .map(|_| {
            let mut text = String::with_capacity(TEXT);
            while text.len() < TEXT {
                text.push_str(&word());
                text.push(' ');
            }
            text
        })
        .collect()
}

fn merge(sums: Counts, counts: Counts) -> Result<Counts> {
    MergeCounts.combine(sums, counts).map_err(|error| anyhow!("{error}"))
}

fn native(texts: &[String]) -> Result<Counts> {
    let next = Mutex::new(texts.iter());
    let work = || {
        let mut sums = MergeCounts.empty();
        loop {
            let Some(text) = next.lock().ok().context("nothing panics")?.next() else { return anyhow::Ok(sums) };
            sums = merge(sums, WordCount.execute(text.clone()).map_err(|error| anyhow!("{error}"))?)?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..SLOTS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_fold(MergeCounts.empty(), |sums, thread| {
            let counts = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            merge(sums, counts)
        })
    })
}
