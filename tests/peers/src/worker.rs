//! Worker processes: this program once more, until its standard input is closed.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncReadExt as _;

use crate::{bare_lapin, contestant::Site, paladin_peer, palfrey, work::Work};

/// A process that ends with the value.
pub(crate) struct Worker(Child);

impl Worker {
    /// As many workers as the work has slots, of one slot each.
    pub(crate) fn start_all(site: &Site, work: &Work, kind: &str) -> Result<Vec<Self>> {
        (0..work.slots).map(|number| Self::start(site, kind, number)).collect()
    }

    fn start(site: &Site, kind: &str, number: usize) -> Result<Self> {
        let path = site.logs.join(format!("{kind}-{number}.log"));
        let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["worker", kind, "--uri", &site.uri])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a worker")?;
        Ok(Self(child))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// What a worker process does.
pub(crate) async fn serve(kind: &str, uri: &str) -> Result<()> {
    let work = async {
        match kind {
            palfrey::WORKER => palfrey::serve(uri).await,
            paladin_peer::WORKER => paladin_peer::serve(uri).await,
            bare_lapin::WORKER => bare_lapin::serve(uri).await,
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
