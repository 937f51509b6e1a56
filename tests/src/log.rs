//! What a process writes, as a test sees it.

use std::{
    collections::BTreeSet,
    fmt,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use crate::PATIENCE;

/// The lines that a process has written so far. Clones see the same.
#[derive(Debug, Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    /// Their number. The sender is gone when the process has ended.
    written: watch::Receiver<usize>,
}

impl Log {
    /// Reads until the end of the output, on a thread of its own.
    pub(crate) fn read(output: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let (sender, written) = watch::channel(0);
        let log = Self { lines: Arc::default(), written };
        let lines = log.lines.clone();
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(String::from_utf8_lossy(&line).into_owned());
                sender.send_replace(lines.len());
            }
        });
        (log, reader)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line contains all of these texts.
    pub fn has(&self, texts: &[&str]) -> bool {
        self.find(texts).is_some()
    }

    fn find(&self, texts: &[&str]) -> Option<String> {
        self.lines().iter().find(|line| texts.iter().all(|text| line.contains(text))).cloned()
    }

    /// The last line that contains a text, from where it contains it.
    pub fn last(&self, marker: &str) -> Option<String> {
        self.lines().iter().rev().find_map(|line| Some(line[line.find(marker)?..].to_owned()))
    }

    /// The days on which its lines were written, as the process knows them.
    pub fn days(&self) -> BTreeSet<String> {
        self.lines()
            .iter()
            .filter_map(|line| Some(line.split_once('T')?.0.to_owned()))
            .filter(|day| day.len() == 10)
            .collect()
    }

    /// The lines that contain all of these texts.
    pub fn having(&self, texts: &[&str]) -> Vec<String> {
        self.lines().iter().filter(|line| texts.iter().all(|text| line.contains(text))).cloned().collect()
    }

    /// How many lines contain all of these texts.
    pub fn count(&self, texts: &[&str]) -> usize {
        self.lines().iter().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// Waits until some condition on it is met.
    ///
    /// # Panics
    /// If that takes longer than [`PATIENCE`], or the process ends before.
    pub async fn until_it(&self, expected: &str, condition: impl Fn(&Self) -> bool) {
        let mut written = self.written.clone();
        let waiting = async {
            loop {
                written.mark_unchanged();
                if condition(self) {
                    return Ok(());
                }
                if written.changed().await.is_err() {
                    return if condition(self) { Ok(()) } else { Err("the process has ended") };
                }
            }
        };
        if let Err(reason) = tokio::time::timeout(PATIENCE, waiting).await.unwrap_or(Err("it took too long")) {
            panic!("{expected}: not so, {reason}:\n{self}");
        }
    }

    /// The texts behind `marker`, up to the next space, of all lines that contain it.
    pub fn words_after(&self, marker: &str) -> Vec<String> {
        let word = |line: &String| {
            let (_, rest) = line.split_once(marker)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        self.lines().iter().filter_map(word).collect()
    }

    /// Waits for the first line that contains all of these texts, which may be there already.
    ///
    /// # Panics
    /// If it does not come within [`PATIENCE`] or before the process ends.
    pub async fn until(&self, texts: &[&str]) -> String {
        let mut written = self.written.clone();
        let waiting = async {
            loop {
                written.mark_unchanged();
                if let Some(line) = self.find(texts) {
                    return Ok(line);
                }
                if written.changed().await.is_err() {
                    return self.find(texts).ok_or("the process has ended");
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await.unwrap_or(Err("it took too long")) {
            Ok(line) => line,
            Err(reason) => panic!("no line with {texts:?}, {reason}:\n{self}"),
        }
    }

    /// Waits until the process has closed it.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`].
    pub(crate) async fn end(&self) {
        let mut written = self.written.clone();
        let ended = async { while written.changed().await.is_ok() {} };
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            panic!("the process does not end:\n{self}");
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "  | {line}"))
    }
}
