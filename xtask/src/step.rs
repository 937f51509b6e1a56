//! Lines that say what is done and how long it took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Does something that takes a while, and says so before and after it.
pub(crate) fn step<T>(what: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
    timed(what, action).0
}

/// As [`step`], and returns the time as well.
pub(crate) fn timed<T>(what: &str, action: impl FnOnce() -> Result<T>) -> (Result<T>, Duration) {
    eprintln!("» {what}");
    let started = Instant::now();
    let result = action();
    let time = started.elapsed();
    match &result {
        Ok(_) => eprintln!("✓ {what}: {:.1} s", time.as_secs_f64()),
        Err(_) => eprintln!("✗ {what}: failed after {:.1} s", time.as_secs_f64()),
    }
    (result, time)
}
