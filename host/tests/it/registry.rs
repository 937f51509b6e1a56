//! The registry over a broker in memory: several processes, each with a connection of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use palfrey_host::{
    engine::{Description, Descriptor, Engine, EngineConfig, Grants, Kind},
    plugin::{
        Change, CheckedComponent, Chunk, ComponentStore, DeployOptions, Deployed, Follow, Plugins, Record, Registry,
        RegistryError, RegistryOptions, RollbackTo, Trust,
    },
    queue::{Connection as _, QueueKind, QueueSpec, in_memory::InMemory},
    task::Digest,
};

/// A process that deploys and resolves.
async fn operator(broker: &InMemory) -> Registry {
    open(broker, Follow::Activations).await
}

/// A process that also wants the components.
async fn worker(broker: &InMemory) -> Registry {
    open(broker, Follow::Components(ComponentStore::in_memory())).await
}

async fn open(broker: &InMemory, follow: Follow) -> Registry {
    let options = RegistryOptions {
        follow,
        who: "ada".to_owned(),
        component_timeout: Duration::from_millis(50),
        ..RegistryOptions::default()
    };
    let registry = Registry::open(&broker.another_connection(), options).await.unwrap();
    registry.caught_up().await.unwrap();
    registry
}

/// Three and a bit chunks of something.
fn component(seed: u8) -> Bytes {
    (0..3 * Chunk::SIZE + 5).map(|index| (index as u8).wrapping_mul(seed)).collect()
}

/// What a component with one operation says of itself.
pub(crate) fn description(name: &str, version: &str) -> Description {
    let operation = Descriptor {
        name: "fib-at".to_owned(),
        kind: Kind::Operation,
        summary: String::new(),
        encodings: vec!["postcard".to_owned()],
        config_schema: None,
        input_schema: None,
        output_schema: None,
        needs: Default::default(),
    };
    Description { name: name.to_owned(), version: version.parse().unwrap(), operations: vec![operation] }
}

fn checked(version: &str) -> CheckedComponent {
    let description = description("arith", version);
    CheckedComponent { description, imports: vec!["palfrey:plugin/context@0.1.0".to_owned()] }
}

async fn deploy(registry: &Registry, version: &str, seed: u8) -> Result<Deployed, RegistryError> {
    registry.deploy_checked(component(seed), checked(version), &DeployOptions::default()).await
}

fn resolved(registry: &Registry) -> Result<String, String> {
    let resolved = registry.resolve(&"arith/fib-at".parse().unwrap());
    resolved.map(|resolved| resolved.version.to_string()).map_err(|error| error.to_string())
}

async fn append(broker: &InMemory, log: &str, entry: Bytes) {
    let log = broker.declare(&QueueSpec::new(format!("palfrey.{log}"), QueueKind::Log)).await.unwrap();
    log.publisher().await.unwrap().publish(entry).await.unwrap();
}

#[tokio::test]
async fn a_deployment_reaches_processes_that_are_there_and_those_that_come_later() {
    let broker = InMemory::new();
    let (operator, early) = (operator(&broker).await, worker(&broker).await);
    let deployed = deploy(&operator, "1.0.0", 3).await.unwrap();
    assert!(matches!(deployed.change, Change::Deployed { replaced: None, .. }));
    assert_eq!(deployed.deployment.who, "ada");
    let late = worker(&broker).await;
    for registry in [early, late] {
        registry.caught_up().await.unwrap();
        assert_eq!(resolved(&registry).unwrap(), "1.0.0");
        assert_eq!(registry.component(&deployed.deployment.digest).await.unwrap(), component(3));
        assert_eq!(registry.state(), operator.state());
    }
}

#[tokio::test]
async fn deploying_again_rolling_back_and_undeploying_are_seen_by_everybody() {
    let broker = InMemory::new();
    let (operator, other) = (operator(&broker).await, self::operator(&broker).await);
    let seen = async || {
        other.caught_up().await.unwrap();
        resolved(&other)
    };
    deploy(&operator, "1.0.0", 3).await.unwrap();
    deploy(&operator, "1.1.0", 5).await.unwrap();
    assert_eq!(seen().await.unwrap(), "1.1.0");
    let back = operator.rollback("arith", &RollbackTo::Previous).await.unwrap();
    assert_eq!(back.deployment.version().to_string(), "1.0.0");
    assert_eq!(seen().await.unwrap(), "1.0.0");
    operator.undeploy("arith").await.unwrap();
    assert!(seen().await.unwrap_err().contains("plugin `arith` was undeployed by ada at "));
    let error = operator.undeploy("arith").await.unwrap_err().to_string();
    assert!(error.contains("plugin `arith` is not deployed"), "{error}");
    operator.rollback("arith", &RollbackTo::Version("1.1.0".parse().unwrap())).await.unwrap();
    assert_eq!(seen().await.unwrap(), "1.1.0");
    assert_eq!(operator.inspect("arith").unwrap().events().len(), 5);
    assert_eq!(operator.list(), other.list());
}

#[tokio::test]
async fn deploying_what_is_active_appends_nothing() {
    let broker = InMemory::new();
    let operator = operator(&broker).await;
    deploy(&operator, "1.0.0", 3).await.unwrap();
    let before = operator.state().next_offset();
    assert_eq!(deploy(&operator, "1.0.0", 3).await.unwrap().change, Change::Nothing);
    operator.caught_up().await.unwrap();
    assert_eq!(operator.state().next_offset(), before);
}

#[tokio::test]
async fn of_two_who_deploy_one_version_at_once_one_is_refused() {
    let broker = InMemory::new();
    let (one, other) = (operator(&broker).await, operator(&broker).await);
    let outcomes = tokio::join!(deploy(&one, "1.0.0", 3), deploy(&other, "1.0.0", 5));
    let (winner, loser) = match outcomes {
        (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser.to_string()),
        other => panic!("{other:?}"),
    };
    assert!(loser.contains("version 1.0.0 of `arith` was deployed before with other bytes"), "{loser}");
    assert_eq!(one.inspect("arith").unwrap().active(), Some(&winner.deployment));
}

#[tokio::test]
async fn an_upload_is_reported_until_it_is_complete_and_not_repeated() {
    let broker = InMemory::new();
    let operator = operator(&broker).await;
    let (done, calls) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let options = DeployOptions {
        progress: Some(Arc::new({
            let (done, calls) = (done.clone(), calls.clone());
            move |bytes, total| {
                assert!(bytes <= total);
                done.store(bytes, Ordering::SeqCst);
                calls.fetch_add(1, Ordering::SeqCst);
            }
        })),
        ..DeployOptions::default()
    };
    let first = component(3);
    operator.deploy_checked(first.clone(), checked("1.0.0"), &options).await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), first.len() as u64);
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    deploy(&operator, "1.1.0", 5).await.unwrap();
    operator.deploy_checked(first.clone(), checked("1.0.0"), &options).await.unwrap();
    assert_eq!(resolved(&operator).unwrap(), "1.0.0");
    assert_eq!(calls.load(Ordering::SeqCst), 4, "its bytes are in the log already");
    let forced = DeployOptions { force: true, ..options };
    operator.deploy_checked(first, checked("1.0.0"), &forced).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 8, "whoever insists uploads them again");
}

#[tokio::test]
async fn records_that_cannot_be_read_are_skipped() {
    let broker = InMemory::new();
    let worker = worker(&broker).await;
    for garbage in [&b""[..], b"\x01garbage", b"\x09from a later release"] {
        append(&broker, "registry", Bytes::from_static(garbage)).await;
        append(&broker, "components", Bytes::from_static(garbage)).await;
    }
    let deployed = deploy(&operator(&broker).await, "1.0.0", 3).await.unwrap();
    worker.caught_up().await.unwrap();
    assert_eq!(resolved(&worker).unwrap(), "1.0.0");
    assert_eq!(worker.component(&deployed.deployment.digest).await.unwrap(), component(3));
}

/// Appends what a deployment that was cut off, or went wrong, leaves in the logs.
async fn activate_without_upload(broker: &InMemory, chunks: impl IntoIterator<Item = Chunk>) -> Digest {
    use palfrey_host::plugin::{Action, Activation};

    let component = component(3);
    let digest = Digest::of(&component);
    for chunk in chunks {
        append(broker, "components", chunk.encode()).await;
    }
    let activation = Activation {
        digest,
        size: component.len() as u64,
        chunks: Chunk::count(component.len()),
        description: checked("1.0.0").description,
        imports: Vec::new(),
        force: false,
        signature: None,
        grants: [].into(),
    };
    append(broker, "registry", Record::new("eve", Action::Activate(activation)).encode()).await;
    digest
}

#[tokio::test]
async fn a_truncated_upload_says_how_much_arrived_and_a_complete_one_heals_it() {
    let broker = InMemory::new();
    let worker = worker(&broker).await;
    let chunks = Chunk::split(Digest::of(&component(3)), &component(3));
    let digest = activate_without_upload(&broker, chunks.take(2)).await;
    worker.caught_up().await.unwrap();
    let error = worker.component(&digest).await.unwrap_err().to_string();
    assert!(error.contains("did not arrive within 50ms: 2 of 4 chunks are there, the upload was cut off"), "{error}");
    assert!(error.ends_with("deploy it again with --force"), "{error}");
    let forced = DeployOptions { force: true, ..DeployOptions::default() };
    let operator = operator(&broker).await;
    operator.deploy_checked(component(3), checked("1.0.0"), &forced).await.unwrap();
    worker.caught_up().await.unwrap();
    assert_eq!(worker.component(&digest).await.unwrap(), component(3));
}

#[tokio::test]
async fn an_upload_whose_digest_does_not_match_is_refused_and_a_good_one_heals_it() {
    let broker = InMemory::new();
    let worker = worker(&broker).await;
    let lie = Chunk::split(Digest::of(&component(3)), &component(5));
    let digest = activate_without_upload(&broker, lie).await;
    worker.caught_up().await.unwrap();
    let error = worker.component(&digest).await.unwrap_err().to_string();
    assert!(error.contains(&format!("the upload of {digest} is damaged")), "{error}");
    let forced = DeployOptions { force: true, ..DeployOptions::default() };
    let operator = operator(&broker).await;
    operator.deploy_checked(component(3), checked("1.0.0"), &forced).await.unwrap();
    worker.caught_up().await.unwrap();
    assert_eq!(worker.component(&digest).await.unwrap(), component(3));
}

#[tokio::test]
async fn an_upload_that_never_happened_is_named() {
    let broker = InMemory::new();
    let worker = worker(&broker).await;
    let digest = activate_without_upload(&broker, []).await;
    let error = worker.component(&digest).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{digest} did not arrive within 50ms: none of it is in the log")), "{error}");
    let error = operator(&broker).await.component(&digest).await.unwrap_err().to_string();
    assert!(error.contains("does not follow components"), "{error}");
}

#[tokio::test]
async fn a_stored_component_is_there_before_the_log_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let follow = || Follow::Components(ComponentStore::in_directory(directory.path()).unwrap());
    let broker = InMemory::new();
    let first = open(&broker, follow()).await;
    let digest = deploy(&first, "1.0.0", 3).await.unwrap().deployment.digest;
    first.caught_up().await.unwrap();
    drop(first);
    let elsewhere = open(&InMemory::new(), follow()).await;
    assert_eq!(elsewhere.component(&digest).await.unwrap(), component(3));
}

#[tokio::test]
async fn subscribers_hear_of_changes_and_of_the_end() {
    let broker = InMemory::new();
    let connection = broker.another_connection();
    let registry = Registry::open(&connection, RegistryOptions::default()).await.unwrap();
    let mut states = registry.subscribe();
    deploy(&operator(&broker).await, "1.0.0", 3).await.unwrap();
    states.wait_for(|state| state.plugin("arith").is_ok()).await.unwrap();
    connection.close().await.unwrap();
    while states.changed().await.is_ok() {}
    let error = registry.caught_up().await.unwrap_err().to_string();
    assert_eq!(error, "the connection is closed");
}

/// A component as small as can be that is none of ours.
fn foreign() -> Bytes {
    Bytes::from_static(b"\0asm\x0d\0\x01\0")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_workers_cannot_execute_is_not_deployed() {
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let registry = operator(&InMemory::new()).await;
    let error = registry.deploy(foreign(), &engine, &DeployOptions::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Load(_)), "{error:?}");
    assert!(error.to_string().contains("does not export `palfrey:plugin/operations"), "{error}");
    registry.caught_up().await.unwrap();
    assert_eq!(registry.list(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_finds_a_broken_component_says_so_and_goes_on() {
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let broker = InMemory::new();
    let plugins = Plugins::new(worker(&broker).await, engine, Trust::default(), Grants::default());
    let operator = operator(&broker).await;
    let broken = operator.deploy_checked(foreign(), checked("1.0.0"), &DeployOptions::default()).await.unwrap();
    for _ in 0..2 {
        let error = plugins.get("arith", &broken.deployment.digest).await.unwrap_err().to_string();
        assert!(error.contains("does not export `palfrey:plugin/operations"), "{error}");
    }
    let missing = Digest::of(b"missing");
    let error = plugins.get("arith", &missing).await.unwrap_err().to_string();
    assert!(error.contains("did not arrive"), "{error}");
    for chunk in Chunk::split(missing, &Bytes::from_static(b"missing")) {
        append(&broker, "components", chunk.encode()).await;
    }
    plugins.registry().caught_up().await.unwrap();
    let error = plugins.get("arith", &missing).await.unwrap_err().to_string();
    assert!(error.contains("not WebAssembly"), "what was missing is looked for again: {error}");
}
