//! Accounts with the permissions that SECURITY.md gives them: each role can do its work, and nothing else. The commands are
//! taken from that paper.

use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{FieldTable, ShortString},
};
use palfrey_host::{
    channel::ChannelFactory,
    queue::amqp::{Amqp, AmqpOptions},
    worker::WorkerIpc,
};
use palfrey_rabbitmq::Node;
use palfrey_tests::{World, component_file, soon};

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
    let [worker, ada, deployer, observer] = ["worker", "ada", "deployer", "observer"].map(|user| world(&node, user));
    let arith = component_file("arith");
    let deploy = ["deploy", arith.to_str().unwrap()];

    // The work.
    let process = worker.worker(&[]).await;
    deployer.done(&deploy).await;
    let listed = observer.done(&["plugins"]).await;
    assert!(listed.contains("arith"), "{listed}");
    assert!(observer.done(&["inspect", "arith"]).await.contains("fib-at"));
    let runtime = ada.runtime().await;
    assert_eq!(soon(runtime.call("arith/fib-at", &[][..], vec![10])).await.unwrap()[..], [55]);
    assert!(ada.done(&["workers"]).await.contains("WORKER"));
    ada.done(&["jobs"]).await;
    deployer.done(&["undeploy", "arith"]).await;
    deployer.done(&["rollback", "arith"]).await;

    // Deploying is for deployers.
    let text = component_file("text");
    let changes = [&["deploy", text.to_str().unwrap()][..], &["deploy", deploy[1], "--force"], &["undeploy", "arith"]];
    for other in [&worker, &ada, &observer] {
        for arguments in changes {
            let ran = other.palfrey(arguments).await;
            assert_ne!(ran.code, 0, "{arguments:?}: {}", ran.stdout);
            assert!(ran.stderr.contains("ACCESS_REFUSED"), "{arguments:?}: {}", ran.stderr);
        }
    }
    let listed = observer.done(&["plugins"]).await;
    assert!(listed.contains("arith") && !listed.contains("text"), "{listed}");

    // Another user's results, and what else each of them must not touch, by the protocol itself.
    let bob = connect(&node, "palfrey", "palfrey").await;
    let lease = "bob.0123456789abcdef0123456789abcdef";
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    bob.queue_declare(lease.into(), durable, FieldTable::default()).await.unwrap();
    for (user, attempts) in [
        (
            "ada",
            &[
                Attempt::Read(lease),
                Attempt::Read("default"),
                Attempt::Read("palfrey.components"),
                Attempt::Overhear(lease),
                Attempt::Overhear("default"),
                Attempt::Overhear("#"),
                Attempt::Delete("default"),
                Attempt::Delete("palfrey.registry"),
                Attempt::Make("ada.other"),
                Attempt::Send("palfrey.topic", "default.dead"),
                Attempt::Send("palfrey.topic", "palfrey.registry"),
                Attempt::Send("", "palfrey.registry"),
            ][..],
        ),
        (
            "worker",
            &[
                Attempt::Read(lease),
                Attempt::Delete("default"),
                Attempt::Delete("palfrey.registry"),
                Attempt::Make("default.other"),
                Attempt::Send("palfrey.topic", "default"),
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
                Attempt::Delete("palfrey.registry"),
                Attempt::Make("deployer.0123456789abcdef0123456789abcdef"),
                Attempt::Send("palfrey.topic", "default"),
                Attempt::Send("palfrey.topic", lease),
                Attempt::Send("palfrey.ipc", ""),
            ],
        ),
        (
            "observer",
            &[
                Attempt::Read(lease),
                Attempt::Read("default"),
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
            let refused = attempt.on(&connect(&node, user, "secret").await).await;
            let error = refused.expect_err(&format!("{user}: {attempt:?} went through"));
            let is_refused = matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == 403);
            assert!(is_refused, "{user}: {attempt:?}: {error}");
        }
    }
    a_lease_is_its_owners(&node).await;
    drop(process);
}

async fn a_lease_is_its_owners(node: &Node) {
    let uri = world(node, "ada").uri().to_owned();
    let connection = soon(Amqp::connect(&uri, AmqpOptions::default())).await.unwrap();
    let channels = ChannelFactory::new(std::sync::Arc::new(connection), 1);
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

/// What somebody might try. Names are those of queues, but for the exchange that something is sent to.
#[derive(Debug)]
enum Attempt<'a> {
    Read(&'a str),
    /// Listen to what is sent to a queue, by a queue of one's own.
    Overhear(&'a str),
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
            Self::Overhear(key) => {
                let own = ShortString::from("ada.fedcba9876543210fedcba9876543210");
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
