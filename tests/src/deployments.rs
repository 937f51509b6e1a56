//! An operator who does not keep still while other things happen.

use std::time::Duration;

use futures::TryStreamExt;
use palfrey_host::{JobError, directive::*, plugin::RollbackTo};
use probe_1::Mark;
use tokio::{sync::watch, task::JoinHandle, time::interval};
use tokio_util::sync::CancellationToken;

use crate::{Program, component, soon};

/// Between two changes.
const PAUSE: Duration = Duration::from_secs(1);

/// Deploys, rolls back and undeploys `probe` again and again, and runs a job after each change.
#[derive(Debug)]
pub struct Deployments {
    ending: CancellationToken,
    /// How many there were.
    made: watch::Receiver<u64>,
    changes: JoinHandle<()>,
}

impl Deployments {
    /// Begins, behind the network of a program. `probe` 1 has to be deployed.
    pub fn start(program: Program) -> Self {
        let ending = CancellationToken::new();
        let (count, made) = watch::channel(0);
        let changes = tokio::spawn(change(program, count, ending.clone()));
        Self { ending, made, changes }
    }

    /// Waits until one more change has been made.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn change_again(&self) {
        let mut made = self.made.clone();
        let before = *made.borrow();
        // If something went wrong, the end says what.
        soon(made.wait_for(|&made| made > before)).await.ok();
    }

    /// Ends with version 1 being active, when each change was made at least once.
    ///
    /// # Panics
    /// If that takes too long, a change was refused, or a job has mixed versions.
    pub async fn end(self) {
        self.ending.cancel();
        soon(self.changes).await.expect("everything went as it should");
    }
}

async fn change(program: Program, count: watch::Sender<u64>, ending: CancellationToken) {
    let runtime = program.runtime.clone();
    let [one, two] = ["probe-1", "probe-2"].map(component);
    let mut pauses = interval(PAUSE);
    let mut done = async |active: Option<u32>| {
        count.send_modify(|made| *made += 1);
        let options = JobOptions::default().batch_size(BatchSize::Fixed(1.try_into().expect("it is not zero")));
        let job = IndexedStream::from(0..10_u64).options(options).map(&Mark);
        let marks = async { job.run(&runtime).await?.try_collect::<Vec<_>>().await };
        match (soon(marks).await, active) {
            (Ok(marks), Some(active)) => {
                assert_eq!(marks.len(), 10);
                assert!(marks.iter().all(|&(index, mark)| mark == (active, index as u64)), "{active}: {marks:?}");
            }
            (Err(JobError::Resolve(_)), None) => {}
            (outcome, active) => panic!("with {active:?} active: {outcome:?}"),
        }
        pauses.tick().await;
    };
    let registry = runtime.registry();
    loop {
        soon(runtime.deploy(two.clone())).await.expect("version 2 is good");
        done(Some(2)).await;
        soon(registry.rollback("probe", &RollbackTo::Previous)).await.expect("there was a version before");
        done(Some(1)).await;
        soon(registry.undeploy("probe")).await.expect("it is deployed");
        done(None).await;
        soon(runtime.deploy(one.clone())).await.expect("version 1 is good");
        done(Some(1)).await;
        if ending.is_cancelled() {
            break;
        }
    }
    drop(runtime);
    program.close().await;
}
