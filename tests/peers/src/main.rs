//! Palfrey side by side with what users would pick instead, and with what the machine can do.
//!
//! `cargo xtask bench` builds and installs everything, starts a broker, and runs this program. `work` is the table of what is
//! measured, `contestant` who takes part; there is a module for each of them. `measure` has them alternate, `report` prints. What
//! has no peers is in `alone`.

mod alone;
mod bare;
mod bare_lapin;
mod contestant;
mod explain;
mod latency;
mod measure;
mod paladin_peer;
mod palfrey;
mod python;
mod report;
mod sweep;
mod work;
mod worker;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    alone::{ALONE, Place},
    contestant::Site,
    explain::Times,
    measure::Effort,
    report::Report,
    sweep::SWEEPS,
    work::WORKS,
};

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures
    Run(Options),
    /// Names the works
    List,
    /// A worker of a contestant, until its standard input is closed
    Worker {
        /// Whose
        kind: String,
        #[arg(long)]
        uri: String,
        /// Where it keeps machine code
        #[arg(long)]
        cache: Option<PathBuf>,
        /// Adds up where the time goes, once it is told to
        #[arg(long)]
        explain: bool,
    },
    /// Compiles a component for a worker
    #[command(name = palfrey::COMPILE)]
    Compile { memory: u64, cpu: u64 },
    /// A measure of Palfrey alone, as JSON
    Alone {
        /// Which
        name: String,
        #[arg(long)]
        uri: String,
        #[arg(long)]
        component: PathBuf,
        #[arg(long)]
        plugins: PathBuf,
        #[arg(long)]
        logs: PathBuf,
        #[arg(long)]
        quick: bool,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// The broker
    #[arg(long)]
    uri: String,
    /// The same broker, where nothing has been deployed: one for each measure that wants that. Repeatable
    #[arg(long)]
    empty: Vec<String>,
    /// The operations, built for WebAssembly
    #[arg(long)]
    component: PathBuf,
    /// Folder with Palfrey's own plugins
    #[arg(long)]
    plugins: PathBuf,
    /// An interpreter that has Celery and Dask
    #[arg(long)]
    python: PathBuf,
    /// Folder for results, and for what workers say
    #[arg(long)]
    out: PathBuf,
    /// Five short repetitions of each
    #[arg(long)]
    quick: bool,
    /// Says where the time of Palfrey's tasks goes
    #[arg(long)]
    explain: bool,
    /// Measures these only
    #[arg(long)]
    only: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let command = Arguments::parse().command;
    // Before anything else takes memory or starts a thread.
    if let Command::Compile { memory, cpu } = command {
        return Ok(palfrey_host::engine::compile_component(memory, cpu));
    }
    tokio::runtime::Runtime::new()?.block_on(obey(command))?;
    Ok(ExitCode::SUCCESS)
}

async fn obey(command: Command) -> Result<()> {
    match command {
        Command::Run(options) => run(&options).await,
        Command::List => {
            WORKS.iter().for_each(|work| println!("{:16} {}", work.name, work.about));
            ALONE.iter().for_each(|alone| println!("{:16} {}", alone.name, alone.about));
            SWEEPS.iter().for_each(|sweep| println!("{:16} {}", sweep.name, sweep.about));
            Ok(())
        }
        Command::Alone { name, uri, component, plugins, logs, quick } => {
            let site = Site { uri, component, plugins, python: PathBuf::new(), logs, explains: false };
            let rows = alone::measure(&name, &Place::new(site, quick)?).await?;
            println!("{}", serde_json::to_string(&rows)?);
            Ok(())
        }
        Command::Worker { kind, uri, cache, explain } => {
            let times = Times::default();
            // As `palfrey worker` does.
            let log = tracing_subscriber::fmt::layer().with_ansi(false).with_filter(EnvFilter::new("info"));
            tracing_subscriber::registry().with(log).with(explain.then(|| times.layer())).init();
            worker::serve(&kind, &uri, cache, &times).await
        }
        // It was done in `main`.
        Command::Compile { .. } => Ok(()),
    }
}

async fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let is_chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let names = WORKS.iter().map(|work| work.name);
    let names = names.chain(ALONE.iter().map(|alone| alone.name)).chain(SWEEPS.iter().map(|sweep| sweep.name));
    if let Some(unknown) = options.only.iter().find(|only| names.clone().all(|name| name != **only)) {
        bail!("there is no work `{unknown}`: `cargo xtask bench --list` names them");
    }
    let logs = options.out.join("logs");
    std::fs::create_dir_all(&logs)?;
    let Options { uri, component, plugins, python, explain, .. } = options;
    let (uri, [component, plugins, python]) = (uri.clone(), [component, plugins, python].map(Clone::clone));
    let site = Site { uri, component, plugins, python, logs, explains: *explain };
    let effort = match options.quick {
        true => Effort { repetitions: 5, length: Duration::from_millis(400) },
        false => Effort { repetitions: 9, length: Duration::from_secs(2) },
    };
    let times = options.explain.then(|| {
        let times = Times::default();
        tracing_subscriber::registry().with(times.layer()).init();
        times
    });
    let mut report = Report::default();
    for work in WORKS.iter().filter(|work| is_chosen(work.name)) {
        let (measured, explained) = measure::measure(&site, work, effort, times.as_ref()).await?;
        report.add(*work, measured);
        explained.iter().for_each(|explained| println!("{explained}"));
    }
    for sweep in SWEEPS.iter().filter(|sweep| is_chosen(sweep.name)) {
        let path = options.out.join(sweep.name).with_extension("svg");
        let effort = Effort { repetitions: 5, length: effort.length / 2 };
        let measured = sweep.measure(&site, effort, options.quick).await?;
        sweep.draw(&path, &measured)?;
        println!("{}: {}", sweep.about, path.display());
        report.add_sweep(sweep, measured);
    }
    // Last, as some of them leave many plugins behind.
    let mut empty = options.empty.iter();
    for alone in ALONE.iter().filter(|alone| is_chosen(alone.name)) {
        let apart = if alone.from_nothing { empty.next() } else { None };
        let site = Site { uri: apart.unwrap_or(&site.uri).clone(), explains: false, ..site.clone() };
        #[expect(clippy::disallowed_methods, reason = "nothing else runs on this runtime meanwhile")]
        let rows = tokio::task::block_in_place(|| alone::measure_apart(alone.name, &site, options.quick))?;
        report.add_alone(alone, rows);
    }
    report.print();
    report.write(&options.out.join("results.json"))?;
    println!("\nAll of it took {:.1} minutes.", started.elapsed().as_secs_f64() / 60.0);
    Ok(())
}
