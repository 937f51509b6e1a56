//! Whatever the order in which workers answer, and however often: a job's result is the same.

use std::{rc::Rc, time::Duration};

use futures::StreamExt;
use palfrey_host::{
    Config, WorkerRuntime,
    directive::*,
    queue::QueueError,
    task::TaskOutcome,
    worker::{ExecutionErr, ExecutionOk},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config as Cases, TestRunner},
};
use text::Concat;
use tokio_util::sync::CancellationToken;

use crate::{fixed, runtime};

/// How contrary a worker is.
#[derive(Debug, Clone)]
struct Plan {
    /// Which of the answers that it holds back it gives next, again and again from the start.
    picks: Vec<Index>,
    /// How often it gives the answer to each task, likewise.
    copies: Vec<usize>,
}

/// A main loop that holds answers back as long as there are tasks to take, and then gives them as planned.
async fn contrary_loop(worker: &WorkerRuntime, plan: &Plan) {
    let mut tasks = worker.get_task_receiver().await.unwrap();
    let (mut picks, mut copies) = (plan.picks.iter().cycle(), plan.copies.iter().cycle());
    let mut answers = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some((task, acker)) = tasks.next() => {
                let (outcome, execution) = worker.execute(&task, &CancellationToken::new()).await;
                let answer = Rc::new((task, outcome, execution));
                let copies = *copies.next().unwrap();
                let ackers = std::iter::once(Some(acker)).chain(std::iter::repeat_with(|| None));
                answers.extend(std::iter::repeat_n(answer, copies).zip(ackers));
            }
            // Ready at once, but only asked when there is no task.
            () = async {}, if !answers.is_empty() => {
                let (answer, acker) = answers.swap_remove(picks.next().unwrap().index(answers.len()));
                let (task, outcome, execution) = (&answer.0, answer.1.clone(), answer.2);
                let given = match outcome {
                    TaskOutcome::Executed { outputs, failed } => {
                        worker.dispatch_ok(ExecutionOk { task, outputs, failed, execution }).await
                    }
                    TaskOutcome::Failed(err) => worker.dispatch_fatal(ExecutionErr { task, err, execution }).await,
                };
                // A copy may come after the job has ended.
                assert!(matches!(given, Ok(()) | Err(QueueError::NoSuchQueue(_))), "{given:?}");
                if let Some(acker) = acker {
                    acker.ack().await.unwrap();
                }
            }
        }
    }
}

#[test]
fn any_order_and_any_number_of_answers_fold_to_the_native_result() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let config = Config { workers: 0, prefetch: Some(64), ..Config::default() };
    let runtime = tokio.block_on(runtime(config, &["text"]));
    let plan = (vec(any::<Index>(), 1..64), vec(1..4_usize, 1..8)).prop_map(|(picks, copies)| Plan { picks, copies });
    let job = (vec("[a-zß言]{0,3}", 0..100), 1..6_usize);
    let fold = |((texts, batch), plan): ((Vec<String>, usize), Plan)| {
        let native = texts.concat();
        let job = IndexedStream::from(texts).options(fixed(batch).timeout(Duration::from_secs(20)));
        let worker = runtime.worker_in_memory().unwrap();
        let folded = tokio.block_on(async {
            tokio::select! {
                folded = job.fold(&Concat).run(&runtime) => folded.unwrap(),
                () = contrary_loop(&worker, &plan) => unreachable!("it has no end"),
            }
        });
        prop_assert_eq!(folded, native);
        Ok(())
    };
    TestRunner::new(Cases { failure_persistence: None, ..Cases::with_cases(24) }).run(&(job, plan), fold).unwrap();
}
