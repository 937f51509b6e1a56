use super::{super::fixtures::*, *};
use crate::plugin::Record;

fn state(records: &[Record]) -> RegistryState {
    let mut state = RegistryState::default();
    for (offset, record) in records.iter().enumerate() {
        state.apply(offset as u64, record).unwrap();
    }
    state
}

fn versions() -> Vec<Record> {
    vec![activate("arith", "1.0.0", "one"), activate("arith", "1.2.0", "two"), activate("arith", "2.0.0", "three")]
}

fn version(state: &RegistryState, id: &str) -> String {
    state.resolve(&id.parse().unwrap()).unwrap().version.to_string()
}

fn refused(state: &RegistryState, id: &str, expect: &str) {
    let message = state.resolve(&id.parse().unwrap()).unwrap_err().to_string();
    assert!(message.contains(expect), "{id}: {message}");
}

#[test]
fn an_operation_is_pinned_to_the_component_that_is_asked_for() {
    let state = state(&versions());
    assert_eq!(version(&state, "arith/sum"), "2.0.0");
    assert_eq!(version(&state, "arith/sum@^1"), "1.2.0");
    assert_eq!(version(&state, "arith/sum@=1.0.0"), "1.0.0");
    assert_eq!(version(&state, &format!("arith/sum@{}", Digest::of(b"one"))), "1.0.0");
}

#[test]
fn the_active_version_goes_before_a_newer_one_that_meets_the_requirement_too() {
    let mut records = versions();
    records.push(roll_back("arith", Some("three"), "one"));
    let state = state(&records);
    assert_eq!(version(&state, "arith/sum@^1"), "1.0.0");
    assert_eq!(version(&state, "arith/sum@>=1.1"), "2.0.0");
}

#[test]
fn of_a_version_that_was_replaced_by_force_the_new_bytes_are_meant() {
    let mut records = versions();
    records.push(forced("arith", "1.2.0", "four"));
    records.push(activate("arith", "3.0.0", "five"));
    let resolved = state(&records).resolve(&"arith/sum@^1".parse().unwrap()).unwrap();
    assert_eq!(resolved.digest, Digest::of(b"four"));
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let state = state(&versions());
    refused(&state, "aritg/sum", "there is no plugin `aritg`: did you mean `arith`?; `palfrey deploy FILE`");
    refused(&state, "text/concat", "there is no plugin `text`: there are `arith`");
    refused(&state, "arith/fibat", "plugin `arith` 2.0.0 has no operation `fibat`: did you mean `fib-at`?");
    refused(&state, "arith/word-count", "there are `fib-at`, `multiply-by`, `sum`");
    refused(&state, "arith/sum@^3", "no deployed version of `arith` meets ^3: there are 2.0.0, 1.2.0, 1.0.0");
    refused(&state, &format!("arith/sum@{}", Digest::of(b"four")), "is not deployed as `arith`");
    refused(&RegistryState::default(), "arith/sum", "there are none yet; `palfrey deploy FILE` deploys one");
}

#[test]
fn an_undeployed_plugin_says_who_undeployed_it() {
    let mut records = versions();
    records.push(undeploy("arith"));
    let state = state(&records);
    let expect = "plugin `arith` was undeployed by ada at 2023-11-14T22:13:20Z; deploy it again, or bring it back by \
                  `palfrey rollback arith`";
    refused(&state, "arith/sum", expect);
    refused(&state, "arith/sum@^1", expect);
    refused(&state, &format!("arith/sum@{}", Digest::of(b"one")), expect);
    refused(&state, "aritg/sum", "there are none yet");
}

#[test]
fn versions_withdrawn_by_undeploying_stay_away_when_another_is_deployed() {
    let mut records = versions();
    records.extend([undeploy("arith"), activate("arith", "2.1.0", "four")]);
    let state = state(&records);
    assert_eq!(version(&state, "arith/sum"), "2.1.0");
    refused(&state, "arith/sum@^1", "meets ^1: there is 2.1.0");
    refused(&state, &format!("arith/sum@{}", Digest::of(b"one")), "is not deployed");
}

#[test]
fn types_that_differ_are_named_both() {
    let resolved = state(&versions()).resolve(&"arith/fib-at".parse().unwrap()).unwrap();
    let same = r#"{"name":"MyNumber","ty":"U64"}"#;
    let other = r#"{"name":"String","ty":"String"}"#;
    let expected = ExpectedTypes { version: "1.0.0", config: Some(other), input: Some(same), output: None };
    assert_eq!(resolved.check_schemas(&expected), Ok(()), "the plugin has no schema of its config");
    let expected = ExpectedTypes { input: Some(other), ..expected };
    let message = resolved.check_schemas(&expected).unwrap_err().to_string();
    let (before, after) = message.split_once(" (sha256:").unwrap();
    assert_eq!(
        before,
        "the input of `arith/fib-at` is `String` in this program and `u64` in the deployed version 2.0.0"
    );
    assert!(after.ends_with("or require the one it was built with, as in `arith/fib-at@=1.0.0`"), "{message}");
}

#[test]
fn what_an_operation_cannot_do_is_said_before_a_task_is_sent() {
    let state = state(&versions());
    let [fib, sum] = ["arith/fib-at", "arith/sum"].map(|id| state.resolve(&id.parse().unwrap()).unwrap());
    assert_eq!(sum.check_monoid(), Ok(()));
    let message = fib.check_monoid().unwrap_err().to_string();
    assert!(message.starts_with("`arith/fib-at` 2.0.0 is no monoid"), "{message}");
    assert_eq!(fib.check_encoding(Serializer::Postcard), Ok(()));
    let message = fib.check_encoding(Serializer::Cbor).unwrap_err().to_string();
    assert!(message.ends_with("does not understand the encoding `cbor`: it understands postcard"), "{message}");
}

#[test]
fn neighbours_that_do_not_fit_are_named_both() {
    const NUMBER: &str = r#"{"name":"u64","ty":"U64"}"#;
    const TEXT: &str = r#"{"name":"String","ty":"String"}"#;
    const NUMBERS: &str =
        r#"{"name":"(u64, u64)","ty":{"Tuple":[{"name":"u64","ty":"U64"},{"name":"u64","ty":"U64"}]}}"#;
    let state = state(&versions());
    let of = |id: &str, input: Option<&str>, output: Option<&str>| {
        let mut resolved = state.resolve(&id.parse().unwrap()).unwrap();
        resolved.descriptor.input_schema = input.map(str::to_owned);
        resolved.descriptor.output_schema = output.map(str::to_owned);
        resolved
    };
    let (fib, lines) = (of("arith/fib-at", Some(NUMBER), Some(NUMBER)), of("arith/multiply-by", None, Some(TEXT)));
    assert_eq!(fib.check_takes(Apply::Map, &fib), Ok(()));
    assert_eq!(lines.check_takes(Apply::Map, &fib), Ok(()), "what it takes is not known");
    let message = fib.check_takes(Apply::Map, &lines).unwrap_err().to_string();
    assert!(
        message.starts_with("`arith/fib-at` 2.0.0 takes `u64`, and gets `String` from `arith/multiply-by`"),
        "{message}"
    );
    // A monoid folds its elements, and maps pairs of them.
    let (sum, pairs) = (of("arith/sum", Some(NUMBER), Some(NUMBER)), of("arith/multiply-by", None, Some(NUMBERS)));
    assert_eq!(sum.check_takes(Apply::Fold, &fib), Ok(()));
    assert_eq!(sum.check_takes(Apply::Map, &pairs), Ok(()));
    let message = sum.check_takes(Apply::Map, &fib).unwrap_err().to_string();
    assert!(message.contains("takes `(u64, u64)`, and gets `u64` from"), "{message}");
    assert!(sum.check_takes(Apply::Fold, &pairs).is_err());
}
