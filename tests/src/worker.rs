//! Worker processes.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    thread::JoinHandle,
};

use crate::{Log, Usage};

const KEEPER: &str = include_str!("keeper.sh");

/// A process, `palfrey worker`. It is killed when this is dropped, or the test dies. Should the test fail, it shows the
/// worker's log.
#[derive(Debug)]
pub struct Worker {
    keeper: Child,
    signals: Option<ChildStdin>,
    log: Log,
    reader: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs it; `command` is the worker's.
    pub(crate) fn start(worker: &Command) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(worker.get_program()).args(worker.get_args());
        for (name, value) in worker.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // Of a process group of its own, so that Ctrl-C reaches the test alone, and its end the keeper.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut keeper = command.spawn().expect("there is a shell");
        let signals = keeper.stdin.take();
        let (log, reader) = Log::read(keeper.stderr.take().expect("it is piped"));
        Self { keeper, signals, log, reader: Some(reader) }
    }

    /// What it has logged.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its number on this machine, which `/proc` knows it by.
    ///
    /// # Panics
    /// If it has ended.
    pub fn process(&self) -> u32 {
        let keeper = self.keeper.id();
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("it is Linux");
        let name = |id: &str| std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        // The keeper has a shell of its own beside it.
        let worker = children.split_whitespace().find(|id| name(id).trim() != "sh");
        worker.and_then(|id| id.parse().ok()).expect("the worker has not ended")
    }

    /// What it holds now.
    ///
    /// # Panics
    /// If it has ended.
    pub fn usage(&self) -> Usage {
        Usage::of(self.process())
    }

    /// Waits until it takes tasks.
    ///
    /// # Panics
    /// If it ends before.
    pub async fn ready(&self) {
        self.log.until(&["taking tasks"]).await;
    }

    /// Sends a signal by name: `TERM`, `INT`, `KILL`. Nothing happens if it has ended.
    pub fn signal(&mut self, name: &str) {
        let signals = self.signals.as_mut().expect("it is open until the end");
        // Nobody reads it any more then; how it ended is what its exit code says.
        writeln!(signals, "{name}").ok();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.keeper.try_wait(), Ok(None))
    }

    /// Waits for its end. Returns the exit code, or 128 and the number of the signal that ended it.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`](crate::PATIENCE).
    pub async fn ended(&mut self) -> i32 {
        self.log.end().await;
        // It has closed its log, which is its last act, or close to it.
        let status = self.keeper.wait().expect("it is our child");
        status.code().expect("nobody kills the keeper")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.signals.take());
        self.keeper.wait().ok();
        self.reader.take().map(JoinHandle::join);
        if std::thread::panicking() {
            eprintln!("the log of a worker:\n{}", self.log);
        }
    }
}
