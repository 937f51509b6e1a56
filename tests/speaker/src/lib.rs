//! The plugin `speaker` of the tests: its operations fail, and speak, in every way that the SDK offers.

use anyhow::Context as _;
use palfrey_sdk::{
    FatalError, FatalStrategy, Monoid, Operation, RemoteExecute, Result, RetryStrategy, Schema, TransientError, context,
};
use serde::{Deserialize, Serialize};

palfrey_sdk::registry!(PanicOn, ParsePort, IgnoreMultiplesOf, Stubborn, SumUpTo, Speak, Report);

/// Panics on a number, and returns the others.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct PanicOn(pub u64);

impl Operation for PanicOn {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        assert!(number != self.0, "{number} is not for me");
        Ok(number)
    }
}

/// Parses a port; an error has a cause, and that cause another.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct ParsePort;

impl Operation for ParsePort {
    type Input = String;
    type Output = u16;

    fn execute(&self, text: String) -> Result<u16> {
        let port = text.parse::<u16>().with_context(|| format!("`{text}` is no port"));
        Ok(port.context("the configuration is broken")?)
    }
}

/// Fails on multiples of a number in a way to be ignored, and returns the others.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct IgnoreMultiplesOf(pub u64);

impl Operation for IgnoreMultiplesOf {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        if number.is_multiple_of(self.0) {
            let error = FatalError::msg(format!("{number} is a multiple of {}", self.0));
            return Err(error.with_strategy(FatalStrategy::Ignore).into());
        }
        Ok(number)
    }
}

/// Each element says how often it fails before it is returned. The config has no schema.
#[derive(Debug, Clone, Serialize, Deserialize, RemoteExecute)]
pub struct Stubborn {
    /// How often and when to try again.
    pub retry: RetryStrategy,
    /// What it means when the retries are used up.
    pub exhausted: FatalStrategy,
}

impl Operation for Stubborn {
    type Input = u64;
    type Output = u64;

    fn execute(&self, failures: u64) -> Result<u64> {
        let attempt = context::attempt();
        if u64::from(attempt) >= failures {
            return Ok(failures);
        }
        let error = TransientError::msg(format!("attempt {attempt} fails"));
        Err(error.with_retry(self.retry).with_exhausted(self.exhausted).into())
    }
}

/// Adds, as long as the sum does not exceed a limit.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct SumUpTo {
    /// The limit.
    pub limit: u64,
    /// What happens beyond it.
    pub beyond: Beyond,
}

/// What [`SumUpTo`] does when a sum would exceed the limit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Schema)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub enum Beyond {
    /// Fail in a way to be ignored.
    Ignore,
    /// Panic.
    Panic,
}

impl Monoid for SumUpTo {
    type Elem = u64;

    fn empty(&self) -> u64 {
        0
    }

    fn combine(&self, left: u64, right: u64) -> Result<u64> {
        match (left + right, self.beyond) {
            (sum, _) if sum <= self.limit => Ok(sum),
            (sum, Beyond::Ignore) => {
                let error = FatalError::msg(format!("{sum} exceeds {}", self.limit));
                Err(error.with_strategy(FatalStrategy::Ignore).into())
            }
            (sum, Beyond::Panic) => panic!("{sum} exceeds {}", self.limit),
        }
    }
}

/// Says a text: prints it on stdout and on stderr, and logs it.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Speak;

impl Operation for Speak {
    type Input = String;
    type Output = ();

    fn execute(&self, text: String) -> Result<()> {
        println!("printed {text}");
        eprintln!("complained {text}");
        tracing::error!(length = text.len(), tone = "calm", "logged {text}");
        tracing::debug!(text);
        Ok(())
    }
}

/// Reports its progress in rows, of which there are as many as the input says.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Report;

impl Operation for Report {
    type Input = u64;
    type Output = ();

    fn execute(&self, rows: u64) -> Result<()> {
        for done in 0..=rows {
            context::progress_in(done, rows, "rows");
        }
        Ok(())
    }
}
