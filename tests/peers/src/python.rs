//! Peers in Python: a process each, which is told in a line of JSON what to do, and answers in one.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    contestant::{Contestant, Outcome, Site},
    work::{Batch, Job, Measure, Work},
};

pub(crate) struct Python {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

#[derive(Serialize)]
struct Asked {
    job: &'static str,
    measure: &'static str,
    count: u64,
}

#[derive(Deserialize)]
struct Answer {
    took: f64,
    answer: u64,
    latencies: Vec<f64>,
}

impl Python {
    pub(crate) async fn start(site: &Site, work: &Work, script: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let log = |name: String| site.logs.join(name);
        let mut child = Command::new(&site.python)
            .arg(folder.join(script))
            .arg(work.slots.to_string())
            .arg(log(format!("{script}-worker.log")))
            .current_dir(&folder)
            .env("BENCH_AMQP_URI", &site.uri)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log(format!("{script}.log")))?)
            .spawn()
            .with_context(|| format!("cannot start {}", site.python.display()))?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("there are no pipes")
        };
        let mut peer = Self { child, asks: Some(asks), answers: BufReader::new(answers) };
        let first = peer.line().with_context(|| format!("{script} does not start: see {}", site.logs.display()))?;
        ensure!(first.trim() == "ready", "{script} says {first}");
        Ok(peer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "it has ended");
        Ok(line)
    }

    fn ask(&mut self, work: &Work, count: u64) -> Result<Outcome> {
        let job = match work.job {
            Job::Map if work.batch == Batch::Fixed(1) => "map-by-one",
            Job::Map => "map",
            Job::Fold => "fold",
            Job::MapAndFold => "map-fold",
            Job::Echo(_) | Job::Burn(_) => bail!("it has no such operation"),
        };
        let measure = if work.measure == Measure::Latency { "latency" } else { "rate" };
        let asks = self.asks.as_mut().context("it was told to end")?;
        writeln!(asks, "{}", serde_json::to_string(&Asked { job, measure, count })?)?;
        let Answer { took, answer, latencies } = serde_json::from_str(&self.line()?)?;
        let latencies = latencies.into_iter().map(Duration::from_secs_f64).collect();
        Ok(Outcome { took: Duration::from_secs_f64(took), answer, latencies, batch: None })
    }
}

#[async_trait(?Send)]
impl Contestant for Python {
    async fn run(&mut self, work: &Work, count: u64) -> Result<Outcome> {
        #[expect(clippy::disallowed_methods, reason = "nothing else runs on this runtime meanwhile")]
        let outcome = tokio::task::block_in_place(|| self.ask(work, count));
        outcome
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.asks.take());
        self.child.wait().ok();
    }
}
