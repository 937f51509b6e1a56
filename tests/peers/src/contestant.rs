//! Who takes part, and what each of them has to be able to do.

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::Result;
use async_trait::async_trait;

use crate::{bare, bare_lapin, paladin_peer, palfrey, python, work::Work, worker::Worker};

/// Where the contestants find what they need.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The broker that all of them use.
    pub(crate) uri: String,
    /// The operations as a component.
    pub(crate) component: PathBuf,
    /// Where Palfrey's own plugins are.
    pub(crate) plugins: PathBuf,
    /// An interpreter that has Celery and Dask.
    pub(crate) python: PathBuf,
    /// Where workers write what they have to say.
    pub(crate) logs: PathBuf,
    /// Whether they tell where the time goes.
    pub(crate) explains: bool,
}

impl Site {
    /// One of Palfrey's own plugins.
    pub(crate) fn plugin(&self, name: &str) -> PathBuf {
        self.plugins.join(name).with_extension("wasm")
    }
}

/// What one repetition came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// From before the first input was taken until the last output was there.
    pub(crate) took: Duration,
    /// To be compared with [`Job::answer`](crate::work::Job::answer).
    pub(crate) answer: u64,
    /// How long each element took, where they were sent one after the other.
    pub(crate) latencies: Vec<Duration>,
    /// Elements of a message, in the mean, where the contestant chose it.
    pub(crate) batch: Option<usize>,
}

/// Somebody who can do a work. Dropping it ends its workers.
#[async_trait(?Send)]
pub(crate) trait Contestant {
    /// Does the work with the inputs `0..count`.
    async fn run(&mut self, work: &Work, count: u64) -> Result<Outcome>;

    /// Those that can tell where the time goes.
    fn workers(&mut self) -> &mut [Worker] {
        &mut []
    }
}

/// The contestants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Palfrey,
    PalfreyKept,
    PalfreyInMemory,
    Paladin,
    PaladinInMemory,
    Lapin,
    Celery,
    Dask,
    Wasm,
    Native,
}

impl Who {
    /// Starts it, with its workers.
    pub(crate) async fn start(self, site: &Site, work: &Work) -> Result<Box<dyn Contestant>> {
        Ok(match self {
            Self::Palfrey => Box::new(palfrey::Palfrey::over_amqp(site, work, false).await?),
            Self::PalfreyKept => Box::new(palfrey::Palfrey::over_amqp(site, work, true).await?),
            Self::PalfreyInMemory => Box::new(palfrey::Palfrey::in_memory(site, work).await?),
            Self::Paladin => Box::new(paladin_peer::Paladin::over_amqp(site, work).await?),
            Self::PaladinInMemory => Box::new(paladin_peer::Paladin::in_memory(work).await?),
            Self::Lapin => Box::new(bare_lapin::Lapin::start(site, work).await?),
            Self::Celery => Box::new(python::Python::start(site, work, "celery_peer.py").await?),
            Self::Dask => Box::new(python::Python::start(site, work, "dask_peer.py").await?),
            Self::Wasm => Box::new(bare::Wasm::load(&site.component)?),
            Self::Native => Box::new(bare::Native),
        })
    }

    /// What is durable and confirmed when it says that an element is done.
    pub(crate) const fn promises(self) -> &'static str {
        match self {
            Self::Palfrey | Self::PalfreyKept => {
                "tasks: quorum queue, persistent, confirmed; results: durable, persistent, confirmed before the task is \
                 acknowledged; sandboxed"
            }
            Self::PalfreyInMemory => "nothing is durable; sandboxed",
            Self::Paladin => "transient, unconfirmed; a task is acknowledged while its result is sent; native",
            Self::PaladinInMemory => "nothing is durable; native",
            Self::Lapin => "as Palfrey's, by hand; nothing recovers; native",
            Self::Celery => "durable, persistent, unconfirmed; acknowledged before execution; native Python",
            Self::Dask => "nothing is durable; no broker; native Python",
            Self::Wasm => "a loop in this process; sandboxed",
            Self::Native => "a loop in this process; native",
        }
    }

    /// The same in a word or two.
    pub(crate) const fn keeps(self) -> &'static str {
        match self {
            Self::Palfrey | Self::PalfreyKept | Self::Lapin => "tasks, results",
            Self::Celery => "tasks, unconfirmed",
            Self::PalfreyInMemory | Self::Paladin | Self::PaladinInMemory | Self::Dask => "nothing",
            Self::Wasm | Self::Native => "nothing",
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Palfrey => "Palfrey",
            Self::PalfreyKept => "Palfrey, lease kept",
            Self::PalfreyInMemory => "Palfrey in memory",
            Self::Paladin => "Paladin",
            Self::PaladinInMemory => "Paladin in memory",
            Self::Lapin => "bare lapin",
            Self::Celery => "Celery",
            Self::Dask => "Dask",
            Self::Wasm => "bare wasmtime",
            Self::Native => "native",
        })
    }
}
