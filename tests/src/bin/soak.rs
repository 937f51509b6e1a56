//! What `cargo xtask soak` runs: see `palfrey_tests::soak`, and `palfrey_tests::hostile` for its option `--guests`.

use std::time::Instant;

use palfrey_tests::{World, hostile::endure, soak::soak};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let number = |text: String| text.parse::<u64>().expect("a number");
    let runtime = tokio::runtime::Runtime::new().expect("threads can be had");
    let (world, started) = (World::new(), Instant::now());
    match arguments.next().as_deref() {
        Some("--guests") => {
            let rounds = arguments.next().map_or(240, number);
            let endured = runtime.block_on(endure(&world, rounds, |round| {
                if round % 20 == 0 && round > 0 {
                    eprintln!("{round} of {rounds} rounds in {:.0} s", started.elapsed().as_secs_f64());
                }
            }));
            print!("{endured}");
        }
        messages => {
            let messages = messages.map_or(1_000_000, |text| number(text.to_owned()));
            let soaked = runtime.block_on(soak(&world, messages, |sent| {
                if sent % (1 << 16) == 0 && sent > 0 {
                    eprintln!("{sent} of {messages} messages in {:.0} s", started.elapsed().as_secs_f64());
                }
            }));
            print!("{soaked}");
        }
    }
}
