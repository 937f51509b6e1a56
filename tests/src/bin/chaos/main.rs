//! Random faults, in an order that a seed decides, while jobs run whose answers are known.
//!
//! `cargo xtask chaos` builds and runs it. Jobs, workers and a broker of its own begin anew every so many faults; then
//! results are exact, every queue is empty, and every worker knows what the log of deployments says, or this ends with an
//! error and the seed.

mod fault;
mod theatre;

use std::{
    fs::File,
    io::Write as _,
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use clap::Parser;
use fault::Fault;
use palfrey_tests::target;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use theatre::Theatre;

/// Jobs are looked at, and begin anew, after so many faults.
const FAULTS_PER_JOB: u32 = 10;

/// Does to Palfrey what can be done to it, at random
#[derive(Debug, Parser)]
struct Arguments {
    /// Decides which faults come, and in which order
    #[arg(long)]
    seed: u64,
    /// How many
    #[arg(long, default_value_t = 100)]
    faults: u32,
    /// Ends earlier, with the job that is under way then
    #[arg(long)]
    minutes: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { seed, faults, minutes } = Arguments::parse();
    // The lines of the faults are what is read here. What a worker has logged is shown when something is wrong.
    let log = target().join("chaos.log");
    let file = File::create(&log).expect("there is a folder for what is built");
    let filter = "info,palfrey_host=debug,lapin=off";
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Mutex::new(file)).init();
    println!("seed {seed}: {faults} faults; what programs log is in {}", log.display());
    let started = Instant::now();
    let deadline = minutes.map(|minutes| started + Duration::from_secs(60 * minutes));
    // What is wrong panics, as in a test, and has said by then what it is.
    match tokio::spawn(play(seed, faults, deadline)).await {
        Ok(done) => {
            let seconds = started.elapsed().as_secs();
            println!("seed {seed}: {done} faults in {seconds} s; nothing lost, nothing doubled, nothing wrong");
            ExitCode::SUCCESS
        }
        Err(_) => {
            println!(
                "seed {seed}: something is wrong, see above; `cargo xtask chaos --seed {seed} --faults {faults}` repeats it"
            );
            ExitCode::FAILURE
        }
    }
}

async fn play(seed: u64, faults: u32, deadline: Option<Instant>) -> u32 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut theatre = Theatre::open().await;
    let mut number = 0;
    while number < faults && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        // Somebody deploys beside every second job.
        let mut act = theatre.begin(number / FAULTS_PER_JOB % 2 == 1).await;
        for _ in 0..FAULTS_PER_JOB.min(faults - number) {
            number += 1;
            let fault = Fault::choose(&mut random);
            let begun = Instant::now();
            // What has struck is to be seen before it is over.
            print!("{number:>5}  {fault}: ");
            std::io::stdout().flush().ok();
            theatre.strike(&mut act, fault).await;
            theatre.answers(&act).await;
            let (folded, mapped) = act.done();
            println!("{:.1} s; the jobs have done {folded} and {mapped}", begun.elapsed().as_secs_f64());
        }
        let begun = Instant::now();
        theatre.end(act).await;
        println!("       exact, everything settled and agreed upon after {:.1} s", begun.elapsed().as_secs_f64());
    }
    number
}
