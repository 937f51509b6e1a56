use palfrey_sdk::{Operation, RemoteExecute, Result};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, RemoteExecute)]
struct Increment;

impl Operation for Increment {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        Ok(number)
    }
}

#[derive(Serialize, Deserialize, RemoteExecute)]
#[palfrey(name = "increment")]
struct AddOne;

impl Operation for AddOne {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        Ok(number)
    }
}

palfrey_sdk::registry!(Increment, AddOne);

fn main() {}
