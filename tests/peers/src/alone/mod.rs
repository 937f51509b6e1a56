//! What Palfrey shows by itself, beside a limit that is measured in the same breath or a bound that was set.
//!
//! Each measure runs in a process of its own, whose memory and processor time nothing else has a share in.

mod deploying;
mod dispatch;
mod flat;
mod idle;
mod memory;
mod row;
mod starting;
mod straggler;
mod uneven;
mod words;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use palfrey_host::{Config, Runtime};

pub(crate) use self::row::Row;
use self::row::{ALL, Bound, Unit};
use crate::{contestant::Site, palfrey, worker::Worker};

/// A measure.
pub(crate) struct Alone {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether it wants a broker in which nothing has been deployed.
    pub(crate) from_nothing: bool,
}

const fn alone(name: &'static str, about: &'static str) -> Alone {
    Alone { name, about, from_nothing: false }
}

/// All of them.
pub(crate) const ALONE: &[Alone] = &[
    alone("words", "counting the words of Rust sources in memory, beside native threads"),
    alone("uneven", "operations of lengths that nobody knows before, beside what no schedule can beat"),
    alone("straggler", "a job of which one worker has a tenth of the time, beside one without it"),
    alone("dispatch", "a batch in a fresh instance, beside bare wasmtime"),
    alone("memory", "the orchestrator's memory while it folds ten million elements over RabbitMQ"),
    alone("flat", "the cost of an element, by elements, slots, operations and jobs"),
    alone("idle", "a worker that has nothing to do"),
    Alone {
        from_nothing: true,
        ..alone("deploying", "from deploying a plugin until ten running workers can execute it")
    },
    Alone {
        from_nothing: true,
        ..alone("starting", "from starting a worker until its first result is there, with many plugins")
    },
];

/// No measure: another process deploys the operations, whose memory the compiler takes.
const DEPLOYER: &str = "deployer";

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

    /// How often each thing is measured, in turns with what is beside it.
    fn repetitions(&self) -> std::ops::Range<usize> {
        0..if self.quick { 5 } else { 9 }
    }

    /// For machine code.
    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// For machine code of a worker that shares none.
    fn own_cache(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("cache-{number}"))
    }

    fn component(&self) -> Result<Vec<u8>> {
        let path = &self.site.component;
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn plugin(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.site.plugin(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// An orchestrator in memory with so many slots, and a component.
    async fn in_memory(&self, slots: usize, component: Vec<u8>) -> Result<Runtime> {
        let config = Config { slots: slots.try_into().ok(), cache_dir: Some(self.cache()), ..Config::default() };
        let runtime = Runtime::from_config(&config).await?;
        runtime.deploy(component).await?;
        Ok(runtime)
    }

    async fn deploy(&self) -> Result<()> {
        let runtime = Runtime::from_config(&self.config()?).await?;
        runtime.deploy(self.component()?).await?;
        runtime.deploy(self.plugin("digest")?).await?;
        Ok(())
    }

    /// An orchestrator over RabbitMQ, with the operations and so many workers of one slot.
    async fn over_amqp(&self, workers: usize) -> Result<(Runtime, Vec<Worker>)> {
        #[expect(clippy::disallowed_methods, reason = "nothing else runs on this runtime meanwhile")]
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
        "straggler" => straggler::measure(place).await,
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
        .args(["--component".as_ref(), site.component.as_os_str(), "--plugins".as_ref(), site.plugins.as_os_str()])
        .args(["--logs".as_ref(), site.logs.as_os_str()])
        .args(quick.then_some("--quick"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start a process")?;
    ensure!(output.status.success(), "`{name}` failed ({})", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("`{name}` says something else than rows"))
}

/// Seconds that some work takes, and what it results in.
async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(f64, T)> {
    let started = Instant::now();
    let done = work.await?;
    Ok((started.elapsed().as_secs_f64(), done))
}
