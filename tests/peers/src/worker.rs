//! Worker processes: this program once more, until its standard input is closed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncReadExt as _;

use crate::{bare_lapin, contestant::Site, paladin_peer, palfrey, work::Work};

/// A process that ends with the value.
pub(crate) struct Worker {
    process: Child,
    log: PathBuf,
}

/// How long somebody may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

impl Worker {
    /// As many workers as the work has slots, of one slot each.
    pub(crate) fn start_all(site: &Site, work: &Work, kind: &str) -> Result<Vec<Self>> {
        (0..work.slots).map(|number| Self::start(site, kind, number, None)).collect()
    }

    /// One worker. What it says goes to a file with its number.
    pub(crate) fn start(site: &Site, kind: &str, number: usize, cache: Option<&Path>) -> Result<Self> {
        let path = site.logs.join(format!("{kind}-{number}.log"));
        let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let process = Command::new(std::env::current_exe()?)
            .args(["worker", kind, "--uri", &site.uri])
            .args(cache.iter().flat_map(|cache| ["--cache".as_ref(), cache.as_os_str()]))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a worker")?;
        Ok(Self { process, log: path })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it says something.
    pub(crate) async fn says(&self, text: &str) -> Result<()> {
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        let said = async {
            while !fs::read_to_string(&self.log)?.contains(text) {
                looks.tick().await;
            }
            anyhow::Ok(())
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        said.with_context(|| format!("a worker does not say `{text}`: see {}", self.log.display()))?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}

/// What a worker process does.
pub(crate) async fn serve(kind: &str, uri: &str, cache: Option<PathBuf>) -> Result<()> {
    let work = async {
        match kind {
            palfrey::WORKER => palfrey::serve(uri, cache).await,
            paladin_peer::WORKER => paladin_peer::serve(uri).await,
            bare_lapin::WORKER => bare_lapin::serve(uri).await,
            bare_lapin::CONNECTION => bare_lapin::connect(uri).await,
            unknown => bail!("there is no worker `{unknown}`"),
        }
    };
    let mut ignored = [0];
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        ended = work => ended,
        _ = stdin.read(&mut ignored) => Ok(()),
    }
}
