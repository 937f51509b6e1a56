//! Paladin, by its own runtimes.

use std::time::Instant;

use anyhow::Result;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use paladin::{
    config::{Config, Runtime as Transport},
    directive::{Directive, IndexedStream},
    runtime::{Runtime, WorkerRuntime},
};
use palfrey_sdk::Blob;

use self::operations::{Burn, Echo, Same, Sum};
use crate::{
    contestant::{Contestant, Outcome, Site},
    latency::one_by_one,
    work::{Job, Measure, Work, fingerprint, payload, weighted},
    worker::Worker,
};

pub(crate) const WORKER: &str = "paladin";

/// The same operations, as Paladin's.
mod operations {
    use paladin::{
        RemoteExecute,
        operation::{Monoid, Operation, Result},
    };
    use palfrey_sdk::Blob;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, RemoteExecute)]
    pub(super) struct Same;

    impl Operation for Same {
        type Input = u64;
        type Output = u64;

        fn execute(&self, number: u64) -> Result<u64> {
            Ok(number)
        }
    }

    #[derive(Serialize, Deserialize, RemoteExecute)]
    pub(super) struct Sum;

    impl Monoid for Sum {
        type Elem = u64;

        fn empty(&self) -> u64 {
            0
        }

        fn combine(&self, left: u64, right: u64) -> Result<u64> {
            Ok(left.wrapping_add(right))
        }
    }

    #[derive(Serialize, Deserialize, RemoteExecute)]
    pub(super) struct Echo;

    impl Operation for Echo {
        type Input = Blob;
        type Output = Blob;

        fn execute(&self, bytes: Blob) -> Result<Blob> {
            Ok(bytes)
        }
    }

    #[derive(Serialize, Deserialize, RemoteExecute)]
    pub(super) struct Burn(pub(super) u64);

    impl Operation for Burn {
        type Input = u64;
        type Output = u64;

        fn execute(&self, seed: u64) -> Result<u64> {
            Ok(::operations::burn(seed, self.0))
        }
    }

    paladin::registry!();
}

pub(crate) struct Paladin {
    runtime: Runtime,
    _workers: Vec<Worker>,
}

impl Paladin {
    pub(crate) async fn over_amqp(site: &Site, work: &Work) -> Result<Self> {
        let workers = Worker::start_all(site, work, WORKER)?;
        let runtime = Runtime::from_config(&config(&site.uri), operations::register()).await?;
        Ok(Self { runtime, _workers: workers })
    }

    pub(crate) async fn in_memory(work: &Work) -> Result<Self> {
        let config = Config { runtime: Transport::InMemory, num_workers: Some(work.slots), ..Config::default() };
        Ok(Self { runtime: Runtime::from_config(&config, operations::register()).await?, _workers: Vec::new() })
    }

    async fn answer(&self, job: Job, count: u64) -> Result<u64> {
        let runtime = &self.runtime;
        let numbers = IndexedStream::from(0..count);
        match job {
            Job::Map => sum(numbers.map(&Same).run(runtime).await?, |output| output).await,
            Job::Burn(rounds) => sum(numbers.map(&Burn(rounds)).run(runtime).await?, |output| output).await,
            Job::Fold => numbers.fold(&Sum).run(runtime).await,
            Job::MapAndFold => numbers.map(&Same).fold(&Sum).run(runtime).await,
            Job::Echo(bytes) => {
                let texts = IndexedStream::from((0..count).map(move |index| Blob::from(payload(bytes, index))));
                sum(texts.map(&Echo).run(runtime).await?, |text: Blob| fingerprint(&text)).await
            }
        }
    }
}

async fn sum<T>(mut results: IndexedStream<'_, T>, value: impl Fn(T) -> u64) -> Result<u64> {
    let mut sum = 0_u64;
    while let Some((index, output)) = results.try_next().await? {
        sum = sum.wrapping_add(weighted(index as u64, value(output)));
    }
    Ok(sum)
}

#[async_trait(?Send)]
impl Contestant for Paladin {
    async fn run(&mut self, work: &Work, count: u64) -> Result<Outcome> {
        match work.measure {
            Measure::Rate => {
                let started = Instant::now();
                let answer = self.answer(work.job, count).await?;
                Ok(Outcome { took: started.elapsed(), answer, ..Outcome::default() })
            }
            Measure::Latency => {
                let runtime = &self.runtime;
                one_by_one(count, async |input| {
                    let results = IndexedStream::from([input]).map(&Same).run(runtime).await?;
                    Ok(results.into_values_sorted().await?.into_iter().sum())
                })
                .await
            }
        }
    }
}

fn config(uri: &str) -> Config {
    Config {
        runtime: Transport::Amqp,
        amqp_uri: Some(uri.to_owned()),
        task_bus_routing_key: Some("bench-paladin".to_owned()),
        ..Config::default()
    }
}

pub(crate) async fn serve(uri: &str) -> Result<()> {
    WorkerRuntime::from_config(&config(uri), operations::register()).await?.main_loop().await
}
