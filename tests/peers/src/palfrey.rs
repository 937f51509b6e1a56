//! Palfrey itself.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use operations::{Burn, Echo, Same, Sum};
use palfrey_host::{
    Config, Runtime, WorkerRuntime,
    channel::LeaseGuard,
    config::Transport,
    directive::*,
    engine::Compiler,
    runtime::{Task, TaskResults, TaskSender},
    task::RoutingKey,
};
use palfrey_sdk::Blob;

use crate::{
    contestant::{Contestant, Outcome, Site},
    latency::one_by_one,
    work::{Batch, Job, Measure, Work, fingerprint, payload, weighted},
    worker::Worker,
};

pub(crate) const WORKER: &str = "palfrey";

/// How this program is told to be a compiler.
pub(crate) const COMPILE: &str = "compile-component";

/// What a worker says when it begins.
pub(crate) const READY: &str = "taking tasks";

/// The name of the plugin, or one of the same length.
pub(crate) fn renamed(number: usize) -> String {
    format!("operations-{number:03}")
}

pub(crate) struct Palfrey {
    runtime: Runtime,
    lease: Option<Lease>,
    workers: Vec<Worker>,
}

type Lease = (RoutingKey, TaskSender<Same, ()>, LeaseGuard<TaskResults<Same, ()>>);

impl Palfrey {
    pub(crate) async fn over_amqp(site: &Site, work: &Work, keeps_lease: bool) -> Result<Self> {
        let workers = Worker::start_all(site, work, WORKER)?;
        let runtime = Runtime::from_config(&config(&site.uri, None)?).await?;
        let mut palfrey = Self { runtime, lease: None, workers };
        palfrey.deploy(site).await?;
        if keeps_lease {
            palfrey.lease = Some(palfrey.runtime.lease_coordinated_task_channel().await?);
        }
        // All of them are there before anything is measured.
        while palfrey.runtime.workers().await?.len() < work.slots {}
        Ok(palfrey)
    }

    pub(crate) async fn in_memory(site: &Site, work: &Work) -> Result<Self> {
        let config = Config { slots: NonZeroUsize::new(work.slots), ..Config::default() };
        let palfrey = Self { runtime: Runtime::from_config(&config).await?, lease: None, workers: Vec::new() };
        palfrey.deploy(site).await?;
        Ok(palfrey)
    }

    async fn deploy(&self, site: &Site) -> Result<()> {
        let path = &site.component;
        let component = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.runtime.deploy(component).await?;
        Ok(())
    }

    /// The answer, and the elements of a task in the mean.
    async fn answer(&self, work: &Work, count: u64) -> Result<(u64, usize)> {
        let runtime = &self.runtime;
        // Progress is told of once for each task.
        let tasks = Arc::new(AtomicU64::new(0));
        let counted = tasks.clone();
        let mut options = JobOptions::default().timeout(Duration::from_secs(120)).on_progress(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        if let Batch::Fixed(batch) = work.batch {
            options = options.batch_size(BatchSize::Fixed(batch.try_into()?));
        }
        let numbers = IndexedStream::from(0..count).options(options.clone());
        let answer = match work.job {
            Job::Map => weighted_sum(numbers.map(&Same).run(runtime).await?, |output| output).await?,
            Job::Burn(rounds) => {
                weighted_sum(numbers.map(&Burn { rounds }).run(runtime).await?, |output| output).await?
            }
            Job::Fold => numbers.fold(&Sum).run(runtime).await?,
            Job::MapAndFold => numbers.map(&Same).fold(&Sum).run(runtime).await?,
            Job::Echo(bytes) => {
                let texts = (0..count).map(|index| Blob::from(payload(bytes, index)));
                let texts = IndexedStream::from(texts).options(options).map(&Echo).run(runtime).await?;
                weighted_sum(texts, |text: Blob| fingerprint(&text)).await?
            }
        };
        let batch = count.div_ceil(tasks.load(Ordering::Relaxed).max(1));
        Ok((answer, batch as usize))
    }
}

async fn weighted_sum<T: Element>(mut results: Results<'_, T>, value: impl Fn(T) -> u64) -> Result<u64> {
    let mut sum = 0_u64;
    while let Some(result) = results.next().await {
        let (index, output) = result?;
        sum = sum.wrapping_add(weighted(index as u64, value(output)));
    }
    Ok(sum)
}

/// The sum of what comes out.
pub(crate) async fn total(results: Results<'_, u64>) -> Result<u64> {
    Ok(results.try_fold(0_u64, async |sum, (_, output)| Ok(sum.wrapping_add(output))).await?)
}

#[async_trait(?Send)]
impl Contestant for Palfrey {
    async fn run(&mut self, work: &Work, count: u64) -> Result<Outcome> {
        if work.measure == Measure::Rate {
            let started = Instant::now();
            let (answer, batch) = self.answer(work, count).await?;
            return Ok(Outcome { took: started.elapsed(), answer, batch: Some(batch), latencies: Vec::new() });
        }
        match &mut self.lease {
            None => {
                let runtime = &self.runtime;
                one_by_one(count, async |input| Ok(Literal::new(input).map(&Same).run(runtime).await?)).await
            }
            Some((routing_key, sender, results)) => {
                one_by_one(count, async |input| {
                    let task = Task { routing_key: routing_key.clone(), metadata: (), op: &Same, input };
                    let (sent, result) = tokio::join!(sender.publish(&task), results.next());
                    sent?;
                    let Some((result, acker)) = result else { bail!("there is no result") };
                    // It is written while the next task is sent, as in the bare loop.
                    tokio::spawn(acker.ack());
                    Ok(result?.output)
                })
                .await
            }
        }
    }

    fn workers(&mut self) -> &mut [Worker] {
        &mut self.workers
    }
}

pub(crate) fn config(uri: &str, cache_dir: Option<PathBuf>) -> Result<Config> {
    Ok(Config {
        runtime: Transport::Amqp,
        amqp_uri: uri.parse()?,
        task_bus_routing_key: "bench-palfrey".to_owned(),
        slots: NonZeroUsize::new(1),
        cache_dir,
        ..Config::default()
    })
}

/// Compiles in a child process, as `palfrey` does.
pub(crate) fn compiler() -> Result<Compiler> {
    Ok(Compiler::this_program(COMPILE)?)
}

/// A worker, as `palfrey worker` is one: it also writes a log.
pub(crate) async fn serve(uri: &str, cache: Option<PathBuf>) -> Result<()> {
    let worker = WorkerRuntime::from_config(&Config { compiler: compiler()?, ..config(uri, cache)? }).await?;
    Ok(worker.main_loop(std::future::pending()).await?)
}
