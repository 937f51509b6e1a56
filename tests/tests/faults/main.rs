//! Whatever dies, results are exact. Every test runs jobs whose answers are known and does something to their middle;
//! docs/FAULTS.md lists what is checked.
//!
//! By hand: `cargo xtask plugins`, `cargo build --bin palfrey`, `cargo test -p palfrey-tests --test faults`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod brokers;
mod chaos;
mod jobs;
mod networks;
mod processes;
mod suspects;

use std::sync::Arc;

use futures::future::select_all;
use palfrey_host::Runtime;
use palfrey_host::directive::JobOptions;
use palfrey_tests::{Deployments, Exact, FREE, Program, Remote, Scene};

/// Jobs under way on workers, while somebody deploys, rolls back and undeploys.
struct Cast {
    workers: Vec<Remote>,
    program: Program,
    exact: Exact,
    deployments: Deployments,
}

/// Workers that take tasks.
async fn hired(scene: &Scene, workers: usize) -> Vec<Remote> {
    let mut hired = Vec::new();
    for _ in 0..workers {
        hired.push(scene.start_worker(&[], "").await);
    }
    for worker in &hired {
        worker.process.ready().await;
    }
    hired
}

/// For jobs on `probe`: one that begins in a moment without it waits for the next deployment.
fn patient() -> JobOptions {
    JobOptions::default().wait_for_plugins()
}

/// The job of the task in which a line was logged.
fn job_of(line: &str) -> &str {
    let (_, job) = line.split_once("task{job=").unwrap();
    job.split_whitespace().next().unwrap()
}

impl Cast {
    /// Some workers, and jobs that have got going.
    async fn of(scene: &Scene, workers: usize) -> Self {
        let hired = hired(scene, workers).await;
        Self::with(scene, hired).await
    }

    /// These workers, which may not be ready, and jobs that have got going.
    async fn with(scene: &Scene, workers: Vec<Remote>) -> Self {
        let mut cast = Self::waiting(scene, workers, 0).await;
        cast.exact.give(FREE);
        cast
    }

    /// These workers, and jobs that have not been given anything to do. With it comes so much work.
    async fn waiting(scene: &Scene, workers: Vec<Remote>, work: u64) -> Self {
        scene.world().deploy(&["text", "probe-1"]).await;
        let program = scene.program().await;
        let exact = Exact::start_without_elements(&program.runtime, 1, work).await;
        let deployments = Deployments::start(scene.program().await);
        Self { workers, program, exact, deployments }
    }

    fn runtime(&self) -> &Arc<Runtime> {
        &self.program.runtime
    }

    /// Some worker logs a line once more than it had when this was called.
    fn say_again(&self, line: &'static str) -> impl Future<Output = ()> + use<> {
        let logs = self.workers.iter().map(|worker| {
            let log = worker.process.log().clone();
            let before = log.count(&[line]);
            Box::pin(async move { log.until_it(line, |log| log.count(&[line]) > before).await })
        });
        let said = select_all(logs);
        async move { drop(said.await) }
    }

    /// What is deployed changes once more, the jobs end well after that, and nothing is left of them.
    async fn all_is_well(self, scene: &Scene) {
        let Self { workers, program, exact, deployments } = self;
        deployments.change_again().await;
        exact.finish().await;
        deployments.end().await;
        program.close().await;
        scene.is_clean(&workers).await;
    }
}
