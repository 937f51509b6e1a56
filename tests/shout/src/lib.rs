use palfrey_sdk::{Operation, RemoteExecute, Result};
use serde::{Deserialize, Serialize};

/// Says it louder.
#[derive(Serialize, Deserialize, RemoteExecute)]
pub struct Shout {
    pub marks: usize,
}

impl Operation for Shout {
    type Input = String;
    type Output = String;

    fn execute(&self, text: String) -> Result<String> {
        Ok(text.to_uppercase() + &"!".repeat(self.marks))
    }
}

palfrey_sdk::registry!(Shout);
