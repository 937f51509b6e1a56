//! What operations ask for, deployments grant and workers allow.

use asker::{Action, LookAtData, LookAtValue, LookPlain, Seen, TouchData};
use palfrey_host::{
    JobError, Runtime,
    directive::*,
    engine::{Engine, EngineConfig},
    plugin::{Activation, CheckedComponent, Chunk, Record},
    task::{Cause, Digest},
};
use palfrey_sdk::RemoteExecute;
use palfrey_tests::{World, component, component_file, soon};

use crate::{batches_of, broken_messages::append};

const GRANTS: [&str; 8] =
    ["--grant", "clocks", "--grant", "entropy", "--grant", "env:CARGO_PKG_NAME", "--grant", "dir:/data"];

async fn deploy(world: &World) -> String {
    let file = component_file("asker");
    world.done(&[&["deploy", file.to_str().unwrap()], &GRANTS[..]].concat()).await
}

async fn look<Op>(runtime: &Runtime, operation: &Op, times: u64) -> Result<Vec<Seen>, JobError>
where
    Op: RemoteExecute<Input = u64, Output = Seen>,
{
    let results = IndexedStream::from(0..times).options(batches_of(1)).map(operation).run(runtime).await?;
    soon(results.into_values_sorted()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_asks_for_has_to_be_granted_by_name() {
    let world = World::new();
    let file = component_file("asker");
    let file = file.to_str().unwrap();
    let refused = world.palfrey(&["deploy", file, "--grant", "clocks", "--grant", "entropy"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (5, ""));
    let expect = "`asker` 0.1.0 asks for `env:CARGO_PKG_NAME` (for `look-at-value` and 1 more), `dir:/data` (for \
                  `look-at-data` and 3 more), which it is not granted: deploy it with --grant env:CARGO_PKG_NAME --grant \
                  dir:/data if it may have that";
    assert!(refused.stderr.contains(expect), "{}", refused.stderr);
    assert_eq!(world.done(&["plugins", "--json"]).await, "[]\n");

    let arguments = [&["deploy", file, "--grant", "env:OTHER"], &GRANTS[..]].concat();
    let refused = world.palfrey(&arguments).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.contains("nothing that is deployed here asks for `env:OTHER`"), "{}", refused.stderr);
    let refused = world.palfrey(&["deploy", file, "--grant", "http:example.org"]).await;
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("write `clocks`, `entropy`, `env:NAME` or `dir:/path`"), "{}", refused.stderr);

    let done = deploy(&world).await;
    assert!(done.ends_with("9 operations, granted clocks, entropy, env:CARGO_PKG_NAME, dir:/data)\n"), "{done}");
    assert!(deploy(&world).await.starts_with("asker 0.1.0 is active already"));
    let table = world.done(&["plugins"]).await;
    assert!(table.contains("look-plain look-at-clocks (impure) look-at-entropy (impure)"), "{table}");
    let sheet = world.done(&["inspect", "asker"]).await;
    let granted = "  needs    clocks, entropy, env:CARGO_PKG_NAME, dir:/data\n  granted  clocks, entropy, env:CARGO_PKG_NAME, \
                   dir:/data\n";
    assert!(sheet.contains(granted), "{sheet}");
    // What was granted once comes back with the version that it was granted to.
    world.done(&["undeploy", "asker"]).await;
    world.done(&["rollback", "asker"]).await;
    assert!(world.done(&["inspect", "asker"]).await.contains(granted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_allow_what_was_granted_hands_its_tasks_on_to_one_that_does() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one.txt"), "one").unwrap();
    let world = World::new();
    deploy(&world).await;
    let strict = world.worker(&["--slots", "1"]).await;
    strict
        .log()
        .until(&["leaving operations to other workers", "clocks, entropy, env:CARGO_PKG_NAME, dir:/data"])
        .await;
    let runtime = world.runtime().await;

    // Of one plugin, it executes what needs nothing.
    let plain = look(&runtime, &LookPlain, 3).await.unwrap();
    assert!(plain.iter().all(|seen| seen.wall == 946_688_400 && seen.environment.is_empty() && seen.data.is_none()));
    let job = {
        let runtime = world.runtime().await;
        tokio::spawn(async move { look(&runtime, &LookAtValue, 6).await })
    };
    let reason = "`asker/look-at-value` needs `env:CARGO_PKG_NAME`, which this worker does not allow: start workers with \
                  `--allow env:CARGO_PKG_NAME` for it";
    strict.log().until(&["handing on a task to other workers", reason]).await;
    assert!(!job.is_finished());

    let data = format!("dir:/data={}", folder.path().display());
    let allow = ["--slots", "1", "--allow", "env:CARGO_PKG_NAME", "--allow", &data];
    let mut generous = world.start_worker_in(&allow, &[("CARGO_PKG_NAME", "s3cret"), ("OTHER", "hidden")]);
    generous.ready().await;
    let seen = soon(job).await.unwrap().unwrap();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|seen| seen.environment == [("CARGO_PKG_NAME".to_owned(), "s3cret".to_owned())]));
    assert!(seen.iter().all(|seen| seen.data.is_none() && seen.wall == 946_688_400 && !seen.more), "{seen:?}");

    let seen = look(&runtime, &LookAtData, 4).await.unwrap();
    assert!(seen.iter().all(|seen| seen.data == Some(vec!["one.txt".to_owned()]) && seen.environment.is_empty()));
    let paths = ["/data/one.txt", "/data/../one.txt", "/etc/passwd"].map(String::from);
    let touched = IndexedStream::from(paths).map(&TouchData(Action::Read)).run(&runtime).await.unwrap();
    let touched = soon(touched.into_values_sorted()).await.unwrap();
    assert_eq!(touched[0], "ok one");
    assert!(!touched[1].starts_with("ok") && !touched[2].starts_with("ok"), "{touched:?}");

    // One by its environment, and the values are in no log.
    generous.signal("TERM");
    assert_eq!(generous.ended().await, 0);
    let environment = [("PALFREY_ALLOW", "env:CARGO_PKG_NAME;clocks"), ("CARGO_PKG_NAME", "s3cret")];
    let other = world.start_worker_in(&["--log", "debug"], &environment);
    other.ready().await;
    assert_eq!(look(&runtime, &LookAtValue, 1).await.unwrap()[0].environment.len(), 1);
    for worker in [&strict, &generous, &other] {
        assert!(!worker.log().has(&["s3cret"]), "{}", worker.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_start_with_what_it_cannot_allow() {
    let world = World::new();
    let refused = async |allowance: &str, expect: &str| {
        let ran = world.palfrey(&["worker", "--allow", allowance]).await;
        assert_eq!(ran.code, 2, "{allowance}: {}", ran.stderr);
        assert!(ran.stderr.contains(expect), "{allowance}: {}", ran.stderr);
    };
    refused("dir:/data=/nowhere/at/all", "cannot allow `dir:/data`: /nowhere/at/all is no directory").await;
    refused("env:PALFREY_TEST_UNSET", "PALFREY_TEST_UNSET is not set in the environment of this worker").await;
    refused("dir:/", "\"dir:/\" is nothing that can be granted").await;
    refused("everything", "write `clocks`, `entropy`, `env:NAME` or `dir:/path`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_hides_what_a_component_asks_for_gives_it_nothing() {
    let world = World::new();
    let component = component("asker");
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let CheckedComponent { mut description, imports } = CheckedComponent::from(&engine.load(&component).unwrap());
    description.operations.iter_mut().for_each(|operation| operation.needs.clear());
    let (digest, size, chunks) = (Digest::of(&component), component.len() as u64, Chunk::count(component.len()));
    let activation =
        Activation { digest, size, chunks, description, imports, force: false, signature: None, grants: [].into() };
    let connection = world.connection().await;
    append(&connection, "palfrey.components", Chunk::split(digest, &component.into()).map(|chunk| chunk.encode()))
        .await;
    let record = Record::new("mallory", palfrey_host::plugin::Action::Activate(activation));
    append(&connection, "palfrey.registry", [record.encode()]).await;

    let worker = world.start_worker_in(&["--allow", "env:CARGO_PKG_NAME"], &[("CARGO_PKG_NAME", "s3cret")]);
    worker.ready().await;
    let runtime = world.runtime().await;
    let error = look(&runtime, &LookAtValue, 1).await.unwrap_err();
    assert_eq!(error.execution().expect("a worker refused it").cause, Cause::PluginUnavailable, "{error}");
    let expect = "`asker/look-at-value` needs `env:CARGO_PKG_NAME`, which its deployment does not grant";
    assert!(error.to_string().contains(expect), "{error}");
    assert_eq!(look(&runtime, &LookPlain, 1).await.unwrap().len(), 1);
}
