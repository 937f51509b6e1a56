//! Operations whose lengths nobody knows before, and how well slots finish together.

use std::{sync::Mutex, thread, time::Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use digest::Mine;
use operations::{Uneven, burn};
use palfrey_host::{Runtime, directive::*};
use palfrey_sdk::{Blob, Operation as _};

use super::{ALL, Bound, Place, Row, Unit, timed};
use crate::{
    bare::{Wasm, pack},
    palfrey,
};

const SLOTS: usize = 2;
const MOST: f64 = 1.1;

pub(super) async fn measure(place: &Place) -> Result<Vec<Row>> {
    let (over_amqp, _workers) = place.over_amqp(SLOTS).await?;
    let in_memory = place.in_memory(SLOTS, place.component()?).await?;
    in_memory.deploy(place.plugin("digest")?).await?;
    let runtimes = [("in memory", "nothing", &in_memory), ("over RabbitMQ", ALL, &over_amqp)];

    let rounds = lengths(if place.quick { 200 } else { 4_000 });
    let expected = rounds.iter().map(|&rounds| burn(rounds, rounds)).fold(0, u64::wrapping_add);
    let bare = Wasm::load(&place.site.component)?;
    let call = |&rounds: &u64| bare.map("uneven", &[], &pack([rounds])?).map(drop);
    let mut longest_first = rounds.clone();
    longest_first.sort_unstable_by_key(|&rounds| std::cmp::Reverse(rounds));
    let run = async |runtime: &Runtime| {
        let source = IndexedStream::from(rounds.clone());
        let sum = palfrey::total(source.map(&Uneven).run(runtime).await?).await?;
        ensure!(sum == expected, "the answer is wrong");
        Ok(())
    };
    let work = format!("{} elements of Pareto-distributed lengths", rounds.len());
    let mut rows = compare(place, &work, || in_hindsight(&longest_first, call), run, runtimes).await?;

    let mine = Mine { bits: if place.quick { 12 } else { 14 } };
    let texts: Vec<_> =
        (0..if place.quick { 300 } else { 1_000_u64 }).map(|text| text.to_le_bytes().to_vec()).collect();
    let find = |text: &Vec<u8>| mine.execute(Blob::from(text.clone())).map_err(|error| anyhow!("{error}"));
    let nonces = texts.iter().map(find).collect::<Result<Vec<_>>>()?;
    let expected = nonces.iter().fold(0, |sum: u64, nonce| sum.wrapping_add(*nonce));
    let bare = Wasm::load(&place.site.plugin("digest"))?;
    let config = postcard::to_stdvec(&mine)?;
    let call = |text: &Vec<u8>| bare.map("mine", &config, &pack([Blob::from(text.clone())])?).map(drop);
    let mut longest_first: Vec<_> = texts.iter().cloned().zip(nonces).collect();
    longest_first.sort_unstable_by_key(|&(_, nonce)| std::cmp::Reverse(nonce));
    let longest_first: Vec<_> = longest_first.into_iter().map(|(text, _)| text).collect();
    let run = async |runtime: &Runtime| {
        let source = IndexedStream::from(texts.iter().cloned().map(Blob::from).collect::<Vec<_>>());
        let sum = palfrey::total(source.map(&mine).run(runtime).await?).await?;
        ensure!(sum == expected, "the answer is wrong");
        Ok(())
    };
    let work = format!("{} texts mined for {} bits", texts.len(), mine.bits);
    rows.extend(compare(place, &work, || in_hindsight(&longest_first, call), run, runtimes).await?);
    Ok(rows)
}

/// Runs a job here and there, in turns with what no schedule can beat.
async fn compare(
    place: &Place,
    work: &str,
    mut in_hindsight: impl FnMut() -> Result<f64>,
    run: impl AsyncFn(&Runtime) -> Result<()>,
    runtimes: [(&str, &str, &Runtime); 2],
) -> Result<Vec<Row>> {
    let (mut makespans, mut bounds) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in place.repetitions() {
        #[expect(clippy::disallowed_methods, reason = "nothing else runs on this runtime meanwhile")]
        bounds.push(tokio::task::block_in_place(&mut in_hindsight)?);
        for ((_, _, runtime), makespans) in runtimes.into_iter().zip(&mut makespans) {
            makespans.push(timed(run(runtime)).await?.0);
        }
    }
    let row = |((how, keeps, _), makespans): ((&str, &str, &Runtime), Vec<f64>)| {
        Row::new(format!("makespan of {work}, {how}"), Unit::Seconds, makespans)
            .beside("the least that any schedule takes, from the lengths measured on bare wasmtime", bounds.clone())
            .bound(Bound::Times(MOST))
            .keeps(keeps)
    };
    Ok(runtimes.into_iter().zip(makespans).map(row).collect())
}

/// Rounds by a Pareto distribution with a tail index of 1.5: half a millisecond at the least, and a tenth of a second at the most.
fn lengths(count: u64) -> Vec<u64> {
    const LEAST: f64 = 250_000.0;
    const MOST: f64 = 50_000_000.0;
    let uniform = |index| (burn(index + 1, 20) >> 11) as f64 / (1_u64 << 53) as f64;
    (0..count).map(|index| (LEAST * (1.0 - uniform(index)).powf(-1.0 / 1.5)).min(MOST) as u64).collect()
}

/// Executes all elements, the longest first, each on the thread that is free: the schedule of whoever knows all lengths (Graham,
/// 1969). Returns a bound that no schedule is below: the measured lengths shared out evenly, or the longest of them.
fn in_hindsight<T: Sync>(longest_first: &[T], call: impl Fn(&T) -> Result<()> + Sync) -> Result<f64> {
    let next = Mutex::new(longest_first.iter());
    let work = || {
        let (mut sum, mut longest) = (0.0, 0.0_f64);
        loop {
            let Some(element) = next.lock().ok().context("nothing panics")?.next() else {
                return anyhow::Ok((sum, longest));
            };
            let started = Instant::now();
            call(element)?;
            let took = started.elapsed().as_secs_f64();
            (sum, longest) = (sum + took, longest.max(took));
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..SLOTS).map(|_| scope.spawn(work)).collect();
        let (mut sum, mut longest) = (0.0, 0.0_f64);
        for thread in threads {
            let (of_thread, longest_of_thread) = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            (sum, longest) = (sum + of_thread, longest.max(longest_of_thread));
        }
        Ok(longest.max(sum / SLOTS as f64))
    })
}
