//! Who is there, and what an operator does with them.

use std::{num::NonZeroUsize, time::Duration};

use arith::MultiplyBy;
use digest::Mine;
use futures::{StreamExt, TryStreamExt, future::join_all};
use palfrey_host::{
    Config, JobError, Runtime,
    channel::{ChannelFactory, ChannelType},
    directive::*,
    presence::{Answer, CommandError, JobStatus, Process, Survey, WorkerStatus},
    queue::amqp::{Amqp, AmqpOptions},
    runtime::Task,
    worker::WorkerIpc,
};
use palfrey_sdk::Blob;

use crate::{fixed, runtime};

/// As long as anything may take.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends")
}

/// Asks until what is answered is what is waited for.
async fn until(runtime: &Runtime, condition: impl Fn(&Survey) -> bool) -> Survey {
    soon(async {
        loop {
            let survey = runtime.survey().await.unwrap();
            if condition(&survey) {
                return survey;
            }
        }
    })
    .await
}

fn blocks(count: u8) -> IndexedStream<'static, Blob> {
    IndexedStream::from((0..count).map(|number| Blob::from(vec![number])).collect::<Vec<_>>())
}

/// More zero bits than anybody will find within a test.
const HOPELESS: Mine = Mine { bits: 60 };

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_jobs_say_what_they_do_and_disappear_when_they_end() {
    let config = Config { workers: 3, slots: NonZeroUsize::new(2), ..Config::default() };
    let runtime = runtime(config, &["digest", "arith"]).await;
    let idle = until(&runtime, |survey| survey.workers.len() == 3).await;
    assert_eq!((idle.jobs.len(), idle.silent), (0, 0));
    let here = Process::here();
    for worker in &idle.workers {
        assert_eq!((worker.slots, worker.executing(), worker.waiting, worker.executed), (2, 0, 0, 0));
        assert_eq!((&worker.process, worker.bus.as_str(), worker.draining), (&here, "default", false));
    }

    let mut results = blocks(12).options(fixed(1)).map(&HOPELESS).run(&runtime).await.unwrap();
    assert!(futures::poll!(results.next()).is_pending());
    let drive = tokio::spawn(async move { results.next().await });
    // The workers in memory share two slots.
    let busy = until(&runtime, |survey| survey.jobs.first().is_some_and(|job| job.running == 2)).await;
    let [job] = &busy.jobs[..] else { panic!("there is one job: {busy:?}") };
    assert_eq!((job.done, job.total, job.in_flight, job.queued()), (0, Some(12), 12, 10));
    assert_eq!(job.operations.iter().map(ToString::to_string).collect::<Vec<_>>(), ["digest/mine"]);
    assert_eq!((&job.process, job.bus.as_str(), job.remaining()), (&here, "default", None));
    let running = busy.workers.iter().flat_map(|worker| &worker.running);
    assert!(running.into_iter().all(|(id, _)| *id == job.id), "{busy:?}");
    assert!(busy.workers.iter().any(|worker| worker.plugins.iter().any(|plugin| plugin.name == "digest")), "{busy:?}");

    drive.abort();
    let after = until(&runtime, |survey| {
        survey.jobs.is_empty() && survey.workers.iter().all(|worker| worker.executing() + worker.waiting == 0)
    });
    let after = after.await;
    assert!(after.workers.iter().map(|worker| worker.executed).sum::<u64>() >= 2);
    assert!(after.workers.iter().any(|worker| worker.load > 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_ends_with_whoever_did_it_and_others_go_on() {
    let runtime = runtime(Config { slots: NonZeroUsize::new(2), ..Config::default() }, &["digest", "arith"]).await;
    let results = blocks(8).options(fixed(1)).map(&HOPELESS).run(&runtime).await.unwrap();
    let doomed = tokio::spawn(results.try_collect::<Vec<_>>());
    let job = until(&runtime, |survey| survey.jobs.first().is_some_and(|job| job.running == 2)).await.jobs.remove(0);

    let unknown = runtime.cancel("nobody").await.unwrap_err();
    let CommandError::Unknown { what: "job", ref there, .. } = unknown else { panic!("{unknown}") };
    assert!(there.to_string().contains(&job.id.as_str()[..8]), "{there}");
    let beginning = &job.id.as_str()[..12];
    assert_eq!(runtime.cancel(beginning).await.unwrap().id, job.id);
    let error = soon(doomed).await.unwrap().unwrap_err();
    assert!(matches!(&error, JobError::Cancelled { by } if *by == Process::here().who()), "{error}");
    assert_eq!(error.to_string(), format!("the job was cancelled by {}", Process::here().who()));
    // Its slots are free.
    assert_eq!(soon(Literal::new(21).map(&MultiplyBy(2)).run(&runtime)).await.unwrap(), 42);
    assert!(runtime.jobs().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directive_of_ones_own_is_listed_and_cancelled_as_well() {
    let config = Config { slots: NonZeroUsize::new(1), ..Config::default() };
    let runtime = runtime(config, &["digest"]).await;
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<Mine, u64>().await.unwrap();
    for metadata in 0..3 {
        let (routing_key, input) = (routing_key.clone(), Blob::from(vec![1]));
        sender.publish(&Task { routing_key, metadata, op: &HOPELESS, input }).await.unwrap();
    }
    let busy = until(&runtime, |survey| survey.jobs.first().is_some_and(|job| job.running == 1)).await;
    let job = &busy.jobs[0];
    assert_eq!((&job.id, job.taken, job.total, job.queued()), (&routing_key, 3, None, 2));
    runtime.cancel(routing_key.as_str()).await.unwrap();
    let (result, _) = soon(results.next()).await.unwrap();
    assert!(matches!(result.unwrap_err().error, JobError::Cancelled { .. }));
    assert!(soon(results.next()).await.is_none());
    // Nobody asks for results any more, and the guest is stopped all the same.
    until(&runtime, |survey| survey.workers.iter().all(|worker| worker.executing() == 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_drained_finishes_what_it_has_and_ends_and_no_other_does() {
    let runtime = runtime(Config { workers: 0, ..Config::default() }, &["arith"]).await;
    let [leaving, staying] = [(); 2].map(|()| runtime.worker_in_memory().unwrap());
    let identity = leaving.identity().to_owned();
    let main_loop = |worker: palfrey_host::WorkerRuntime| {
        tokio::spawn(async move { worker.main_loop(std::future::pending()).await })
    };
    let (left, stayed) = (main_loop(leaving), main_loop(staying.clone()));
    until(&runtime, |survey| survey.workers.len() == 2).await;
    let drained = runtime.drain(&identity[..10]).await.unwrap();
    assert_eq!(drained.identity, identity);
    soon(left).await.unwrap().unwrap();
    let rest = runtime.workers().await.unwrap();
    assert_eq!(rest.iter().map(|worker| worker.identity.as_str()).collect::<Vec<_>>(), [staying.identity()]);
    assert!(!stayed.is_finished());
    let unknown = runtime.drain(&identity).await.unwrap_err();
    assert!(matches!(unknown, CommandError::Unknown { what: "worker", .. }), "{unknown}");
    assert_eq!(soon(Literal::new(21).map(&MultiplyBy(2)).run(&runtime)).await.unwrap(), 42);
}

const HUNDREDS: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_workers_and_jobs_all_answer_and_of_each_one_is_ended() {
    let config = Config { workers: HUNDREDS, slots: NonZeroUsize::new(2), ..Config::default() };
    let runtime = runtime(config, &["digest"]).await;
    // Each of them is there before the first that is asked for does anything.
    while runtime.task_channel().status().await.unwrap().consumers < HUNDREDS as u64 {
        tokio::task::yield_now().await;
    }
    let mut jobs = Vec::new();
    for _ in 0..HUNDREDS {
        let results = blocks(1).map(&HOPELESS).run(&runtime).await.unwrap();
        jobs.push(tokio::spawn(results.try_collect::<Vec<_>>()));
    }
    // The workers share two slots.
    let busy = |survey: &Survey| survey.jobs.iter().map(|job| (job.in_flight, job.running)).fold((0, 0), sum);
    let survey = until(&runtime, |survey| busy(survey) == (HUNDREDS as u64, 2)).await;
    assert_eq!((survey.workers.len(), survey.jobs.len(), survey.silent), (HUNDREDS, HUNDREDS, 0));

    // Those that wait: nobody has to be stopped for them.
    let worker = &survey.workers.iter().find(|worker| worker.executing() == 0).unwrap().identity;
    let job = survey.jobs.iter().find(|job| job.running == 0).unwrap().id.as_str();
    assert_eq!(soon(runtime.cancel(job)).await.unwrap().id.as_str(), job);
    assert_eq!(soon(runtime.drain(worker)).await.unwrap().identity, *worker);
    let without = |survey: &Survey| {
        survey.workers.iter().all(|one| one.identity != *worker) && survey.jobs.iter().all(|one| one.id.as_str() != job)
    };
    let rest = until(&runtime, without).await;
    assert_eq!((rest.workers.len(), rest.jobs.len(), rest.silent), (HUNDREDS - 1, HUNDREDS - 1, 0));
    let ended = || jobs.iter().filter(|job| job.is_finished()).count();
    soon(async {
        while ended() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ended(), 1, "no other job has ended");
    jobs.iter().for_each(tokio::task::JoinHandle::abort);
}

fn sum(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0 + other.0, one.1 + other.1)
}

/// Somebody who answers as a worker and a program with a job do, and counts the questions.
async fn announcer(channels: ChannelFactory, number: usize, questions: tokio::sync::mpsc::Sender<usize>) {
    let channel = channels.get::<WorkerIpc>("palfrey.ipc", ChannelType::Broadcast).await.unwrap();
    let mut messages = channel.receiver().await.unwrap();
    questions.try_send(number).unwrap();
    let worker = WorkerStatus {
        identity: format!("worker-{number:03}"),
        process: Process::here(),
        bus: "default".to_owned(),
        draining: false,
        slots: 4,
        waiting: 0,
        running: Vec::new(),
        load: 0.5,
        executed: 7,
        plugins: Vec::new(),
        uptime: Duration::from_secs(1),
    };
    let job = JobStatus {
        id: format!("job-{number:03}").as_str().into(),
        process: Process::here(),
        bus: "default".to_owned(),
        operations: Vec::new(),
        done: 1,
        taken: 2,
        total: Some(3),
        in_flight: 1,
        running: 0,
        retried: 0,
        failed: 0,
        age: Duration::from_secs(1),
    };
    while let Some((message, acker)) = messages.next().await {
        acker.ack().await.unwrap();
        let (reply_to, answers) = match message {
            WorkerIpc::Report { reply_to } => {
                questions.try_send(number).unwrap();
                (reply_to, vec![Answer::Worker(worker.clone()), Answer::Jobs(vec![job.clone()])])
            }
            WorkerIpc::Cancel { routing_key, reply_to, .. } if routing_key == job.id => {
                (reply_to, vec![Answer::Accepted])
            }
            WorkerIpc::Drain { worker: identity, reply_to, .. } if identity == worker.identity => {
                (reply_to, vec![Answer::Accepted])
            }
            _ => continue,
        };
        let sender = channels.leased(&reply_to).sender().await.unwrap();
        for answer in answers {
            sender.publish(&answer).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_rabbitmq_hundreds_answer_and_each_is_asked_once() {
    let vhost = palfrey_rabbitmq::shared_vhost().unwrap();
    let uri = vhost.uri().to_owned();
    let config =
        Config { runtime: palfrey_host::config::Transport::Amqp, amqp_uri: uri.parse().unwrap(), ..Config::default() };
    let runtime = Runtime::from_config(&config).await.unwrap();
    let broker = Amqp::connect(&uri, AmqpOptions::default()).await.unwrap();
    let channels = ChannelFactory::new(std::sync::Arc::new(broker), 16);
    // For all that is asked below.
    let (questions, mut heard) = tokio::sync::mpsc::channel(16 * HUNDREDS);
    let announcers: Vec<_> =
        (0..HUNDREDS).map(|number| tokio::spawn(announcer(channels.clone(), number, questions.clone()))).collect();
    for _ in 0..HUNDREDS {
        soon(heard.recv()).await.unwrap();
    }
    let survey = soon(runtime.survey()).await.unwrap();
    assert_eq!((survey.workers.len(), survey.jobs.len(), survey.silent), (HUNDREDS, HUNDREDS, 0));
    // One question to each, and its answers: nothing else was said.
    let mut asked = vec![0; HUNDREDS];
    while let Ok(number) = heard.try_recv() {
        asked[number] += 1;
    }
    assert_eq!(asked, vec![1; HUNDREDS]);

    // As an operator does it.
    let palfrey = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_palfrey"));
        let output = soon(command.args(arguments).env("PALFREY_AMQP_URI", &uri).output()).await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for (list, name) in [("workers", "worker-299"), ("jobs", "job-299")] {
        let listed: Vec<serde_json::Value> = serde_json::from_str(&palfrey(&[list, "--json"]).await).unwrap();
        assert_eq!(listed.len(), HUNDREDS, "{list}");
        let table = palfrey(&[list]).await;
        assert_eq!(table.lines().count(), 1 + HUNDREDS, "{table}");
        assert!(table.contains(name), "{table}");
    }
    assert!(palfrey(&["cancel", "job-123"]).await.starts_with("cancelled job-123 of "));
    assert!(palfrey(&["drain", "worker-123"]).await.starts_with("worker worker-123 of "));

    announcers.iter().for_each(tokio::task::JoinHandle::abort);
    join_all(announcers).await;
    assert_eq!(soon(runtime.survey()).await.unwrap(), Survey::default(), "whoever is gone does not answer");
}
