//! Messages that nobody sane sends: garbage tasks, and components that are not what their records say.

use std::time::Duration;

use arith::MultiplyBy;
use bytes::Bytes;
use futures::StreamExt;
use palfrey_host::{
    directive::*,
    engine::{Engine, EngineConfig},
    plugin::{
        Action, Activation, CheckedComponent, Chunk, ComponentError, ComponentStore, Follow, Record, Registry,
        RegistryOptions,
    },
    queue::{Connection, QueueKind, QueueSpec},
    task::Digest,
};
use palfrey_tests::{World, cache_dir, component, component_file, soon};

pub(crate) async fn append(connection: &impl Connection, log: &str, messages: impl IntoIterator<Item = Bytes>) {
    let log = connection.declare(&QueueSpec::new(log, QueueKind::Log)).await.unwrap();
    let publisher = log.publisher().await.unwrap();
    for message in messages {
        soon(publisher.publish(message)).await.unwrap();
    }
}

/// The record that would deploy a component, and its chunks.
pub(crate) fn upload(component: &Bytes) -> (Digest, Bytes, Vec<Chunk>) {
    let config = EngineConfig { cache_dir: Some(cache_dir()), ..EngineConfig::default() };
    let plugin = Engine::new(&config).unwrap().load(component).unwrap();
    let CheckedComponent { description, imports } = CheckedComponent::from(&plugin);
    let (digest, size) = (plugin.digest(), plugin.size());
    let chunks = Chunk::count(component.len());
    let activation =
        Activation { digest, size, chunks, description, imports, force: false, signature: None, grants: [].into() };
    let record = Record::new("mallory", Action::Activate(activation)).encode();
    (digest, record, Chunk::split(digest, component).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbage_task_is_dead_lettered_with_the_reason_and_the_next_one_runs() {
    let world = World::new();
    let worker = world.worker(&["--slots", "1"]).await;
    world.deploy(&["arith"]).await;
    let runtime = world.runtime().await;
    let connection = world.connection().await;
    let bus = QueueSpec::new("default", QueueKind::Tasks);
    let publisher = connection.handle(&bus).publisher().await.unwrap();
    for garbage in ["garbage", "\x01\x7f\0\0\0", ""] {
        publisher.publish(garbage.into()).await.unwrap();
    }
    assert_eq!(soon(Literal::new(21).map(&MultiplyBy(2)).run(&runtime)).await.unwrap(), 42);
    worker.log().until(&["does not decode; it goes to the dead-letter queue", "format version 103"]).await;

    let dead = connection.declare(&bus.dead_letters().unwrap()).await.unwrap();
    let letters = dead.consumer(3).await.unwrap().take(3).collect::<Vec<_>>();
    let mut reasons: Vec<_> =
        soon(letters).await.into_iter().map(|letter| letter.dead_letter().unwrap().reason.clone()).collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "0 bytes are too few for a message",
            "the header should have 127 bytes, and 0 are there",
            "the message has format version 103, and this release reads version 1",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_not_its_digest_is_refused_by_workers_that_go_on() {
    let world = World::new();
    let connection = world.connection().await;
    // Garbage in both logs, and a component with one bit changed under the digest of the original.
    append(&connection, "palfrey.registry", ["garbage".into(), Bytes::new()]).await;
    append(&connection, "palfrey.components", ["garbage".into()]).await;
    let (digest, record, mut chunks) = upload(&component("probe-1").into());
    let mut bytes = chunks[0].bytes.to_vec();
    bytes[100] ^= 1;
    chunks[0].bytes = bytes.into();
    append(&connection, "palfrey.components", chunks.iter().map(Chunk::encode)).await;
    append(&connection, "palfrey.registry", [record]).await;

    // Its own folder: in the shared one there may be an undamaged copy.
    let folder = tempfile::tempdir().unwrap();
    let worker = world.worker(&["--cache-dir", folder.path().to_str().unwrap()]).await;
    let damaged = format!("the upload of {digest} is damaged, its bytes are sha256:");
    let log = worker.log();
    log.until(&["cannot load a plugin", "plugin=\"probe\"", &damaged, "deploy it again with --force"]).await;
    log.until(&["skipped a record of the registry: it has format 103, and this release reads format 1"]).await;
    log.until(&["skipped a record of the registry: it is empty"]).await;
    log.until(&["skipped a record of the components"]).await;

    // What the program is told, and how the operator mends it.
    let runtime = world.runtime().await;
    let error = soon(runtime.call("probe/measure", &[][..], vec![7])).await.unwrap_err().to_string();
    assert!(error.contains("the worker does not have the plugin") && error.contains(&damaged), "{error}");
    let mended = world.palfrey(&["deploy", component_file("probe-1").to_str().unwrap(), "--force"]).await;
    assert_eq!(mended.code, 0, "{}", mended.stderr);
    assert_eq!(soon(runtime.call("probe/measure", &[][..], vec![7])).await.unwrap()[..], [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_upload_is_named_and_what_is_there_of_it() {
    let world = World::new();
    let connection = world.connection().await;
    let (digest, record, chunks) = upload(&component("arith").into());
    assert!(chunks.len() > 1, "there is something to leave out");
    append(&connection, "palfrey.components", chunks.iter().skip(1).map(Chunk::encode)).await;
    append(&connection, "palfrey.registry", [record]).await;

    let options = RegistryOptions {
        follow: Follow::Components(ComponentStore::in_memory()),
        component_timeout: Duration::from_millis(100),
        ..RegistryOptions::default()
    };
    let registry = Registry::open(&connection, options).await.unwrap();
    soon(registry.caught_up()).await.unwrap();
    let error = soon(registry.component(&digest)).await.unwrap_err();
    assert!(matches!(error, ComponentError::Missing { .. }), "{error}");
    let (there, of) = (chunks.len() - 1, chunks.len());
    assert_eq!(
        error.to_string(),
        format!(
            "{digest} did not arrive within 100ms: {there} of {of} chunks are there, the upload was cut off; deploy it \
             again with --force"
        )
    );
    append(&connection, "palfrey.components", [chunks[0].encode()]).await;
    // It may take longer to arrive than anybody waits for it here.
    let arrived = async {
        loop {
            if let Ok(arrived) = registry.component(&digest).await {
                return arrived;
            }
        }
    };
    assert_eq!(soon(arrived).await, component("arith"));
}
