//! A program with a job whose tasks do not end, for tests in which it is killed. What it needs is in the environment.

use std::num::NonZeroUsize;

use anyhow::Context as _;
use palfrey_host::{Config, Runtime, config::Transport, directive::*};
use probe_1::Stamp;

/// More than any test has slots for.
const TASKS: usize = 50;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let uri = std::env::var("PALFREY_AMQP_URI").context("PALFREY_AMQP_URI says where the broker is")?;
    let config = Config { runtime: Transport::Amqp, amqp_uri: uri.parse()?, ..Config::default() };
    let runtime = Runtime::from_config(&config).await?;
    let all = NonZeroUsize::new(TASKS).context("it is not zero")?;
    let options = JobOptions::default().batch_size(BatchSize::Fixed(NonZeroUsize::MIN)).in_flight(all);
    let source = IndexedStream::from(vec![0_u64; TASKS]).options(options);
    source.map(&Stamp::ENDLESS).run(&runtime).await?.into_values_sorted().await?;
    Ok(())
}
