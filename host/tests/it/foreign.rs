//! A plugin in another language: the contract is enough to write one. `foreign.wat` is a core module by hand.

use palfrey_host::{Config, directive::*};

use crate::{fixed, log::Log, runtime};

/// Turns a core module that follows the contract into a component, as the tools of all languages do.
pub(crate) fn component(module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
    wit_component::ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

#[tokio::test]
async fn a_plugin_that_was_written_without_the_sdk_is_called_mapped_and_folded() {
    Log::of_workers();
    let runtime = runtime(Config { workers: 2, ..Config::default() }, &[]).await;
    runtime.deploy(component(include_str!("foreign.wat"))).await.unwrap();
    assert_eq!(runtime.call("foreign/add", vec![100], vec![7]).await.unwrap(), [107][..]);

    let add = OperationHandle::new("foreign/add@^1", vec![3]).unwrap();
    let sum = OperationHandle::new("foreign/sum", vec![]).unwrap();
    let bytes = || IndexedStream::from((0..20_u8).map(|byte| Encoded::from(vec![byte]))).options(fixed(6));
    let added = bytes().map(&add).run(&runtime).await.unwrap().into_values_sorted().await.unwrap();
    assert_eq!(added, (3..23_u8).map(|byte| Encoded::from(vec![byte])).collect::<Vec<_>>());
    assert_eq!(bytes().map(&add).fold(&sum).run(&runtime).await.unwrap(), Encoded::from(vec![250]));
    let nothing = IndexedStream::from(Vec::<Encoded>::new());
    assert_eq!(nothing.fold(&sum).run(&runtime).await.unwrap(), Encoded::from(vec![0]));

    let said = "written without an SDK";
    let lines = Log::of_workers().lines();
    let line = lines.iter().find(|line| line["fields"]["message"] == said).expect("it logs");
    assert_eq!((&line["level"], &line["fields"]["guest_target"]), (&"INFO".into(), &"wat".into()));
}
