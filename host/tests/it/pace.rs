//! What jobs send when they know what their elements take, and what that leaves for other jobs.

use std::{num::NonZeroUsize, time::Duration};

use arith::MultiplyBy;
use digest::Mine;
use futures::{StreamExt, future};
use palfrey_host::{
    Config, Runtime, WorkerRuntime,
    channel::Receiver,
    directive::*,
    queue::Acker,
    task::{AnyTask, AnyTaskResult, TaskOutcome, WorkerReport},
};
use palfrey_sdk::Blob;
use tokio_util::sync::CancellationToken;

use crate::runtime;

/// A worker of two slots that takes what it likes, and says that an element takes some time.
struct Hand {
    worker: WorkerRuntime,
    tasks: Receiver<AnyTask>,
    element: Duration,
}

impl Hand {
    async fn of(runtime: &Runtime, element: Duration) -> Self {
        let worker = runtime.worker_in_memory().unwrap();
        let tasks = worker.get_task_receiver().await.unwrap();
        Self { worker, tasks, element }
    }

    async fn take(&mut self) -> (AnyTask, Box<dyn Acker>) {
        let taken = tokio::time::timeout(Duration::from_secs(60), self.tasks.next()).await;
        taken.expect("somebody sends a task").unwrap()
    }

    async fn answer(&self, (task, acker): (AnyTask, Box<dyn Acker>)) {
        let (outcome, _) = self.worker.execute(&task, &CancellationToken::new()).await;
        assert!(matches!(outcome, TaskOutcome::Executed { .. }), "{outcome:?}");
        let execution = self.element * task.inputs.len() as u32;
        let report = WorkerReport { worker: "hand".to_owned(), slots: 2, waited: Duration::ZERO, execution };
        let AnyTask { routing_key, id, metadata, serializer, .. } = task;
        let result = AnyTaskResult { routing_key, id, metadata, serializer, report, outcome };
        self.worker.get_result_sender(&result.routing_key).await.unwrap().publish(&result).await.unwrap();
        acker.ack().await.unwrap();
    }
}

async fn no_workers(plugins: &[&str]) -> Runtime {
    let config = Config { workers: 0, slots: NonZeroUsize::new(2), ..Config::default() };
    runtime(config, plugins).await
}

#[tokio::test]
async fn a_job_begins_with_what_an_earlier_one_has_measured_of_the_same_operation() {
    let runtime = no_workers(&["arith"]).await;
    let mut hand = Hand::of(&runtime, Duration::from_micros(100)).await;
    let mut first_batch = async |factor: u64| {
        let operation = MultiplyBy(factor);
        let results = IndexedStream::from(0..200_u64).map(&operation).run(&runtime).await.unwrap();
        let executing = async {
            let (mut first, mut done) = (0, 0);
            while done < 200 {
                let task = hand.take().await;
                let elements = task.0.inputs.len();
                (first, done) = (if done == 0 { elements } else { first }, done + elements);
                hand.answer(task).await;
            }
            first
        };
        let (values, first) = future::join(results.into_values_sorted(), executing).await;
        assert_eq!(values.unwrap(), (0..200).map(|n| n * factor).collect::<Vec<_>>());
        first
    };
    assert_eq!(first_batch(2).await, 1);
    // A tenth of a millisecond each: some of them, but no more than take a moment if they are of another kind.
    assert_eq!(first_batch(2).await, 15);
    assert_eq!(first_batch(3).await, 1, "another config may take another time");
}

#[tokio::test]
async fn tasks_of_a_short_job_come_next_although_a_long_one_has_begun_before() {
    let runtime = no_workers(&["arith", "digest"]).await;
    let mut hand = Hand::of(&runtime, Duration::from_secs(60)).await;
    let blocks: Vec<_> = (0..100_u8).map(|number| Blob::from(vec![number])).collect();
    let easy = Mine { bits: 0 };
    let long = IndexedStream::from(blocks).map(&easy).run(&runtime).await.unwrap();
    let scenario = async {
        // What was sent before anybody had answered, and then some.
        for _ in 0..30 {
            let task = hand.take().await;
            hand.answer(task).await;
        }
        let twice = MultiplyBy(2);
        let mut short = IndexedStream::from([21_u64]).map(&twice).run(&runtime).await.unwrap();
        let next = async {
            let mut before = 0;
            loop {
                let task = hand.take().await;
                let is_short = task.0.stages[0].operation.plugin() == "arith";
                if is_short {
                    hand.answer(task).await;
                    break before;
                }
                before += 1;
                hand.answer(task).await;
            }
        };
        let (output, before) = future::join(short.next(), next).await;
        assert_eq!(output.unwrap().unwrap().1, 42);
        // Two slots, and one task that is there when the first of them is free.
        assert!(before <= 3, "{before} tasks of a minute came before the short one");
    };
    tokio::select! {
        () = scenario => {}
        _ = long.into_values_sorted() => panic!("most of its tasks have no result"),
    }
}
