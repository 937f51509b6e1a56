//! What `cargo xtask simulate --check` runs: the same jobs in the simulator and for real, with two workers on this machine.
//!
//! What things cost here is measured first: executions on slots that are all busy, the way there and back, and two jobs of
//! elements that take no time, from which the simulator's costs of a task and of an element follow. Then it predicts what other
//! jobs take.

use std::{num::NonZeroUsize, time::Instant};

use anyhow::{Result, ensure};
use digest::{Mine, Sha256};
use futures::{StreamExt, future::join_all};
use palfrey_host::{Config, Runtime, directive::*};
use palfrey_sdk::{Blob, Operation};
use palfrey_simulator::{
    cluster::{Cluster, Here},
    simulation::{Job, simulate},
    work::Durations,
};
use palfrey_tests::{World, cache_dir, component, soon};
use tokio_util::sync::CancellationToken;

/// Processes, with a slot each.
const WORKERS: usize = 2;

/// A prediction may be wrong by so much.
const WRONG: f64 = 0.15;

/// An odd number, for the sake of the median.
const ROUNDS: usize = 7;

/// A job, simulated and for real. Its elements are blocks, in which nonces are looked for.
struct Sample {
    name: &'static str,
    bits: u8,
    elements: u64,
    batch: BatchSize,
}

/// What executions take, in seconds.
#[derive(Debug, Clone, Copy)]
struct Executions {
    task: f64,
    element: f64,
    nonce: f64,
}

fn main() -> Result<()> {
    let world = World::new();
    tokio::runtime::Runtime::new()?.block_on(check(&world))
}

async fn check(world: &World) -> Result<()> {
    world.deploy(&["digest"]).await;
    let _workers = world.workers::<WORKERS>(&["--slots", "1"]).await;
    let one = BatchSize::Fixed(NonZeroUsize::MIN);
    let calibrating = [
        Sample { name: "one element", bits: 0, elements: 1, batch: one },
        Sample { name: "tasks of one element", bits: 0, elements: 5_000, batch: one },
        Sample { name: "elements", bits: 0, elements: 1_000_000, batch: BatchSize::Measured },
    ];
    let predicted = [
        Sample { name: "no time", bits: 0, elements: 4_000_000, batch: BatchSize::Measured },
        Sample { name: "no time, ten in a task", bits: 0, elements: 50_000, batch: fixed(10) },
        Sample { name: "100 µs", bits: 8, elements: 20_000, batch: BatchSize::Measured },
        Sample { name: "10 ms", bits: 15, elements: 400, batch: BatchSize::Measured },
        Sample { name: "10 ms, one in a task", bits: 15, elements: 400, batch: one },
    ];
    // A machine that is shared is quicker at one time than at another: each round predicts from what it has measured itself.
    let mut rounds = vec![Vec::new(); predicted.len()];
    for round in 0..ROUNDS {
        let executions = measure_executions().await?;
        let mut measured = Vec::new();
        for sample in &calibrating {
            measured.push(sample.median(world).await?);
        }
        let here = fit(&executions, &calibrating, &measured);
        println!(
            "round {round}: an execution takes {:.0} µs for a task, {:.2} µs for an element, and {:.3} µs for a nonce; beside \
             that a task costs {:.0} µs, an element {:.2} µs, and a way {:.0} µs",
            executions.task * 1e6,
            executions.element * 1e6,
            executions.nonce * 1e6,
            here.task * 1e6,
            here.element * 1e6,
            here.latency * 1e6
        );
        for (sample, rounds) in predicted.iter().zip(&mut rounds) {
            rounds.push((sample.simulate(&here, &executions), sample.median(world).await?));
        }
    }
    println!("{:<24} {:>12} {:>12} {:>8}, median of {ROUNDS}", "elements of", "predicted", "measured", "ratio");
    let mut worst: f64 = 1.0;
    for (sample, rounds) in predicted.iter().zip(&rounds) {
        let of = |value: &dyn Fn(&(f64, f64)) -> f64| median(rounds.iter().map(value).collect());
        let ratio = of(&|(predicted, measured)| predicted / measured);
        worst = worst.max(ratio.max(1.0 / ratio));
        let (predicted, measured) = (of(&|round| round.0), of(&|round| round.1));
        println!("{:<24} {predicted:>10.3} s {measured:>10.3} s {ratio:>8.3}", sample.name);
    }
    ensure!(worst <= 1.0 + WRONG, "a prediction is wrong by more than {:.0} %", 100.0 * WRONG);
    Ok(())
}

fn fixed(size: usize) -> BatchSize {
    NonZeroUsize::new(size).map_or(BatchSize::Measured, BatchSize::Fixed)
}

fn block(number: u64) -> Blob {
    Blob::from(number.to_le_bytes().to_vec())
}

impl Sample {
    /// How long it takes for real, for a program that knows nothing of the operation, like the simulated one.
    async fn run(&self, world: &World) -> Result<f64> {
        let runtime = world.runtime().await;
        // The first job makes the queue of results.
        let first = IndexedStream::from([block(0)]).map(&Sha256).run(&runtime).await?;
        ensure!(first.into_values_sorted().await?.len() == 1, "there is one digest");
        let operation = Mine { bits: self.bits };
        let options = JobOptions::default().batch_size(self.batch);
        let source = IndexedStream::from((0..self.elements).map(block).collect::<Vec<_>>());
        let started = Instant::now();
        let mut results = source.options(options).map(&operation).run(&runtime).await?;
        let mut done = 0;
        while let Some(result) = results.next().await {
            result?;
            done += 1;
        }
        let took = started.elapsed().as_secs_f64();
        ensure!(done == self.elements, "{done} of {} elements came back", self.elements);
        drop(results);
        soon(runtime.close()).await?;
        Ok(took)
    }

    async fn median(&self, world: &World) -> Result<f64> {
        let mut took = Vec::new();
        for _ in 0..if self.elements == 1 { 15 } else { 1 } {
            took.push(self.run(world).await?);
        }
        Ok(median(took))
    }

    /// How long it takes according to the simulator.
    fn simulate(&self, here: &Here, executions: &Executions) -> f64 {
        let of = |nonce: u64| executions.element + executions.nonce * nonce as f64;
        let durations = if self.bits == 0 {
            Durations::Constant(of(0))
        } else {
            let operation = Mine { bits: self.bits };
            // How far each has to look is a property of the element.
            let nonce = |number| operation.execute(block(number)).unwrap_or_default();
            Durations::Trace((0..self.elements).map(|number| of(nonce(number))).collect())
        };
        let bytes = block(0).len() as f64 + 1.0;
        let job = Job { elements: self.elements, batch: self.batch, input: bytes, output: bytes, ..Job::of(durations) };
        simulate(&Cluster::here(WORKERS, 1, here), &job, 1).makespan
    }
}

/// Executes batches on as many slots at a time as the workers have together.
async fn measure_executions() -> Result<Executions> {
    const BITS: u8 = 15;
    let hard = (0..64).find(|&number| nonce(BITS, number) > 1 << BITS).unwrap_or_default();
    let task = execution(0, vec![0]).await?;
    let element = execution(0, (0..10_000).collect()).await?;
    let nonces = execution(BITS, vec![hard]).await?;
    let element = (element - task).max(0.0) / 9_999.0;
    Ok(Executions { task: task - element, element, nonce: (nonces - task) / nonce(BITS, hard) as f64 })
}

fn nonce(bits: u8, number: u64) -> u64 {
    Mine { bits }.execute(block(number)).unwrap_or_default()
}

/// How long a batch takes.
async fn execution(bits: u8, numbers: Vec<u64>) -> Result<f64> {
    let slots = NonZeroUsize::new(WORKERS);
    let config = Config { workers: 0, slots, cache_dir: Some(cache_dir()), ..Config::default() };
    let runtime = Runtime::from_config(&config).await?;
    runtime.deploy(component("digest")).await?;
    let worker = runtime.worker_in_memory().expect("it is in memory");
    let mut tasks = worker.get_task_receiver().await?;
    let options = JobOptions::default().batch_size(fixed(numbers.len()));
    let blocks: Vec<_> = numbers.into_iter().map(block).collect();
    let operation = Mine { bits };
    let mut results = IndexedStream::from(blocks).options(options).map(&operation).run(&runtime).await?;
    let sent = futures::poll!(results.next());
    ensure!(sent.is_pending(), "nobody has executed it");
    let (task, _kept) = soon(tasks.next()).await.expect("it was sent");
    let (mut took, never) = (Vec::new(), CancellationToken::new());
    for _ in 0..21 {
        let executed = join_all((0..WORKERS).map(|_| worker.execute(&task, &never))).await;
        took.extend(executed.into_iter().map(|(_, time)| time.as_secs_f64()));
    }
    Ok(median(took))
}

/// The costs with which the simulated jobs take as long as those that were measured.
fn fit(executions: &Executions, jobs: &[Sample; 3], measured: &[f64]) -> Here {
    let mut here = Here {
        cores: std::thread::available_parallelism().map_or(WORKERS, NonZeroUsize::get),
        execution: executions.task,
        task: 100e-6,
        element: 0.1e-6,
        latency: 100e-6,
    };
    for _ in 0..4 {
        for (number, (job, measured)) in jobs.iter().zip(measured).enumerate() {
            let (mut low, mut high) = (0.0, 10e-3);
            for _ in 0..30 {
                let middle = f64::midpoint(low, high);
                let cost = [&mut here.latency, &mut here.task, &mut here.element];
                let Some(cost) = cost.into_iter().nth(number) else { break };
                *cost = middle;
                let is_more = job.simulate(&here, executions) > *measured;
                *(if is_more { &mut high } else { &mut low }) = middle;
            }
        }
    }
    here
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
