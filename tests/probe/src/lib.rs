//! The plugin `probe` of the tests: its outputs and messages tell which version executes what, and where.
//!
//! One source makes two packages, `probe-1` and `probe-2`: two versions of one plugin. Programs that were compiled with
//! either can use both for [`Stamp`] and [`Mark`]; [`Measure`] has other types in each.

use std::hint::black_box;

use palfrey_sdk::{Operation, RemoteExecute, Result, Schema};
use serde::{Deserialize, Serialize};

palfrey_sdk::registry!(Stamp, Mark, Measure);

/// The major version of this plugin.
pub const VERSION: u32 = if cfg!(generation = "1") { 1 } else { 2 };

/// Logs `stamping N by version V`, counts to `work`, and returns the version with its input.
///
/// A hundred million take some tenths of a second, [`Stamp::ENDLESS`] takes centuries.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Stamp {
    /// How far to count.
    pub work: u64,
}

impl Stamp {
    /// As quick as an operation can be.
    pub const QUICK: Self = Self { work: 0 };
    /// It ends when it is stopped.
    pub const ENDLESS: Self = Self { work: u64::MAX };
}

impl Operation for Stamp {
    type Input = u64;
    type Output = (u32, u64);

    fn execute(&self, number: u64) -> Result<(u32, u64)> {
        tracing::info!("stamping {number} by version {VERSION}");
        let mut count = 0;
        while count < self.work {
            count = black_box(count + 1);
        }
        Ok((VERSION, number))
    }
}

/// Returns the version with its input, and says nothing: for what goes on beside the stamping that a test counts.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Mark;

impl Operation for Mark {
    type Input = u64;
    type Output = (u32, u64);

    fn execute(&self, number: u64) -> Result<(u32, u64)> {
        Ok((VERSION, number))
    }
}

/// What [`Measure`] takes: a wider number in each version.
#[cfg(generation = "1")]
pub type Length = u32;
/// What [`Measure`] takes: a wider number in each version.
#[cfg(generation = "2")]
pub type Length = u64;

/// Returns its input.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Measure;

impl Operation for Measure {
    type Input = Length;
    type Output = Length;

    fn execute(&self, length: Length) -> Result<Length> {
        Ok(length)
    }
}
