//! How long it takes from the moment at which a program drops a job until its future is gone, and until every worker has stopped
//! the job's guest, while hundreds of tasks are queued. Real workers, a real RabbitMQ; in milliseconds.
//!
//! ```sh
//! cargo xtask plugins
//! cargo build --bin palfrey
//! cargo run -p palfrey-tests --example time_to_abort
//! ```

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use palfrey_host::directive::*;
use palfrey_tests::{Scene, soon};
use probe_1::Stamp;

const WORKERS: usize = 3;
const TASKS: usize = 400;
const ROUNDS: usize = 20;

#[tokio::main]
async fn main() {
    let scene = Scene::new();
    scene.world().deploy(&["probe-1"]).await;
    let telling = ["--log", "info,palfrey_host::plugin=debug,palfrey_host::worker=debug", "--prefetch", "30"];
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(scene.worker(&telling).await);
    }
    let (mut at_the_program, mut everywhere) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let program = scene.program().await;
        let all = NonZeroUsize::new(TASKS).expect("it is not zero");
        let options = JobOptions::default().batch_size(BatchSize::Fixed(NonZeroUsize::MIN)).in_flight(all);
        let source = IndexedStream::from(vec![0_u64; TASKS]).options(options);
        let results = source.map(&Stamp::ENDLESS).run(&program.runtime).await.expect("the plugin is deployed");
        let job = tokio::spawn(results.into_values_sorted());
        for worker in &workers {
            worker.process.log().until_it("it has begun", |log| log.count(&["stamping"]) >= round).await;
        }
        let begun = Instant::now();
        job.abort();
        assert!(soon(job).await.is_err_and(|error| error.is_cancelled()));
        at_the_program.push(begun.elapsed());
        for worker in &workers {
            let told = ["a job was terminated", "stopped="];
            worker.process.log().until_it("it is stopped", |log| log.count(&told) >= round).await;
        }
        everywhere.push(begun.elapsed());
        program.close().await;
        // What was queued is dropped before the next round.
        scene.is_clean(&workers).await;
    }
    println!("{ROUNDS} jobs with {TASKS} tasks on {WORKERS} workers");
    report("gone at the program", at_the_program);
    report("stopped at all workers", everywhere);
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let millis = |time: Duration| 1e3 * time.as_secs_f64();
    let (median, longest) = (millis(times[times.len() / 2]), millis(times[times.len() - 1]));
    println!("{what:<24} median {median:.2} ms, longest {longest:.2} ms");
}
