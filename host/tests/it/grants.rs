//! Grants in a program that has its workers itself.

use asker::{LatestIf, LookAtClocks, LookAtValue, LookPlain};
use palfrey_host::{
    Config, Runtime,
    directive::*,
    engine::Capability,
    plugin::{DeployOptions, Refusal, RegistryError},
    runtime::DeployError,
    task::Cause,
};
use palfrey_sdk::RemoteExecute;

use crate::{component, fixed, runtime};

async fn allowing(allowances: &[&str]) -> Runtime {
    let allow = allowances.iter().map(|allowance| allowance.parse().unwrap()).collect();
    let runtime = runtime(Config { allow, ..Config::default() }, &[]).await;
    let needs = ["clocks", "entropy", "env:CARGO_PKG_NAME", "dir:/data"].map(|need| need.parse().unwrap());
    let options = DeployOptions { grants: needs.into(), ..DeployOptions::default() };
    runtime.deploy_with(component("asker"), &options).await.unwrap();
    runtime
}

#[tokio::test(flavor = "multi_thread")]
async fn deploying_without_a_grant_names_what_is_missing() {
    let runtime = runtime(Config::default(), &[]).await;
    let error = runtime.deploy(component("asker")).await.unwrap_err();
    let DeployError::Registry(RegistryError::Refused(Refusal::NotGranted { plugin, missing, .. })) = &error else {
        panic!("{error}")
    };
    let first = missing.first().unwrap();
    assert_eq!((plugin.as_str(), &first.0, first.1.len()), ("asker", &Capability::Clocks, 3));
    assert!(runtime.registry().list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_and_allowed_is_there_and_the_operation_is_impure() {
    let runtime = allowing(&["clocks", "env:CARGO_PKG_NAME"]).await;
    let seen = IndexedStream::from([0_u64]).map(&LookAtValue).run(&runtime).await.unwrap();
    let seen = seen.into_values_sorted().await.unwrap();
    assert_eq!(seen[0].environment, [("CARGO_PKG_NAME".to_owned(), "palfrey-host".to_owned())]);
    let is_pure = |name: &str| {
        let id = format!("asker/{name}").parse().unwrap();
        runtime.registry().resolve(&id).unwrap().descriptor.is_pure()
    };
    assert!(is_pure(LookPlain::NAME) && !is_pure(LookAtValue::NAME) && !is_pure(LookAtClocks::NAME));
    let deployment = runtime.registry().inspect("asker").unwrap().active().unwrap().clone();
    assert_eq!(deployment.grants, deployment.description.needs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_that_may_go_otherwise_the_next_time_blames_no_element() {
    let runtime = allowing(&["clocks"]).await;
    let numbers = IndexedStream::from(0..10_u64).options(fixed(10));
    let error = numbers.fold(&LatestIf { panics_on: 7 }).run(&runtime).await.unwrap_err();
    let failure = error.execution().unwrap();
    assert!(matches!(failure.cause, Cause::Panic { .. }), "{failure}");
    assert_eq!(failure.element, None, "{failure}");
}
