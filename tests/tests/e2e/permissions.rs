//! Accounts with the permissions that SECURITY.md gives them: each role can do its work, and nothing else. The commands are
//! taken from that paper.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use arith::FibAt;
use bytes::Bytes;
use digest::Mine;
use futures::{StreamExt, TryStreamExt};
use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{FieldTable, ShortString},
};
use palfrey_host::{
    JobError, Runtime,
    channel::ChannelFactory,
    directive::*,
    queue::{
        Connection as _, QueueKind, QueueSpec,
        amqp::{Amqp, AmqpOptions},
    },
    runtime::Task,
    task::{AnyTask, AnyTaskResult, Cause, TaskOutcome, wire::Message as _},
    worker::WorkerIpc,
};
use palfrey_rabbitmq::Node;
use palfrey_sdk::Blob;
use palfrey_tests::{Worker, World, component_file, soon};
use serde_json::Value;

use crate::{
    batches_of,
    handed_on::{after_rounds, task_from_the_future},
};

const PAPER: &str = include_str!("../../../SECURITY.md");

/// The commands of the paper's block.
fn commands() -> Vec<Vec<String>> {
    let (_, rest) = PAPER.split_once("\n## Permissions\n").unwrap();
    let (_, rest) = rest.split_once("\n```sh\n").unwrap();
    let (block, _) = rest.split_once("\n```\n").unwrap();
    let words = |line: &str| {
        line.split(' ').map(|word| word.trim_matches(['\'', '"']).replace("$PASSWORD", "secret")).collect()
    };
    block.lines().filter_map(|line| line.strip_prefix("rabbitmqctl ")).map(words).collect()
}

/// A node with the accounts of the paper, on which an administrator has made what is shared.
async fn node() -> Node {
    let node = tokio::task::spawn_blocking(|| {
        let node = Node::start().unwrap();
        let commands = commands();
        assert_eq!(commands.len(), 11);
        for command in commands {
            node.ctl(command.iter().map(String::as_str)).unwrap();
        }
        node
    });
    let node = node.await.unwrap();
    World::at(node.uri()).done(&["plugins"]).await;
    node
}

fn world(node: &Node, user: &str) -> World {
    World::at(format!("amqp://{user}:secret@127.0.0.1:{}/%2f", node.port()))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_can_do_its_work_and_nothing_else() {
    let node = node().await;
    let administrator = World::at(node.uri());
    let [worker, ada, deployer, observer] = ["worker", "ada", "deployer", "observer"].map(|user| world(&node, user));
    let folder = tempfile::tempdir().unwrap();
    let [arith, asker] = ["arith", "asker"].map(|name| copied(folder.path(), name));

    // Deploying, with a signature and with grants.
    let key = folder.path().join("release");
    let key = key.to_str().unwrap();
    let (secret, public) = (format!("{key}.key"), format!("{key}.pub"));
    deployer.done(&["keygen", key, "--no-password"]).await;
    deployer.done(&["sign", "--key", &secret, &arith]).await;
    deployer.done(&["deploy", "--trust", &public, &arith]).await;
    let granted = ["clocks", "entropy", "env:CARGO_PKG_NAME", "dir:/data"].map(|name| ["--grant", name]).concat();
    let told = deployer.done(&[&["deploy", &asker], &granted[..]].concat()).await;
    assert!(told.contains("granted clocks"), "{told}");
    deployer.done(&["deploy", component_file("digest").to_str().unwrap()]).await;
    deployer.done(&["undeploy", "arith"]).await;
    deployer.done(&["rollback", "arith"]).await;
    let listed = observer.done(&["plugins"]).await;
    assert!(listed.contains("arith") && listed.contains("digest"), "{listed}");
    observer.done(&["inspect", "arith"]).await;

    let runtime = Arc::new(ada.runtime().await);
    let process = tasks_are_executed_set_apart_and_handed_on(&administrator, &worker, &runtime).await;
    let listening = listening(&node);
    operators_see_cancel_and_drain(&worker, &ada, &runtime, process).await;
    a_queue_of_tasks_that_is_gone_is_the_administrators_to_make(&node, &administrator, &worker, &runtime).await;
    nobody_else_deploys_asks_or_looks_at_dead_letters([&worker, &ada, &deployer, &observer], &arith).await;
    by_the_protocol_itself(&node).await;
    a_lease_is_its_owners(&node).await;
    // Receivers look every ten seconds whether they are still connected to what all are told. Nobody is refused that, who would have to
    // subscribe again and might miss something meanwhile.
    assert!(self::listening(&node).iter().any(|queue| listening.contains(queue)), "the program listens as before");
}

/// The queues of those who hear what all are told.
fn listening(node: &Node) -> BTreeSet<String> {
    let list = "[io:format(\"~s~n\", [Name]) || \
        [{name, {resource, _, queue, Name}}] <- rabbit_amqqueue:info_all(<<\"/\">>, [name])], ok";
    let listed = node.evaluate(list).unwrap();
    listed.lines().filter(|name| name.starts_with("palfrey.broadcast.")).map(str::to_owned).collect()
}

/// A component in a folder where its signature can lie beside it.
fn copied(folder: &Path, name: &str) -> String {
    let file = folder.join(name).with_extension("wasm");
    fs::copy(component_file(name), &file).unwrap();
    file.to_str().unwrap().to_owned()
}

fn bus() -> QueueSpec {
    QueueSpec::new("default", QueueKind::Tasks)
}

/// Whatever a worker does with a task, by its own account. Returns the worker.
async fn tasks_are_executed_set_apart_and_handed_on(
    administrator: &World,
    worker: &World,
    runtime: &Arc<Runtime>,
) -> Worker {
    // It came back so often that it is a suspect before any worker is there.
    let connection = administrator.connection().await;
    let queue = connection.handle(&bus());
    let mut tasks = soon(queue.consumer(1)).await.unwrap();
    let job = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.call("arith/fib-at", &[][..], vec![10]).await }
    });
    let mut task = Bytes::new();
    for _ in 0..3 {
        let delivery = soon(tasks.next()).await.unwrap();
        task = delivery.payload;
        delivery.acker.nack().await.unwrap();
    }
    drop(tasks);
    let process = worker.worker(&["--slots", "1", "--prefetch", "4", "--drain-timeout", "1s"]).await;
    assert_eq!(soon(job).await.unwrap().unwrap()[..], [55]);
    process.log().until(&["executing a task alone", "operation=arith/fib-at"]).await;

    // On a typed channel of one's own.
    let (routing_key, sender, mut results) = runtime.lease_coordinated_task_channel::<FibAt, ()>().await.unwrap();
    soon(sender.publish(&Task { routing_key, metadata: (), op: &FibAt, input: 10 })).await.unwrap();
    let (result, acker) = soon(results.next()).await.unwrap();
    assert_eq!(result.unwrap().output, 55);
    acker.ack().await.unwrap();
    drop((sender, results));

    // Garbage, and a task that is handed on once more before it is given up.
    soon(async { queue.publisher().await.unwrap().publish("garbage".into()).await }).await.unwrap();
    let (answers, channel) = soon(runtime.channels().issue::<AnyTaskResult>()).await.unwrap();
    let mut failures = soon(channel.receiver()).await.unwrap();
    let broker = soon(Connection::connect(administrator.uri(), ConnectionProperties::default())).await.unwrap();
    let publishing = soon(broker.create_channel()).await.unwrap();
    let (later, options) = (task_from_the_future(answers.as_str(), 7), BasicPublishOptions::default());
    soon(publishing.basic_publish("".into(), "default".into(), options, &later, after_rounds(299))).await.unwrap();
    let (failure, acker) = soon(failures.next()).await.unwrap();
    let TaskOutcome::Failed(failure) = failure.outcome else { panic!("{failure:?}") };
    assert_eq!(failure.cause, Cause::Format { version: 9 });
    acker.ack().await.unwrap();
    soon(channel.release()).await.unwrap();
    let dead = connection.handle(&bus().dead_letters().unwrap());
    soon(async { while dead.status().await.unwrap().messages < 2 {} }).await;

    // What an administrator does with them.
    let letters = json(administrator, &["dead", "list"]).await;
    let rounds = |letter: &Value| -> u64 {
        let moves = letter["moves"].as_array().unwrap().iter().filter(|one| one["to"] == "default.later");
        moves.map(|one| one["times"].as_u64().unwrap()).sum()
    };
    assert_eq!(letters.iter().map(rounds).max(), Some(300), "it was handed on: {letters:?}");
    let garbage = letters.iter().find(|letter| rounds(letter) == 0).unwrap()["name"].as_str().unwrap();
    administrator.done(&["dead", "show", garbage]).await;
    administrator.done(&["dead", "requeue", garbage]).await;
    soon(async { while dead.status().await.unwrap().messages < 2 {} }).await;
    administrator.done(&["dead", "drop", "--yes"]).await;
    assert_eq!(administrator.done(&["dead", "list"]).await, "there are no dead letters\n");

    // A task that wants its result where a worker may not send takes no other's result with it.
    let misled = AnyTask { routing_key: "palfrey.registry".into(), ..AnyTask::decode(task).unwrap() };
    soon(async { queue.publisher().await.unwrap().publish(misled.encode()).await }).await.unwrap();
    assert_eq!(soon(runtime.call("arith/fib-at", &[][..], vec![10])).await.unwrap()[..], [55]);
    soon(async { while dead.status().await.unwrap().messages < 1 {} }).await;
    assert!(administrator.done(&["dead", "list"]).await.contains("may not send to `palfrey.registry`"));
    administrator.done(&["dead", "drop", "--yes"]).await;
    process
}

/// More zero bits than anybody will find within a test.
const HOPELESS: Mine = Mine { bits: 60 };

/// What goes back when a worker is drained is executed by another one, until the job is cancelled.
async fn operators_see_cancel_and_drain(worker: &World, ada: &World, runtime: &Arc<Runtime>, mut leaving: Worker) {
    let blocks = [1, 2].map(|byte| Blob::from(vec![byte]));
    let results = IndexedStream::from(blocks).options(batches_of(1)).map(&HOPELESS).run(runtime).await.unwrap();
    let job = tokio::spawn(results.try_collect::<Vec<_>>());
    let running = async || {
        loop {
            let jobs = json(ada, &["jobs"]).await;
            if let [job] = &jobs[..]
                && job["running"] == 1
            {
                return job["job"].as_str().unwrap().to_owned();
            }
        }
    };
    let id = soon(running()).await;
    let workers = json(ada, &["workers"]).await;
    ada.done(&["drain", workers[0]["worker"].as_str().unwrap()]).await;
    leaving.log().until(&["handing back what is not finished after 1s"]).await;
    assert_eq!(leaving.ended().await, 0);
    let mut staying = worker.worker(&["--slots", "1"]).await;
    assert_eq!(soon(running()).await, id, "it came again");
    ada.done(&["cancel", &id]).await;
    let error = soon(job).await.unwrap().unwrap_err();
    assert!(matches!(error, JobError::Cancelled { .. }), "{error}");
    staying.signal("TERM");
    assert_eq!(staying.ended().await, 0);
}

async fn a_queue_of_tasks_that_is_gone_is_the_administrators_to_make(
    node: &Node,
    administrator: &World,
    worker: &World,
    runtime: &Arc<Runtime>,
) {
    let mut process = worker.worker(&[]).await;
    let channel = connect(node, "palfrey", "palfrey").await;
    soon(channel.queue_delete("default".into(), QueueDeleteOptions::default())).await.unwrap();
    // A worker cannot go on without it, and leaves it to whoever starts it to try again.
    assert_eq!(process.ended().await, 1, "{}", process.log());
    assert!(process.log().has(&["default", "ACCESS_REFUSED"]), "{}", process.log());
    // A program waits for it.
    let call = runtime.call("arith/fib-at", &[][..], vec![10]);
    let made = async {
        administrator.done(&["plugins"]).await;
        worker.worker(&[]).await
    };
    let (called, _process) = soon(async { tokio::join!(call, made) }).await;
    assert_eq!(called.unwrap()[..], [55]);
}

async fn nobody_else_deploys_asks_or_looks_at_dead_letters(
    [worker, ada, deployer, observer]: [&World; 4],
    arith: &str,
) {
    let text = component_file("text");
    let deploying = [&["deploy", text.to_str().unwrap()][..], &["deploy", arith, "--force"], &["undeploy", "arith"]];
    let asking = [&["workers"][..], &["jobs"], &["cancel", "0"], &["drain", "0"]];
    let letters = [&["dead", "list"][..], &["dead", "requeue", "--all"], &["dead", "drop", "--yes"]];
    let mut refused = Vec::new();
    refused.extend([worker, ada, observer].map(|other| (other, &deploying[..])));
    refused.extend([worker, deployer, observer].map(|other| (other, &asking[..])));
    refused.extend([worker, ada, deployer, observer].map(|other| (other, &letters[..])));
    for (other, commands) in refused {
        for arguments in commands {
            let ran = other.palfrey(arguments).await;
            assert_ne!(ran.code, 0, "{} {arguments:?}: {}", other.uri(), ran.stdout);
            let refusals = ["ACCESS_REFUSED", "this user may not send to"];
            let is_refused = refusals.iter().any(|refusal| ran.stderr.contains(refusal));
            assert!(is_refused, "{} {arguments:?}: {}", other.uri(), ran.stderr);
        }
    }
    let listed = observer.done(&["plugins"]).await;
    assert!(listed.contains("arith") && !listed.contains("text"), "{listed}");
}

async fn json(world: &World, arguments: &[&str]) -> Vec<Value> {
    serde_json::from_str(&world.done(&[arguments, &["--json"]].concat()).await).unwrap()
}

/// Another user's results, and what else each role must not touch.
async fn by_the_protocol_itself(node: &Node) {
    let bob = connect(node, "palfrey", "palfrey").await;
    let lease = "bob.0123456789abcdef0123456789abcdef";
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    bob.queue_declare(lease.into(), durable, FieldTable::default()).await.unwrap();
    for (user, attempts) in [
        (
            "ada",
            &[
                Attempt::Read(lease),
                Attempt::Read("default"),
                Attempt::Read("default.dead"),
                Attempt::Read("default.suspects"),
                Attempt::Read("default.later"),
                Attempt::Read("palfrey.components"),
                Attempt::Overhear(ADAS, lease),
                Attempt::Overhear(ADAS, "default"),
                Attempt::Overhear(ADAS, "#"),
                Attempt::Delete("default"),
                Attempt::Delete("palfrey.registry"),
                Attempt::Make("ada.other"),
                Attempt::Send("palfrey.topic", "default.dead"),
                Attempt::Send("palfrey.topic", "default.suspects"),
                Attempt::Send("palfrey.topic", "default.later"),
                Attempt::Send("palfrey.topic", "palfrey.registry"),
                Attempt::Send("", "palfrey.registry"),
            ][..],
        ),
        (
            "worker",
            &[
                Attempt::Read(lease),
                Attempt::Read("default.dead"),
                Attempt::Read("default.later"),
                Attempt::Overhear("palfrey.broadcast.mine", "default"),
                Attempt::Overhear("palfrey.broadcast.mine", lease),
                Attempt::Delete("default"),
                Attempt::Delete("palfrey.registry"),
                Attempt::Make("default.other"),
                Attempt::Make("worker.0123456789abcdef0123456789abcdef"),
                Attempt::Send("palfrey.topic", "default"),
                Attempt::Send("palfrey.topic", "default.other"),
                Attempt::Send("palfrey.topic", "palfrey.registry"),
                Attempt::Send("palfrey.topic", "palfrey.components"),
                Attempt::Send("", "palfrey.registry"),
            ],
        ),
        (
            "deployer",
            &[
                Attempt::Read(lease),
                Attempt::Read("default"),
                Attempt::Read("default.dead"),
                Attempt::Delete("palfrey.registry"),
                Attempt::Make("deployer.0123456789abcdef0123456789abcdef"),
                Attempt::Send("palfrey.topic", "default"),
                Attempt::Send("palfrey.topic", "default.suspects"),
                Attempt::Send("palfrey.topic", lease),
                Attempt::Send("palfrey.ipc", ""),
            ],
        ),
        (
            "observer",
            &[
                Attempt::Read(lease),
                Attempt::Read("default"),
                Attempt::Read("default.dead"),
                Attempt::Read("palfrey.components"),
                Attempt::Delete("default"),
                Attempt::Make("observer.0123456789abcdef0123456789abcdef"),
                Attempt::Send("palfrey.topic", "default"),
                Attempt::Send("palfrey.topic", "palfrey.registry"),
                Attempt::Send("palfrey.ipc", ""),
            ],
        ),
    ] {
        for attempt in attempts {
            let refused = attempt.on(&connect(node, user, "secret").await).await;
            let error = refused.expect_err(&format!("{user}: {attempt:?} went through"));
            let is_refused = matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == 403);
            assert!(is_refused, "{user}: {attempt:?}: {error}");
        }
    }
    // What the table says that workers and programs can do by a message: tell all workers something.
    for user in ["worker", "ada"] {
        Attempt::Send("palfrey.ipc", "").on(&connect(node, user, "secret").await).await.unwrap();
    }
}

async fn a_lease_is_its_owners(node: &Node) {
    let uri = world(node, "ada").uri().to_owned();
    let connection = soon(Amqp::connect(&uri, AmqpOptions::default())).await.unwrap();
    let channels = ChannelFactory::new(Arc::new(connection), 1);
    let (name, channel) = soon(channels.issue::<WorkerIpc>()).await.unwrap();
    assert!(name.as_str().starts_with("ada."), "{name}");
    assert!(soon(channel.receiver()).await.is_ok());
    // Its owner reads it, and only workers write to it.
    let refused = Attempt::Read(name.as_str()).on(&connect(node, "worker", "secret").await).await;
    assert!(refused.is_err());
    let sent = Attempt::Send("palfrey.topic", name.as_str()).on(&connect(node, "worker", "secret").await).await;
    assert!(sent.is_ok(), "{sent:?}");
}

async fn connect(node: &Node, user: &str, password: &str) -> Channel {
    let uri = format!("amqp://{user}:{password}@127.0.0.1:{}/%2f", node.port());
    let connection = soon(Connection::connect(&uri, ConnectionProperties::default())).await.unwrap();
    soon(connection.create_channel()).await.unwrap()
}

/// A queue that ada may make.
const ADAS: &str = "ada.fedcba9876543210fedcba9876543210";

/// What somebody might try. Names are those of queues, but for the exchange that something is sent to.
#[derive(Debug)]
enum Attempt<'a> {
    Read(&'a str),
    /// By a queue of one's own, listen to what is sent to another one.
    Overhear(&'a str, &'a str),
    Make(&'a str),
    Delete(&'a str),
    Send(&'a str, &'a str),
}

impl Attempt<'_> {
    async fn on(&self, channel: &Channel) -> lapin::Result<()> {
        let (none, durable) = (FieldTable::default(), QueueDeclareOptions { durable: true, ..Default::default() });
        match *self {
            Self::Read(queue) => {
                let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
                // A stream wants a prefetch, which is asked for after the permission.
                soon(channel.basic_consume(queue.into(), tag, options, none)).await.map(drop)
            }
            Self::Overhear(own, key) => {
                let own = ShortString::from(own);
                soon(channel.queue_declare(own.clone(), durable, none.clone())).await?;
                let options = QueueBindOptions::default();
                soon(channel.queue_bind(own, "palfrey.topic".into(), key.into(), options, none)).await
            }
            Self::Make(queue) => soon(channel.queue_declare(queue.into(), durable, none)).await.map(drop),
            Self::Delete(queue) => {
                soon(channel.queue_delete(queue.into(), QueueDeleteOptions::default())).await.map(drop)
            }
            Self::Send(exchange, key) => {
                soon(channel.confirm_select(ConfirmSelectOptions::default())).await?;
                let (options, properties) = (BasicPublishOptions::default(), Default::default());
                let sent = channel.basic_publish(exchange.into(), key.into(), options, b"forged", properties);
                soon(soon(sent).await?).await.map(drop)
            }
        }
    }
}
