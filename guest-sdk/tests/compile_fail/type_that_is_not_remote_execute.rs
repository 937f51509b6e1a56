use palfrey_sdk::{Operation, Result};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct AddOne;

impl Operation for AddOne {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        Ok(number)
    }
}

palfrey_sdk::registry!(AddOne);

fn main() {}
