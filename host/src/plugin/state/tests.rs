use proptest::prelude::*;

use super::{super::fixtures::*, *};
use crate::plugin::RollbackTo;

fn fold(records: &[Record]) -> RegistryState {
    let mut state = RegistryState::default();
    for (offset, record) in records.iter().enumerate() {
        state.apply(offset as u64, record).ok();
    }
    state
}

fn refusal(records: &[Record], last: &Record) -> String {
    let mut state = fold(records);
    let before = state.plugins.clone();
    let message = state.apply(records.len() as u64, last).unwrap_err().to_string();
    assert_eq!(state.plugins, before, "a refused record changes nothing");
    message
}

fn active(state: &RegistryState, plugin: &str) -> Option<Digest> {
    state.plugin(plugin).unwrap().active().map(|active| active.digest)
}

fn digest(component: &str) -> Option<Digest> {
    Some(Digest::of(component.as_bytes()))
}

#[test]
fn the_last_deployment_is_the_active_one() {
    let state = fold(&[activate("arith", "1.0.0", "one"), activate("arith", "1.1.0", "two")]);
    assert_eq!(active(&state, "arith"), digest("two"));
    let versions: Vec<_> =
        state.plugin("arith").unwrap().deployments().iter().map(|it| it.version().to_string()).collect();
    assert_eq!(versions, ["1.0.0", "1.1.0"]);
}

#[test]
fn deploying_the_active_component_again_changes_nothing() {
    let mut state = fold(&[activate("arith", "1.0.0", "one")]);
    assert_eq!(state.apply(1, &activate("arith", "1.0.0", "one")), Ok(Change::Nothing));
    assert_eq!(state.plugin("arith").unwrap().events().len(), 1);
}

#[test]
fn what_is_needed_has_to_be_granted_and_stays_granted_to_its_version() {
    let asking = |version: &str, needs: &[&str], grants: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<Capability>>();
        let mut activation = activation("arith", version, version);
        activation.description.operations[1].needs = names(needs);
        activation.description.operations[2].needs = names(needs);
        record(Action::Activate(Activation { grants: names(grants), ..activation }))
    };
    let first = asking("1.0.0", &["clocks"], &["clocks"]);
    let message = refusal(std::slice::from_ref(&first), &asking("1.1.0", &["clocks", "dir:/my data"], &["clocks"]));
    assert_eq!(
        message,
        "`arith` 1.1.0 asks for `dir:/my data` (for `multiply-by` and 1 more), which it is not granted: deploy it with --grant \
         'dir:/my data' if it may have that"
    );
    let message = refusal(&[], &asking("1.0.0", &["entropy"], &["clocks"]));
    assert!(message.contains("asks for `entropy`"), "{message}");

    let state = fold(&[first, activate("arith", "1.1.0", "two"), roll_back("arith", Some("two"), "1.0.0")]);
    let active = state.plugin("arith").unwrap().active().unwrap().clone();
    assert_eq!(active.grants, BTreeSet::from([Capability::Clocks]));
    let pure = |name: &str| state.resolve(&format!("arith/{name}").parse().unwrap()).unwrap().descriptor.is_pure();
    assert!(pure("fib-at") && !pure("multiply-by"));
}

fn signed(component: &str, signature: &str) -> Record {
    let activation = activation("arith", "1.0.0", component);
    record(Action::Activate(Activation { signature: Some(signature.to_owned()), ..activation }))
}

#[test]
fn the_active_component_takes_one_more_signature_and_no_signature_twice() {
    let mut state = fold(&[activate("arith", "1.0.0", "one")]);
    let one = Digest::of(b"one");
    assert_eq!(state.apply(1, &signed("one", "old")), Ok(Change::Signed { plugin: "arith".to_owned(), digest: one }));
    assert_eq!(state.apply(2, &signed("one", "old")), Ok(Change::Nothing));
    assert!(matches!(state.apply(3, &signed("one", "new")), Ok(Change::Signed { .. })));
    // Signatures outlive being replaced, and the oldest ones go.
    state.apply(4, &activate("arith", "1.1.0", "two")).unwrap();
    state.apply(5, &activate("arith", "1.0.0", "one")).unwrap();
    let signatures = |state: &RegistryState| state.plugin("arith").unwrap().active().unwrap().signatures.clone();
    assert_eq!(signatures(&state), ["old", "new"]);
    for number in 0..crate::plugin::Deployment::SIGNATURES as u64 - 1 {
        state.apply(6 + number, &signed("one", &number.to_string())).unwrap();
    }
    assert_eq!(signatures(&state).first().map(String::as_str), Some("new"));
    assert_eq!(signatures(&state).len(), crate::plugin::Deployment::SIGNATURES);
}

#[test]
fn a_signature_as_large_as_a_component_is_refused() {
    let message = refusal(&[], &signed("one", &"x".repeat(5000)));
    assert!(message.contains("the signature has 5000 bytes"), "{message}");
}

#[test]
fn a_version_with_other_bytes_is_refused_unless_it_is_forced() {
    let before = [activate("arith", "1.0.0", "one")];
    let message = refusal(&before, &activate("arith", "1.0.0", "two"));
    assert!(message.starts_with("version 1.0.0 of `arith` was deployed before with other bytes"), "{message}");
    assert!(message.ends_with("raise the version, or use --force to replace it"), "{message}");
    let mut state = fold(&before);
    assert!(state.apply(1, &forced("arith", "1.0.0", "two")).is_ok());
    assert_eq!(active(&state, "arith"), digest("two"));
}

#[test]
fn the_version_of_an_undeployed_component_stays_taken() {
    let message = refusal(&[activate("arith", "1.0.0", "one"), undeploy("arith")], &activate("arith", "1.0.0", "two"));
    assert!(message.contains("was deployed before with other bytes"), "{message}");
}

#[test]
fn rolling_back_goes_one_deployment_back_at_a_time() {
    let mut records =
        vec![activate("arith", "1.0.0", "one"), activate("arith", "1.1.0", "two"), activate("arith", "1.2.0", "three")];
    for (from, to) in [("three", "two"), ("two", "one")] {
        let state = fold(&records);
        assert_eq!(
            state.plugin("arith").unwrap().rollback_target(&RollbackTo::Previous).unwrap().digest,
            digest(to).unwrap()
        );
        records.push(roll_back("arith", Some(from), to));
    }
    let state = fold(&records);
    assert_eq!(active(&state, "arith"), digest("one"));
    let error = state.plugin("arith").unwrap().rollback_target(&RollbackTo::Previous).unwrap_err().to_string();
    assert!(error.starts_with("`arith` has no deployment before sha256:"), "{error}");
}

#[test]
fn rolling_back_to_a_version_or_digest_goes_there() {
    let state = fold(&[
        activate("arith", "1.0.0", "one"),
        activate("arith", "1.1.0", "two"),
        activate("arith", "1.2.0", "three"),
    ]);
    let history = state.plugin("arith").unwrap();
    let target = |to: RollbackTo| history.rollback_target(&to).map(|deployment| deployment.version().to_string());
    assert_eq!(target(RollbackTo::Version("1.0.0".parse().unwrap())).unwrap(), "1.0.0");
    assert_eq!(target(RollbackTo::Digest(digest("two").unwrap())).unwrap(), "1.1.0");
    let unknown = target(RollbackTo::Version("3.0.0".parse().unwrap())).unwrap_err().to_string();
    assert!(unknown.contains("version 3.0.0 of `arith` was never deployed; `palfrey inspect arith`"), "{unknown}");
    let unknown = target(RollbackTo::Digest(digest("four").unwrap())).unwrap_err().to_string();
    assert!(unknown.contains("was never deployed as `arith`"), "{unknown}");
}

#[test]
fn rolling_back_after_undeploying_brings_back_what_was_active() {
    let mut records = vec![activate("arith", "1.0.0", "one"), activate("arith", "1.1.0", "two"), undeploy("arith")];
    let state = fold(&records);
    assert_eq!(active(&state, "arith"), None);
    let target = state.plugin("arith").unwrap().rollback_target(&RollbackTo::Previous).unwrap().digest;
    assert_eq!(Some(target), digest("two"));
    records.push(roll_back("arith", None, "two"));
    let state = fold(&records);
    assert_eq!(active(&state, "arith"), digest("two"));
    let history = state.plugin("arith").unwrap();
    let withdrawn: Vec<_> = history.deployments().iter().map(|deployment| deployment.withdrawn).collect();
    assert_eq!(withdrawn, [true, false], "only what was rolled back to is available again");
}

#[test]
fn a_rollback_that_was_overtaken_is_refused() {
    let records =
        [activate("arith", "1.0.0", "one"), activate("arith", "1.1.0", "two"), activate("arith", "1.2.0", "three")];
    let message = refusal(&records, &roll_back("arith", Some("two"), "one"));
    assert!(message.contains("was changed by somebody else meanwhile"), "{message}");
}

#[test]
fn what_was_never_deployed_cannot_be_changed() {
    let records = [activate("arith", "1.0.0", "one"), undeploy("arith")];
    let check = |record: Record, expect: &str| {
        let message = refusal(&records, &record);
        assert!(message.contains(expect), "{message}");
    };
    check(undeploy("aritj"), "there is no plugin `aritj`: did you mean `arith`?");
    check(undeploy("arith"), "plugin `arith` is not deployed");
    check(roll_back("arith", None, "two"), "was never deployed as `arith`");
    check(roll_back("text", None, "two"), "there is no plugin `text`: there are `arith`");
    check(activate("Arith", "1.0.0", "one"), "without a proper name");
}

#[test]
fn a_record_that_a_broker_kept_twice_counts_once() {
    let (first, second) = (activate("arith", "1.0.0", "one"), activate("arith", "1.1.0", "two"));
    let state = fold(&[first.clone(), second, first]);
    assert_eq!(active(&state, "arith"), digest("two"));
}

#[test]
fn the_outcome_of_a_record_is_remembered() {
    let (first, second) = (activate("arith", "1.0.0", "one"), activate("arith", "1.0.0", "two"));
    let state = fold(&[first.clone(), second.clone()]);
    assert!(matches!(state.outcome(first.id), Some(Ok(Change::Deployed { replaced: None, .. }))));
    assert!(matches!(state.outcome(second.id), Some(Err(Refusal::VersionTaken { .. }))));
    assert_eq!(state.outcome(Uuid::nil()), None);
}

fn any_record() -> impl Strategy<Value = Record> {
    let plugin = prop::sample::select(vec!["arith", "text"]);
    let component = || prop::sample::select(vec!["one", "two", "three"]);
    let version = prop::sample::select(vec!["1.0.0", "1.1.0", "2.0.0"]);
    let from = prop::option::of(component());
    (0..5_u8, plugin, version, component(), from).prop_map(|(kind, plugin, version, component, from)| match kind {
        0 | 1 => activate(plugin, version, component),
        2 => forced(plugin, version, component),
        3 => undeploy(plugin),
        _ => roll_back(plugin, from, component),
    })
}

proptest! {
    /// As when a process reads a part of the log, is cut off, and reads on; from wherever the broker begins again.
    #[test]
    fn any_prefix_and_the_rest_fold_to_the_same_state(
        records in prop::collection::vec(any_record(), 0..24),
        cut in any::<prop::sample::Index>(),
        again in any::<prop::sample::Index>(),
    ) {
        let whole = fold(&records);
        let cut = cut.index(records.len() + 1);
        let mut state = fold(&records[..cut]);
        for (offset, record) in records.iter().enumerate().skip(again.index(cut + 1)) {
            // What was written and read back is the same record.
            state.apply(offset as u64, &Record::decode(&record.encode()).unwrap()).ok();
        }
        prop_assert_eq!(state, whole);
    }

    #[test]
    fn what_is_active_is_deployed_and_not_withdrawn(records in prop::collection::vec(any_record(), 0..24)) {
        let state = fold(&records);
        for history in state.plugins() {
            let available = history.deployments().iter().any(|deployment| !deployment.withdrawn);
            prop_assert_eq!(available, history.active().is_some());
            prop_assert!(history.active().is_none_or(|active| !active.withdrawn));
        }
    }

    /// A version means one component, unless somebody insisted.
    #[test]
    fn without_force_a_version_names_one_component(records in prop::collection::vec(any_record(), 0..24)) {
        let records: Vec<_> = records
            .into_iter()
            .filter(|record| !matches!(&record.action, Action::Activate(activation) if activation.force))
            .collect();
        for history in fold(&records).plugins() {
            let mut versions: Vec<_> = history.deployments().iter().map(|deployment| deployment.version()).collect();
            versions.sort();
            let all = versions.len();
            versions.dedup();
            prop_assert_eq!(all, versions.len());
        }
    }
}
