//! The binary `palfrey`: workers, and what an operator does with them.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
