palfrey_sdk::registry!();

fn main() {}
