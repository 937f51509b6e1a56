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

use std::sync::Arc;

use futures::future::select_all;
use palfrey_host::Runtime;
use palfrey_tests::{Exact, Program, Remote, Scene};

/// A job under way on workers, with another program's deployments beside it.
struct Cast {
    workers: Vec<Remote>,
    program: Program,
    exact: Exact,
}

impl Cast {
    /// Some workers, and jobs that have got going.
    async fn of(scene: &Scene, workers: usize) -> Self {
        scene.world().deploy(&["text", "probe-1"]).await;
        let mut hired = Vec::new();
        for _ in 0..workers {
            hired.push(scene.start_worker(&[], "").await);
        }
        for worker in &hired {
            worker.process.ready().await;
        }
        Self::with(scene, hired).await
    }

    /// These workers, which may not be ready. What the jobs need is deployed.
    async fn with(scene: &Scene, workers: Vec<Remote>) -> Self {
        let program = scene.program().await;
        let exact = Exact::start(&program.runtime, 1);
        Self { workers, program, exact }
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

    /// The jobs end well, and nothing is left of them.
    async fn all_is_well(self, scene: &Scene) {
        self.exact.finish().await;
        scene.is_clean(&self.workers).await;
    }
}
