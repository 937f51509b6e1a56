//! Every guest of the corpus, executed by one worker process: each ends as its verdict says, a task that behaves is answered behind
//! it, and nothing of them stays with the worker. `cargo xtask soak --guests` runs ten thousand tasks.

#[path = "../../host/tests/it/engine/verdicts.rs"]
mod verdicts;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use palfrey_host::{
    channel::{ChannelFactory, ChannelType, CoordinatedSender, CoordinatedStream, coordinated},
    queue::{
        QueueKind, QueueSpec,
        amqp::{Amqp, AmqpOptions},
    },
    task::{AnyTask, AnyTaskResult, Apply, Cause, Digest, Packed, RoutingKey, Stage, TaskId, TaskOutcome},
};
use palfrey_sdk::Serializer;

use self::verdicts::{Trial, Verdict};
use crate::{Usage, World, component, soon};

const PACKAGE: &str = "palfrey-test-guests";
const PLUGIN: &str = "test-guests";

/// What came of it.
#[derive(Debug)]
pub struct Endured {
    /// Tasks that were sent, of which every second one behaves.
    pub tasks: u64,
    /// For all but the first round.
    pub time: Duration,
    /// The worker, after the first round and after the last.
    pub usage: [Usage; 2],
}

/// Sends the whole corpus to a worker of its own, once to make it warm and then so many times.
///
/// # Panics
/// If anything of what must hold does not.
pub async fn endure(world: &World, rounds: u64, progress: impl Fn(u64)) -> Endured {
    let trials = verdicts::all();
    let limits = trials.iter().flat_map(|(operation, trial)| ["--limit".to_owned(), limit(operation, trial)]);
    // What guests say a thousand times is cut, and tested elsewhere.
    let arguments = ["--slots", "2", "--log", "palfrey_host=info,palfrey_host::worker::processing=error"];
    let arguments = arguments.map(str::to_owned).into_iter().chain(limits).collect::<Vec<_>>();
    let worker = world.worker(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.deploy(&[PACKAGE]).await;

    let connection = Arc::new(soon(Amqp::connect(world.uri(), AmqpOptions::default())).await.expect("a broker"));
    let channels = ChannelFactory::new(connection, 64);
    let bus = QueueSpec::new("default", QueueKind::Tasks);
    let tasks = channels.get::<AnyTask>(&bus.name, ChannelType::ExactlyOnce).await.expect("the channel of tasks");
    let (job, results) = channels.issue::<AnyTaskResult>().await.expect("a channel of results");
    let receiver = results.receiver().await.expect("a receiver");
    let (sender, results) = coordinated::<()>(tasks.sender().await.expect("a sender"), receiver);
    let mut job = Job { job, digest: Digest::of(&component(PACKAGE)), sender, results, sent: 0 };

    let (mut warm, mut started) = (None, Instant::now());
    for round in 0..=rounds {
        for (operation, trial) in &trials {
            check(operation, trial, job.outcome(operation, trial.parameter).await);
            let behaves = job.outcome("echo", 0).await;
            assert_eq!(behaves, TaskOutcome::Executed { outputs: inputs(), failed: Vec::new() }, "after {operation}");
        }
        if warm.is_none() {
            (warm, started) = (Some((job.sent, worker.usage())), Instant::now());
        }
        progress(round);
    }
    let (first, before) = warm.expect("there is a first round");
    let usage = [before, worker.usage()];
    Usage::assert_did_not_grow(usage);
    Endured { tasks: job.sent - first, time: started.elapsed(), usage }
}

/// The rule by which a worker has the limits of a trial.
fn limit(operation: &str, Trial { limits, .. }: &Trial) -> String {
    let (time, memory, output) = (limits.time.as_millis(), limits.memory, limits.output);
    format!("{PLUGIN}/{operation}:time={time}ms,memory={memory},output={output}")
}

fn inputs() -> Packed {
    ["a", "bc", ""].into_iter().collect()
}

/// Compares what became of a task with the verdict. A worker that has to stop a batch executes its elements one by one, so that an
/// error about the batch's size has other numbers.
fn check(operation: &str, trial: &Trial, outcome: TaskOutcome) {
    let TaskOutcome::Executed { outputs, failed } = outcome else { panic!("{operation}: {outcome:?}") };
    let failure = failed.first().map(|failure| &failure.error);
    if let Some(error) = failure {
        assert_eq!((error.operation.plugin(), error.operation.operation()), (PLUGIN, operation), "{error}");
        assert_eq!(error.element, Some(u64::from(failed[0].index)), "{error}");
    }
    match (&trial.verdict, failure) {
        (Verdict::Answers(text), None) => {
            assert_eq!(outputs.len(), inputs().len(), "{operation}");
            let output = outputs.get(0).expect("there is a first one");
            assert!(String::from_utf8_lossy(&output).contains(text), "{operation}: {output:?}");
        }
        (Verdict::Fails(cause), Some(error)) => assert!(cause(&error.cause), "{operation}: {error:?}"),
        (Verdict::Stopped(cause, message), Some(error)) => {
            assert!(cause(&error.cause), "{operation}: {error:?}");
            assert!(error.cause == Cause::Contract || error.to_string().contains(message), "{operation}: {error}");
        }
        (_, failure) => panic!("{operation}: {outputs:?}, and then {failure:?}"),
    }
}

/// Tasks of one's own making, one after the other.
struct Job {
    job: RoutingKey,
    digest: Digest,
    sender: CoordinatedSender<()>,
    results: CoordinatedStream<()>,
    sent: u64,
}

impl Job {
    async fn outcome(&mut self, operation: &str, parameter: u64) -> TaskOutcome {
        let stage = Stage {
            operation: format!("{PLUGIN}/{operation}").parse().expect("it is an ID"),
            digest: self.digest,
            config: parameter.to_string().into(),
            apply: Apply::Map,
        };
        let task = AnyTask {
            routing_key: self.job.clone(),
            id: TaskId(self.sent),
            metadata: Bytes::new(),
            serializer: Serializer::Postcard,
            attempt: 0,
            stages: vec![stage],
            inputs: inputs(),
        };
        self.sent += 1;
        soon(self.sender.publish(task, ())).await.expect("a task is sent");
        let settled = soon(self.results.next()).await.expect("each task is answered");
        soon(settled.acker.ack()).await.expect("a result is acknowledged");
        settled.result.outcome
    }
}

impl fmt::Display for Endured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tasks, time, usage: [before, after] } = self;
        writeln!(
            f,
            "{tasks} tasks, of which every second one was hostile, ended as they should in {:.1} s",
            time.as_secs_f64()
        )?;
        writeln!(f, "the worker had {before} before, and {after} after")
    }
}
