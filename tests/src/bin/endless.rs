//! A program with one job that does not end, for tests in which it is killed or looked at. What it needs is in the environment.
//!
//! `endless tasks`: its tasks do not end. `endless outputs`: its source does not, its outputs are large, and after some of them
//! it reads no more.

use std::num::NonZeroUsize;

use anyhow::Context as _;
use fractal::{MandelbrotTile, Tile};
use futures::{TryStreamExt, stream};
use palfrey_host::{Config, Runtime, config::Transport, directive::*};
use probe_1::Stamp;

/// More than any test has slots for.
const TASKS: NonZeroUsize = NonZeroUsize::new(50).expect("it is not zero");

/// Pixels of three bytes, in each row and column of an output: 4.3 MB.
const PIXELS: u32 = 1200;

/// Outputs that are read: by then the job has known for long how large they are.
const READ: usize = 45;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let uri = std::env::var("PALFREY_AMQP_URI").context("PALFREY_AMQP_URI says where the broker is")?;
    let config = Config { runtime: Transport::Amqp, amqp_uri: uri.parse()?, ..Config::default() };
    let runtime = Runtime::from_config(&config).await?;
    match std::env::args().nth(1).as_deref() {
        Some("tasks") => tasks(&runtime).await,
        Some("outputs") => outputs(&runtime).await,
        _ => anyhow::bail!("write `endless tasks` or `endless outputs`"),
    }
}

fn options() -> JobOptions {
    JobOptions::default().batch_size(BatchSize::Fixed(NonZeroUsize::MIN)).in_flight(TASKS)
}

async fn tasks(runtime: &Runtime) -> anyhow::Result<()> {
    let source = IndexedStream::from(vec![0_u64; TASKS.get()]).options(options());
    source.map(&Stamp::ENDLESS).run(runtime).await?.into_values_sorted().await?;
    Ok(())
}

async fn outputs(runtime: &Runtime) -> anyhow::Result<()> {
    let whole = Tile { x: 0, y: 0, width: PIXELS, height: PIXELS };
    let picture = MandelbrotTile { max_iterations: 1, ..MandelbrotTile::whole(PIXELS, PIXELS) };
    let source = IndexedStream::from_stream(stream::repeat(whole)).options(options());
    let mut pictures = source.map(&picture).run(runtime).await?;
    for _ in 0..READ {
        pictures.try_next().await?;
    }
    eprintln!("reading no more");
    std::future::pending().await
}
