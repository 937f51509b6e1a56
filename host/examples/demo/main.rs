//! What Palfrey does, on real input: it counts the words of all Rust sources that cargo has unpacked on this machine, and
//! renders a picture of the Mandelbrot set. The operations are the plugins `text` and `fractal`.
//!
//! `cargo xtask demo` builds all that is needed and runs it. By hand, in memory:
//! `cargo xtask plugins && cargo run --example demo`
//!
//! Over RabbitMQ, with workers anywhere; then everything is also done in memory, and the results are compared:
//! `cargo run --example demo -- --runtime amqp --amqp-uri amqp://guest:guest@127.0.0.1:5672/%2f`
//!
//! `words` and `picture` hold one job each, with what it prints. Start with [`jobs`].

mod picture;
mod progress;
mod sources;
mod words;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use bytesize::ByteSize;
use clap::Parser;
use palfrey_host::{Config, Runtime, config::Transport, task::Digest};

use crate::{picture::Picture, sources::Sources, words::Words};

/// Counts the words of Rust sources and renders a picture, on Palfrey workers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder whose .rs files are read [default: registry/src in cargo's home]
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,
    /// Leaves files out once so many bytes are read, such as 50MB
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<ByteSize>,
    /// Pixels of the picture, from left to right and from top to bottom
    #[arg(long, value_name = "PIXELS", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    size: u32,
    /// Where the picture is written
    #[arg(long, value_name = "FILE", default_value = "target/demo/mandelbrot.png")]
    picture: PathBuf,
    /// Folder with the components text.wasm and fractal.wasm
    #[arg(long, value_name = "DIR", default_value = "target/wasm32-wasip2/release")]
    plugins: PathBuf,
    #[command(flatten)]
    config: Config,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The client library calls an orderly end an error.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn,lapin=off").init();
    let arguments = Arguments::parse();
    let folder = match &arguments.sources {
        Some(folder) => folder.clone(),
        None => cargo_home()?.join("registry/src"),
    };
    let sources = Sources::survey(&folder, arguments.max_bytes.map(|bytes| bytes.as_u64()))?;
    println!("{sources}");

    let (words, picture) = jobs(&arguments, &arguments.config, &sources).await?;
    words.print();
    let native = words::natively(&sources)?;
    words.print_speeds(&native, &sources);
    ensure!(words.digest() == native.digest(), "the workers and the native loop disagree about the words");
    println!("Both counted the same: {}.\n", words.digest().short());
    picture.write(&arguments.picture)?;
    println!("{picture}\nIt is in {}.\n", arguments.picture.display());

    if arguments.config.runtime == Transport::Amqp {
        println!("The same once more, with workers in memory:");
        let in_memory = Config { runtime: Transport::InMemory, ..arguments.config.clone() };
        let (words_in_memory, picture_in_memory) = jobs(&arguments, &in_memory, &sources).await?;
        println!("{words_in_memory}\n{picture_in_memory}\n");
        compare("words", words.digest(), words_in_memory.digest())?;
        compare("picture", picture.digest(), picture_in_memory.digest())?;
        println!();
    }
    print_what_next(arguments.config.runtime);
    Ok(())
}

/// Deploys the plugins, and does both jobs.
async fn jobs(arguments: &Arguments, config: &Config, sources: &Sources) -> anyhow::Result<(Words, Picture)> {
    let runtime = Runtime::from_config(config).await?;
    for plugin in ["text", "fractal"] {
        deploy(&runtime, &arguments.plugins.join(plugin).with_extension("wasm")).await?;
    }
    words::first_answer(&runtime).await?;
    let words = words::on_workers(&runtime, sources).await?;
    let picture = picture::render(&runtime, arguments.size).await?;
    runtime.close().await?;
    Ok((words, picture))
}

async fn deploy(runtime: &Runtime, component: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(component)
        .with_context(|| format!("cannot read {}: build it with `cargo xtask plugins`", component.display()))?;
    let started = Instant::now();
    let deployed = runtime.deploy(bytes).await?.deployment;
    println!(
        "Deployed {} {} ({}, {}) in {:.2} s.",
        deployed.description.name,
        deployed.description.version,
        ByteSize(deployed.size),
        deployed.digest.short(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn compare(what: &str, over_rabbitmq: Digest, in_memory: Digest) -> anyhow::Result<()> {
    if over_rabbitmq != in_memory {
        bail!("the {what} differ: {over_rabbitmq} over RabbitMQ, {in_memory} in memory");
    }
    println!("The {what} over RabbitMQ and in memory: the same, {}.", in_memory.short());
    Ok(())
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".cargo"));
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    cargo_home.context("there is no home folder to look for sources in: name a folder with `--sources DIR`")
}

fn print_what_next(transport: Transport) {
    println!(
        "What happened: two WebAssembly components were deployed to running workers, which knew nothing of them
before. Directives cut their inputs into batches, the workers executed these in fresh sandboxes without
files, network or clock, and the results were put together in order.

What to try next:"
    );
    if transport == Transport::InMemory {
        println!("  cargo xtask demo --runtime amqp    the same over RabbitMQ, with two worker processes");
    }
    println!(
        "  cargo xtask demo --sources DIR     the words of another folder
  cargo run --example fib            a first program
  plugins/text/src/lib.rs            how the operations are written"
    );
}
