//! The Fibonacci numbers at 1 to 10, and their sum: 143.
//!
//! In memory:
//! `cargo xtask plugins` and `cargo run --example fib`
//!
//! Over RabbitMQ, with workers anywhere:
//! `cargo run --example fib -- --runtime amqp --amqp-uri amqp://guest:guest@127.0.0.1:5672/%2f`

use std::path::PathBuf;

use anyhow::Context as _;
use arith::{FibAt, Sum};
use clap::Parser;
use palfrey_host::{Config, Runtime, directive::*};

/// Adds up Fibonacci numbers on Palfrey workers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The component with the operations
    #[arg(long, default_value = "target/wasm32-wasip2/release/arith.wasm")]
    plugin: PathBuf,
    #[command(flatten)]
    config: Config,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The client library calls an orderly end an error.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("info,lapin=off").init();
    let Arguments { plugin, config } = Arguments::parse();
    let component = std::fs::read(&plugin).with_context(|| {
        format!(
            "cannot read {}: build it with `cargo build --release --target wasm32-wasip2 -p arith`",
            plugin.display()
        )
    })?;

    let runtime = Runtime::from_config(&config).await?;
    runtime.deploy(component).await?;
    let sum = IndexedStream::from(1..=10).map(&FibAt).fold(&Sum).run(&runtime).await?;
    println!("{sum}");
    Ok(runtime.close().await?)
}
