//! Worker processes: this program once more, until its standard input is closed.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    bare_lapin,
    contestant::Site,
    explain::{Sums, Times},
    paladin_peer, palfrey,
    work::Work,
};

/// A process that ends with the value.
pub(crate) struct Worker {
    process: Child,
    log: PathBuf,
    /// How often it was told to tell.
    told: usize,
}

/// How long somebody may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a worker is told: to add up where the time of its tasks goes, and to tell.
const LISTEN: &str = "listen";
const TELL: &str = "tell";
/// What it answers begins with this.
const TOLD: &str = "times: ";

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
            .args(site.explains.then_some("--explain"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a worker")?;
        Ok(Self { process, log: path, told: 0 })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it says something.
    pub(crate) async fn says(&self, text: &str) -> Result<()> {
        self.says_often(text, 1).await.map(drop)
    }

    /// Waits until it has said something so often. Returns what stands behind it.
    async fn says_often(&self, text: &str, times: usize) -> Result<String> {
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        let said = async {
            loop {
                let log = fs::read_to_string(&self.log)?;
                // A line that is not there as a whole is not there.
                let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
                if let Some(rest) = whole.split(text).nth(times) {
                    return anyhow::Ok(rest.lines().next().unwrap_or_default().to_owned());
                }
                looks.tick().await;
            }
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        said.with_context(|| format!("a worker does not say `{text}`: see {}", self.log.display()))?
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.process.stdin.as_mut().context("it is open until the end")?;
        writeln!(stdin, "{line}").context("a worker has ended")
    }

    /// From now on it adds up where the time goes.
    pub(crate) fn listen(&mut self) -> Result<()> {
        self.tell(LISTEN)
    }

    /// What it has added up.
    pub(crate) async fn heard(&mut self) -> Result<Sums> {
        self.tell(TELL)?;
        self.told += 1;
        Ok(serde_json::from_str(&self.says_often(TOLD, self.told).await?)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}

/// What a worker process does.
pub(crate) async fn serve(kind: &str, uri: &str, cache: Option<PathBuf>, times: &Times) -> Result<()> {
    let work = async {
        match kind {
            palfrey::WORKER => palfrey::serve(uri, cache).await,
            paladin_peer::WORKER => paladin_peer::serve(uri).await,
            bare_lapin::WORKER => bare_lapin::serve(uri).await,
            unknown => bail!("there is no worker `{unknown}`"),
        }
    };
    let obey = async {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            match line.as_str() {
                LISTEN => times.listen(true),
                TELL => println!("{TOLD}{}", serde_json::to_string(&times.take())?),
                unknown => bail!("nobody knows what `{unknown}` is"),
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = work => ended,
        ended = obey => ended,
    }
}
