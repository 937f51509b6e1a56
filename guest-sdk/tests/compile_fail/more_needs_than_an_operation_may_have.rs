use palfrey_sdk::{Operation, RemoteExecute, Result};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, RemoteExecute)]
#[palfrey(needs(
    "env:V1", "env:V2", "env:V3", "env:V4", "env:V5", "env:V6", "env:V7", "env:V8", "env:V9", "env:V10", "env:V11",
    "env:V12", "env:V13", "env:V14"
))]
#[palfrey(needs("clocks", "entropy", "dir:/models"))]
struct AddOne;

impl Operation for AddOne {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        Ok(number)
    }
}

fn main() {}
