//! Workers are never restarted, and a job executes what was deployed when it began, wholly.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use futures::{
    StreamExt, TryStreamExt,
    channel::mpsc::{UnboundedSender, unbounded},
    stream::BoxStream,
};
use palfrey_host::{
    Config, JobError, Runtime, WorkerRuntime,
    directive::*,
    plugin::RollbackTo,
    task::{Digest, TaskOutcome},
    worker::ExecutionOk,
};
use palfrey_tests::{Worker, World, cache_dir, component, component_file, soon};
use probe_1::Stamp;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::batches_of;

/// An operator and two workers, and room for a third.
trait Fleet {
    fn runtime(&self) -> &Runtime;
    async fn deploy(&self, package: &str) -> String;
    async fn roll_back(&self) -> String;
    async fn undeploy(&self) -> String;
    async fn start_third_worker(&mut self);
    /// Whether the third worker has executed a task of this version.
    fn third_worker_has_executed(&self, version: u32) -> bool;
    /// Whether no worker has ended or was started anew.
    fn is_whole(&mut self) -> bool;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_reaches_running_workers_and_leaves_jobs_alone_over_rabbitmq() {
    let world = World::new();
    let workers = world.workers::<2>(&["--slots", "1"]).await.into_iter().collect();
    let runtime = world.runtime().await;
    deploy_twice_roll_back_and_undeploy(Processes { world, runtime, workers }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_reaches_running_workers_and_leaves_jobs_alone_in_memory() {
    let config = Config { workers: 2, cache_dir: Some(cache_dir()), ..Config::default() };
    let runtime = Runtime::from_config(&config).await.unwrap();
    deploy_twice_roll_back_and_undeploy(InMemory { runtime, third: None, executed: Arc::default() }).await;
}

async fn deploy_twice_roll_back_and_undeploy(mut fleet: impl Fleet) {
    let say = narrator();
    say("two workers take tasks");
    say(&fleet.deploy("probe-1").await);
    active(fleet.runtime(), Some(1)).await;
    say(&format!("a job is executed by {}", executed(&fleet, "probe/stamp").await));

    let mut first = LongJob::start(fleet.runtime()).await;
    first.go_on(10).await;
    say("a long job is under way on version 1: 10 elements are done");
    say(&fleet.deploy("probe-2").await);
    active(fleet.runtime(), Some(2)).await;
    first.go_on(10).await;
    assert_eq!(executed(&fleet, "probe/stamp").await, "version 2");
    first.go_on(10).await;
    say("a new job is executed by version 2, and the long job goes on with version 1: 30 elements are done");
    assert_eq!(first.versions, HashMap::from([(1, 30)]));

    fleet.start_third_worker().await;
    say("a third worker takes tasks");
    for (version, id) in [(1, "probe/stamp@=1.0.0"), (2, "probe/stamp@^2")] {
        let takes_part = async {
            while !fleet.third_worker_has_executed(version) {
                assert_eq!(executed(&fleet, id).await, format!("version {version}"));
            }
        };
        soon(takes_part).await;
        say(&format!("the third worker takes part in a job that wants {id}"));
    }

    let mut second = LongJob::start(fleet.runtime()).await;
    second.go_on(10).await;
    say("a second long job is under way on version 2");
    say(&fleet.roll_back().await);
    active(fleet.runtime(), Some(1)).await;
    say(&format!("a new job is executed by {}", executed(&fleet, "probe/stamp").await));
    assert_eq!(executed(&fleet, "probe/stamp").await, "version 1");

    say(&fleet.undeploy().await);
    active(fleet.runtime(), None).await;
    let error = stamp(fleet.runtime(), "probe/stamp").await.unwrap_err();
    say(&format!("a new job gets an error: {error}"));
    let error = error.to_string();
    assert!(error.contains("plugin `probe` was undeployed by "), "{error}");
    assert!(error.contains("bring it back by `palfrey rollback probe`"), "{error}");

    first.go_on(10).await;
    second.go_on(10).await;
    assert_eq!((first.finish().await, second.finish().await), (HashMap::from([(1, 40)]), HashMap::from([(2, 20)])));
    say("both long jobs are done: 40 elements by version 1, 20 by version 2");
    assert!(fleet.is_whole());
    say("no worker was restarted");
}

/// Prints steps with their times.
fn narrator() -> impl Fn(&str) {
    let started = Instant::now();
    move |step| println!("{:7.3} s  {}", started.elapsed().as_secs_f64(), step.trim_end())
}

/// Waits until the program knows what is active.
async fn active(runtime: &Runtime, major: Option<u64>) {
    let mut states = runtime.registry().subscribe();
    let known = states.wait_for(|state| {
        let active = state.plugin("probe").ok().and_then(|history| history.active());
        active.map(|deployment| deployment.version().major) == major
    });
    soon(known).await.unwrap();
}

/// Runs a job by ID, and says which versions executed it.
async fn executed(fleet: &impl Fleet, id: &str) -> String {
    let versions = stamp(fleet.runtime(), id).await.unwrap();
    versions.iter().map(|version| format!("version {version}")).collect::<Vec<_>>().join(" and ")
}

/// Stamps twenty numbers, one a task, and returns the versions that did it.
async fn stamp(runtime: &Runtime, id: &str) -> Result<Vec<u32>, JobError> {
    let serializer = runtime.serializer();
    let stamp = OperationHandle::new(id, serializer.to_bytes(&Stamp::QUICK).unwrap())?;
    let numbers = (0..20_u64).map(|number| Encoded::from(serializer.to_bytes(&number).unwrap()));
    let outputs = IndexedStream::from(numbers).options(batches_of(1)).map(&stamp).run(runtime).await?;
    let outputs = soon(outputs.into_values_sorted()).await?;
    assert_eq!(outputs.len(), 20);
    let stamps = outputs.iter().map(|output| serializer.from_bytes::<(u32, u64)>(&output.0).unwrap());
    let mut versions: Vec<_> = stamps.map(|(version, _)| version).collect();
    versions.dedup();
    Ok(versions)
}

/// A job whose end is in the hands of the test.
struct LongJob {
    source: UnboundedSender<u64>,
    /// The version that stamped each element.
    results: BoxStream<'static, Result<u32, JobError>>,
    /// How many elements each version has executed.
    versions: HashMap<u32, u64>,
}

impl LongJob {
    async fn start(runtime: &Runtime) -> Self {
        let (source, numbers) = unbounded();
        let job = IndexedStream::from_stream(numbers).options(batches_of(1)).map(&Stamp::QUICK);
        let results = job.run(runtime).await.unwrap().map_ok(|(_, (version, _))| version).boxed();
        Self { source, results, versions: HashMap::new() }
    }

    /// Lets it have more elements, and waits for their results.
    async fn go_on(&mut self, elements: u64) {
        (0..elements).for_each(|number| self.source.unbounded_send(number).unwrap());
        for _ in 0..elements {
            let version = soon(self.results.next()).await.unwrap().unwrap();
            *self.versions.entry(version).or_default() += 1;
        }
    }

    async fn finish(mut self) -> HashMap<u32, u64> {
        drop(self.source);
        assert!(soon(self.results.next()).await.is_none());
        self.versions
    }
}

/// Worker processes, RabbitMQ and the command line.
struct Processes {
    world: World,
    runtime: Runtime,
    workers: Vec<Worker>,
}

impl Fleet for Processes {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    async fn deploy(&self, package: &str) -> String {
        let file = component_file(package);
        self.world.done(&["deploy", file.to_str().unwrap()]).await
    }

    async fn roll_back(&self) -> String {
        self.world.done(&["rollback", "probe"]).await
    }

    async fn undeploy(&self) -> String {
        self.world.done(&["undeploy", "probe"]).await
    }

    async fn start_third_worker(&mut self) {
        self.workers.push(self.world.worker(&["--slots", "1"]).await);
    }

    fn third_worker_has_executed(&self, version: u32) -> bool {
        self.workers[2].log().has(&["stamping", &format!("by version {version}")])
    }

    fn is_whole(&mut self) -> bool {
        self.workers.iter_mut().all(Worker::is_running)
    }
}

/// Everything in this process. The third worker has a loop of its own, which notes what it executes.
struct InMemory {
    runtime: Runtime,
    third: Option<AbortOnDropHandle<()>>,
    /// The components that the third worker has executed.
    executed: Arc<Mutex<Vec<Digest>>>,
}

impl Fleet for InMemory {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    async fn deploy(&self, package: &str) -> String {
        let deployed = self.runtime.deploy(component(package)).await.unwrap();
        format!("deployed probe {}", deployed.deployment.version())
    }

    async fn roll_back(&self) -> String {
        let deployed = self.runtime.registry().rollback("probe", &RollbackTo::Previous).await.unwrap();
        format!("probe {} is active again", deployed.deployment.version())
    }

    async fn undeploy(&self) -> String {
        self.runtime.registry().undeploy("probe").await.unwrap();
        "undeployed probe".to_owned()
    }

    async fn start_third_worker(&mut self) {
        async fn work(worker: WorkerRuntime, executed: Arc<Mutex<Vec<Digest>>>) {
            let mut tasks = worker.get_task_receiver().await.unwrap();
            while let Some((task, acker)) = tasks.next().await {
                let (outcome, execution) = worker.execute(&task, &CancellationToken::new()).await;
                let TaskOutcome::Executed { outputs, failed } = outcome else { panic!("{outcome:?}") };
                executed.lock().unwrap().push(task.stages[0].digest);
                worker.dispatch_ok(ExecutionOk { task: &task, outputs, failed, execution }).await.unwrap();
                acker.ack().await.unwrap();
            }
        }
        let third = work(self.runtime.worker_in_memory().unwrap(), self.executed.clone());
        self.third = Some(AbortOnDropHandle::new(tokio::spawn(third)));
    }

    fn third_worker_has_executed(&self, version: u32) -> bool {
        let digest = Digest::of(&component(&format!("probe-{version}")));
        self.executed.lock().unwrap().contains(&digest)
    }

    fn is_whole(&mut self) -> bool {
        !self.third.as_ref().unwrap().is_finished()
    }
}
