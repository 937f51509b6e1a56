//! The loop of a job, against what must come of it. Workers are drawn as well: they answer in any order, late, several times, for
//! tasks that there are none of, hand tasks back first, and say of each element what was drawn for it.

use std::{collections::BTreeMap, num::NonZeroUsize, rc::Rc, time::Duration};

use futures::StreamExt;
use palfrey_host::{
    Config, JobError, Runtime, WorkerRuntime,
    directive::*,
    queue::QueueError,
    task::{AnyTask, Cause, ElementFailure, ExecutionError, Packed, PackedBuilder, TaskId, TaskOutcome},
    worker::{ExecutionErr, ExecutionOk},
};
use palfrey_sdk::{FatalStrategy, RetryStrategy, Serializer};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config as Cases, TestCaseError, TestRunner},
};
use text::{CharToString, Concat};

use crate::{fixed, runtime};

/// What becomes of an element, whoever executes it.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Done,
    /// It fails so often, and may be tried again so often.
    Transient {
        failures: u32,
        retries: u32,
        pause: bool,
        exhausted: FatalStrategy,
    },
    Fatal(FatalStrategy),
}

impl Fate {
    /// Why it fails in some attempt, if it does.
    fn cause(self, attempt: u32) -> Option<Cause> {
        match self {
            Self::Transient { failures, retries: max_retries, pause, exhausted } if attempt < failures => {
                let retry = match pause {
                    false => RetryStrategy::Immediate { max_retries },
                    true => RetryStrategy::After { max_retries, duration: Duration::from_millis(1) },
                };
                Some(Cause::Transient { retry, exhausted })
            }
            Self::Fatal(strategy) => Some(Cause::Fatal { strategy }),
            Self::Done | Self::Transient { .. } => None,
        }
    }

    /// What it means for the job in the end: nothing, if it is done.
    fn end(self) -> Option<FatalStrategy> {
        match self {
            Self::Transient { failures, retries, exhausted, .. } if failures > retries => Some(exhausted),
            Self::Fatal(strategy) => Some(strategy),
            Self::Done | Self::Transient { .. } => None,
        }
    }
}

/// A job, and how workers deal with it. What is drawn for workers is used again and again from its start.
#[derive(Debug, Clone)]
struct Plan {
    fates: Vec<Fate>,
    batch: usize,
    in_flight: usize,
    /// Which of the answers that are held back comes next.
    picks: Vec<Index>,
    /// How often the answer to a task comes.
    copies: Vec<usize>,
    /// Whether a task is handed back before anybody deals with it.
    back: Vec<bool>,
    /// Whether a failing element fails its whole task, as one does for which a worker has to be stopped.
    whole: Vec<bool>,
    /// Whether partial results are combined at the second attempt only.
    later: Vec<bool>,
    /// Whether an answer comes to a task that does not exist.
    stray: Vec<bool>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let strategy = || prop_oneof![Just(FatalStrategy::Ignore), Just(FatalStrategy::Terminate)];
    let transient = (1..4_u32, 0..4_u32, any::<bool>(), strategy())
        .prop_map(|(failures, retries, pause, exhausted)| Fate::Transient { failures, retries, pause, exhausted });
    // Jobs that come to an end are worth more.
    let lenient = prop_oneof![
        6 => Just(Fate::Done),
        2 => (1..3_u32, any::<bool>()).prop_map(|(failures, pause)| {
            Fate::Transient { failures, retries: 2, pause, exhausted: FatalStrategy::Terminate }
        }),
        1 => Just(Fate::Fatal(FatalStrategy::Ignore)),
    ];
    let any_fate = prop_oneof![8 => Just(Fate::Done), 3 => transient, 1 => strategy().prop_map(Fate::Fatal)];
    let fates = prop_oneof![3 => vec(lenient, 0..40).boxed(), 2 => vec(any_fate, 0..40).boxed()];
    let flags = || vec(any::<bool>(), 1..8);
    // Sooner or later somebody deals with it.
    let back = flags().prop_map(|back| [back, vec![false]].concat());
    let workers = (vec(any::<Index>(), 1..32), vec(1..4_usize, 1..8), back, flags(), flags(), flags());
    (fates, 1..6_usize, 1..12_usize, workers).prop_map(
        |(fates, batch, in_flight, (picks, copies, back, whole, later, stray))| Plan {
            fates,
            batch,
            in_flight,
            picks,
            copies,
            back,
            whole,
            later,
            stray,
        },
    )
}

const FIRST: u32 = 0x4E00;

/// The element at an index of the source: its fate is known by it.
fn element(index: usize) -> char {
    char::from_u32(FIRST + u32::try_from(index).unwrap()).unwrap()
}

fn index(element: char) -> usize {
    (u32::from(element) - FIRST) as usize
}

impl Plan {
    fn source(&self) -> IndexedStream<'static, char> {
        let options = fixed(self.batch).in_flight(NonZeroUsize::new(self.in_flight).unwrap());
        let elements: Vec<_> = (0..self.fates.len()).map(element).collect();
        IndexedStream::from(elements).options(options.timeout(Duration::from_secs(20)))
    }

    /// What has an output.
    fn outputs(&self) -> BTreeMap<usize, String> {
        let done = self.fates.iter().enumerate().filter(|(_, fate)| fate.end().is_none());
        done.map(|(index, _)| (index, element(index).to_string())).collect()
    }

    /// Whether the job may end with this.
    fn explains(&self, error: &JobError) -> bool {
        let element = error.execution().and_then(|error| error.element);
        element.is_some_and(|element| self.fates[element as usize].end() == Some(FatalStrategy::Terminate))
    }

    fn ends(&self) -> bool {
        self.fates.iter().any(|fate| fate.end() == Some(FatalStrategy::Terminate))
    }

    /// The answer to a task, by a worker that does what its operations would.
    fn answer(&self, task: &AnyTask, whole: bool, later: bool) -> TaskOutcome {
        let operation = &task.stages.last().unwrap().operation;
        let failure = |cause| ExecutionError::new(operation.clone(), cause, "as it was drawn");
        let folds = operation.operation() == "concat";
        if folds && task.stages.len() == 1 {
            if later && task.attempt == 0 {
                let (retry, exhausted) = (RetryStrategy::Immediate { max_retries: 1 }, FatalStrategy::Terminate);
                return TaskOutcome::Failed(failure(Cause::Transient { retry, exhausted }));
            }
            let partials = task.inputs.iter().map(|partial| decoded::<String>(&partial));
            return TaskOutcome::Executed { outputs: encoded([partials.collect::<String>()]), failed: Vec::new() };
        }
        let (mut texts, mut failed) = (Vec::new(), Vec::new());
        for (position, input) in (0..).zip(task.inputs.iter()) {
            let element: char = decoded(&input);
            // Tasks of the case before may still be there, with more elements.
            let fate = self.fates.get(index(element)).copied().unwrap_or(Fate::Done);
            let Some(cause) = fate.cause(task.attempt) else {
                texts.push(element.to_string());
                continue;
            };
            let error = failure(cause);
            let ignored = error.strategy() == Some(FatalStrategy::Ignore);
            if whole || folds && !ignored {
                return TaskOutcome::Failed(ExecutionError { element: Some(position), ..error });
            }
            let failure = ElementFailure { index: u32::try_from(position).unwrap(), error };
            let terminates = failure.terminates();
            failed.push(failure);
            if terminates {
                break;
            }
        }
        let outputs = if folds { encoded([texts.concat()]) } else { encoded(texts) };
        TaskOutcome::Executed { outputs, failed }
    }

    /// Takes tasks as long as there are some, and then gives one answer after the other.
    async fn answers(&self, worker: &WorkerRuntime) {
        let mut tasks = worker.get_task_receiver().await.unwrap();
        let (mut picks, mut copies) = (self.picks.iter().cycle(), self.copies.iter().cycle());
        let mut flags = [&self.back, &self.whole, &self.later, &self.stray].map(|flags| flags.iter().cycle());
        let mut next = |which: usize| *flags[which].next().unwrap();
        let mut answers = Vec::new();
        loop {
            tokio::select! {
                biased;
                Some((task, acker)) = tasks.next() => {
                    if next(0) {
                        acker.nack().await.unwrap();
                        continue;
                    }
                    let outcome = self.answer(&task, next(1), next(2));
                    let answer = Rc::new((task, outcome));
                    let ackers = std::iter::once(Some(acker)).chain(std::iter::repeat_with(|| None));
                    answers.extend(std::iter::repeat_n(answer, *copies.next().unwrap()).zip(ackers));
                }
                () = async {}, if !answers.is_empty() => {
                    let (answer, acker) = answers.swap_remove(picks.next().unwrap().index(answers.len()));
                    let (task, outcome) = &*answer;
                    if next(3) {
                        let stray = AnyTask { id: TaskId(task.id.0 + 1_000_000), ..task.clone() };
                        give(worker, &stray, outcome.clone()).await;
                    }
                    give(worker, task, outcome.clone()).await;
                    if let Some(acker) = acker {
                        acker.ack().await.unwrap();
                    }
                }
            }
        }
    }
}

async fn give(worker: &WorkerRuntime, task: &AnyTask, outcome: TaskOutcome) {
    let execution = Duration::from_micros(10);
    let given = match outcome {
        TaskOutcome::Executed { outputs, failed } => {
            worker.dispatch_ok(ExecutionOk { task, outputs, failed, execution }).await
        }
        TaskOutcome::Failed(err) => worker.dispatch_fatal(ExecutionErr { task, err, execution }).await,
    };
    // It may come after the job has ended.
    assert!(matches!(given, Ok(()) | Err(QueueError::NoSuchQueue(_))), "{given:?}");
}

fn decoded<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
    Serializer::Postcard.from_bytes(bytes).unwrap()
}

fn encoded(texts: impl IntoIterator<Item = String>) -> Packed {
    let mut packed = PackedBuilder::default();
    texts.into_iter().for_each(|text| packed.push(&Serializer::Postcard.to_bytes(&text).unwrap()));
    packed.build()
}

/// Runs drawn jobs beside the workers that were drawn for each.
fn check<T>(job: impl AsyncFn(&Plan, &Runtime) -> T, expect: impl Fn(&Plan, T) -> Result<(), TestCaseError>) {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let runtime = tokio.block_on(runtime(Config { workers: 0, prefetch: Some(64), ..Config::default() }, &["text"]));
    let config = Cases { failure_persistence: None, ..Cases::with_cases(96) };
    let ran = TestRunner::new(config).run(&plans(), |plan| {
        let worker = runtime.worker_in_memory().unwrap();
        let done = tokio.block_on(async {
            tokio::select! {
                done = job(&plan, &runtime) => done,
                () = plan.answers(&worker) => unreachable!("it has no end"),
            }
        });
        expect(&plan, done)
    });
    ran.unwrap();
}

#[test]
fn a_map_has_each_output_once_or_ends_with_an_element_that_ends_it() {
    let job = async |plan: &Plan, runtime: &Runtime| {
        let mut results = plan.source().map(&CharToString).run(runtime).await.unwrap();
        let (mut outputs, mut error) = (Vec::new(), None);
        while let Some(result) = results.next().await {
            match result {
                Ok(output) => outputs.push(output),
                Err(failure) => error = Some(failure),
            }
        }
        (outputs, error)
    };
    check(job, |plan, (outputs, error)| {
        let (count, expected) = (outputs.len(), plan.outputs());
        let outputs: BTreeMap<_, _> = outputs.into_iter().collect();
        prop_assert_eq!(outputs.len(), count, "an index came twice");
        match error {
            None => {
                prop_assert!(!plan.ends(), "it should have ended");
                prop_assert_eq!(outputs, expected);
            }
            Some(error) => {
                prop_assert!(plan.explains(&error), "{}", error);
                prop_assert!(outputs.iter().all(|output| expected.get(output.0) == Some(output.1)), "{:?}", outputs);
            }
        }
        Ok(())
    });
}

#[test]
fn a_fold_has_each_element_once_and_in_order_or_ends_with_an_element_that_ends_it() {
    let job = async |plan: &Plan, runtime: &Runtime| plan.source().map(&CharToString).fold(&Concat).run(runtime).await;
    check(job, |plan, folded| {
        match folded {
            Ok(text) => {
                prop_assert!(!plan.ends(), "it should have ended: {}", text);
                prop_assert_eq!(text, plan.outputs().into_values().collect::<String>());
            }
            Err(error) => prop_assert!(plan.explains(&error), "{}", error),
        }
        Ok(())
    });
}
