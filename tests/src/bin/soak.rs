//! What `cargo xtask soak` runs: see `palfrey_tests::soak`.

use std::time::Instant;

use palfrey_tests::{World, soak::soak};

fn main() {
    let messages = std::env::args().nth(1).map_or(1_000_000, |number| number.parse().expect("a number of messages"));
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be had");
    let started = Instant::now();
    let soaked = runtime.block_on(soak(&world, messages, |sent| {
        if sent % (1 << 16) == 0 && sent > 0 {
            eprintln!("{sent} of {messages} messages in {:.0} s", started.elapsed().as_secs_f64());
        }
    }));
    print!("{soaked}");
}
