//! What a process holds, as Linux tells.

use std::{fmt, path::PathBuf};

/// Resident memory by which a worker may differ from before: caches fill, and allocators keep what they had.
const MEMORY_SLACK: u64 = 32 << 20;
/// File descriptors by which it may differ: a connection that is being replaced.
const FILE_SLACK: usize = 4;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Bytes of resident memory.
    pub memory: u64,
    /// Open file descriptors.
    pub files: usize,
}

impl Usage {
    /// Of a process, by its number.
    pub(crate) fn of(process: u32) -> Self {
        let process = PathBuf::from(format!("/proc/{process}"));
        let status = std::fs::read_to_string(process.join("status")).expect("the worker runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse().expect("it is a number");
        let files = std::fs::read_dir(process.join("fd")).expect("the worker runs").count();
        Self { memory: kibibytes << 10, files }
    }

    /// Of the same process, before and after.
    ///
    /// # Panics
    /// If it holds noticeably more.
    pub(crate) fn assert_did_not_grow([before, after]: [Self; 2]) {
        assert!(after.memory <= before.memory + MEMORY_SLACK, "resident memory grew: {before} before, {after} after");
        assert!(after.files <= before.files + FILE_SLACK, "open files grew: {before} before, {after} after");
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB and {} files", self.memory as f64 / (1 << 20) as f64, self.files)
    }
}
