use palfrey_sdk::RemoteExecute;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, RemoteExecute)]
struct Add<T>(T);

fn main() {}
