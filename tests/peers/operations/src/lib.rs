//! What all contestants execute: plain functions, and the same as operations of Palfrey.

use palfrey_sdk::{Blob, Monoid, Operation, RemoteExecute, Result, Schema};
use serde::{Deserialize, Serialize};

palfrey_sdk::registry!(Same, Sum, Echo, Burn, Uneven);

/// Computes for as many rounds as are asked for: xorshift, which no compiler sees through.
pub fn burn(seed: u64, rounds: u64) -> u64 {
    let mut state = seed | 1;
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state
}

/// Returns its input.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Same;

impl Operation for Same {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        Ok(number)
    }
}

/// Adds.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Sum;

impl Monoid for Sum {
    type Elem = u64;

    fn empty(&self) -> u64 {
        0
    }

    fn combine(&self, left: u64, right: u64) -> Result<u64> {
        Ok(left.wrapping_add(right))
    }
}

/// Returns its input, however large.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Echo;

impl Operation for Echo {
    type Input = Blob;
    type Output = Blob;

    fn execute(&self, bytes: Blob) -> Result<Blob> {
        Ok(bytes)
    }
}

/// [`burn`]s.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Burn {
    /// How many.
    pub rounds: u64,
}

impl Operation for Burn {
    type Input = u64;
    type Output = u64;

    fn execute(&self, seed: u64) -> Result<u64> {
        Ok(burn(seed, self.rounds))
    }
}

/// [`burn`]s for as many rounds as its input says.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Uneven;

impl Operation for Uneven {
    type Input = u64;
    type Output = u64;

    fn execute(&self, rounds: u64) -> Result<u64> {
        Ok(burn(rounds, rounds))
    }
}
