use palfrey_sdk::RemoteExecute;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, RemoteExecute)]
struct AddOne;

fn main() {}
