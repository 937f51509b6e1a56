use palfrey_sdk::{Operation, RemoteExecute, Result};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, RemoteExecute)]
#[palfrey(name = "add-one", name = "add-1")]
struct AddOne;

impl Operation for AddOne {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        Ok(number)
    }
}

fn main() {}
