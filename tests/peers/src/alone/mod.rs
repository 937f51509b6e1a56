//! What Palfrey shows by itself, beside a limit that is measured in the same breath or a bound that was set.
//!
//! Each measure runs in a process of its own, whose memory and processor time nothing else has a share in.

mod deploying;
mod dispatch;
mod flat;
mod idle;
mod memory;
mod starting;
mod uneven;
mod words;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use palfrey_host::{Config, Runtime};
use serde::{Deserialize, Serialize};

use crate::{contestant::Site, palfrey, worker::Worker};

/// A measure.
pub(crate) struct Alone {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

/// All of them.
pub(crate) const ALONE: &[Alone] = &[
    Alone { name: "words", about: "counting words in memory, beside native threads" },
    Alone {
        name: "uneven",
        about: "operations of Pareto-distributed length, beside the best static schedule in hindsight",
    },
    Alone { name: "dispatch", about: "a batch in a fresh instance, beside bare wasmtime" },
    Alone { name: "memory", about: "the orchestrator's memory while it folds ten million elements over RabbitMQ" },
    Alone { name: "flat", about: "the cost of an element, by elements, slots, plugins and jobs" },
    Alone { name: "deploying", about: "from deploying until ten running workers can execute it" },
    Alone { name: "starting", about: "from starting a worker until it takes tasks, with many plugins" },
    Alone { name: "idle", about: "a worker that has nothing to do" },
];

/// No measure: another process deploys the operations, whose memory the compiler takes.
const DEPLOYER: &str = "deployer";

/// What one measure has shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    what: String,
    measured: String,
    beside: String,
    /// What should be, and whether it is.
    goal: Option<(String, bool)>,
}

impl Row {
    fn new(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { what: what.into(), measured: measured.into(), beside: String::new(), goal: None }
    }

    fn beside(self, limit: impl Into<String>) -> Self {
        Self { beside: limit.into(), ..self }
    }

    fn goal(self, bound: impl Into<String>, reached: bool) -> Self {
        Self { goal: Some((bound.into(), reached)), ..self }
    }
}

/// What a measure needs.
pub(crate) struct Place {
    pub(crate) site: Site,
    pub(crate) quick: bool,
    /// Gone when the measure ends.
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new(site: Site, quick: bool) -> Result<Self> {
        Ok(Self { site, quick, folder: tempfile::tempdir()? })
    }

    /// For machine code.
    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn component(&self) -> Result<Vec<u8>> {
        let path = &self.site.component;
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// An orchestrator in memory with so many slots, and the operations.
    async fn in_memory(&self, slots: usize) -> Result<Runtime> {
        let config = Config { slots: slots.try_into().ok(), cache_dir: Some(self.cache()), ..Config::default() };
        let runtime = Runtime::from_config(&config).await?;
        runtime.deploy(self.component()?).await?;
        Ok(runtime)
    }

    async fn deploy(&self) -> Result<()> {
        Runtime::from_config(&self.config()?).await?.deploy(self.component()?).await?;
        Ok(())
    }

    /// An orchestrator over RabbitMQ, with the operations and so many workers of one slot.
    async fn over_amqp(&self, workers: usize) -> Result<(Runtime, Vec<Worker>)> {
        tokio::task::block_in_place(|| measure_apart(DEPLOYER, &self.site, self.quick))?;
        let runtime = Runtime::from_config(&self.config()?).await?;
        let started = self.workers(workers)?;
        for worker in &started {
            worker.says(palfrey::READY).await?;
        }
        Ok((runtime, started))
    }

    fn workers(&self, count: usize) -> Result<Vec<Worker>> {
        (0..count).map(|number| Worker::start(&self.site, palfrey::WORKER, number, Some(&self.cache()))).collect()
    }

    fn config(&self) -> Result<Config> {
        palfrey::config(&self.site.uri, Some(self.cache()))
    }
}

/// Runs a measure here.
pub(crate) async fn measure(name: &str, place: &Place) -> Result<Vec<Row>> {
    match name {
        "words" => words::measure(place).await,
        "uneven" => uneven::measure(place).await,
        "dispatch" => dispatch::measure(place).await,
        "memory" => memory::measure(place).await,
        "flat" => flat::measure(place).await,
        "deploying" => deploying::measure(place).await,
        "starting" => starting::measure(place).await,
        "idle" => idle::measure(place).await,
        DEPLOYER => place.deploy().await.map(|()| Vec::new()),
        unknown => bail!("there is no measure `{unknown}`"),
    }
}

/// Runs a measure in another process.
pub(crate) fn measure_apart(name: &str, site: &Site, quick: bool) -> Result<Vec<Row>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["alone", name, "--uri", &site.uri])
        .args(["--component".as_ref(), site.component.as_os_str(), "--text".as_ref(), site.text.as_os_str()])
        .args(["--logs".as_ref(), site.logs.as_os_str()])
        .args(quick.then_some("--quick"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start a process")?;
    ensure!(output.status.success(), "`{name}` failed ({})", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("`{name}` says something else than rows"))
}

/// The rows as they are printed.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["what", "measured", "beside", "goal"]);
    for Row { what, measured, beside, goal } in rows {
        let goal = goal
            .as_ref()
            .map_or_else(String::new, |(bound, reached)| format!("{bound} {}", if *reached { "✓" } else { "✗" }));
        table.add_row([what.clone(), measured.clone(), beside.clone(), goal]);
    }
    table
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(Duration, T)> {
    let started = Instant::now();
    let done = work.await?;
    Ok((started.elapsed(), done))
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", 1e3 * duration.as_secs_f64())
}
