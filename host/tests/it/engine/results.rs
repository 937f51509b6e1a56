//! What comes out: outputs, failures, and answers that break the contract.

use std::time::Duration;

use palfrey_host::{
    engine::{Failure, FailureKind},
    task::{Cause, Packed},
};
use palfrey_sdk::{FatalStrategy, RetryStrategy};

use super::guests::{call, check, inputs, map, plugin, stopped, text};

#[test]
fn a_batch_comes_back_element_by_element() {
    let outcome = map("echo", 0).unwrap();
    assert_eq!((outcome.outputs, outcome.failure), (inputs(), None));
}

#[test]
fn a_fold_becomes_one_element_and_folding_nothing_the_identity() {
    assert_eq!(plugin().fold(&call("echo", "0"), &inputs()).unwrap().unwrap(), "abc");
    assert_eq!(plugin().empty(&call("echo", "0")).unwrap().unwrap(), "");
}

#[test]
fn an_empty_batch_has_no_outputs() {
    let outcome = plugin().map(&call("echo", "0"), &Packed::default()).unwrap();
    assert!(outcome.outputs.is_empty() && outcome.failure.is_none());
}

#[test]
fn a_failure_comes_with_the_outputs_before_it() {
    let outcome = map("fail-fatally", 0).unwrap();
    let failure = Failure {
        kind: FailureKind::Fatal(FatalStrategy::Ignore),
        message: "by intent".to_owned(),
        causes: vec!["near".to_owned(), "far".to_owned()],
    };
    assert_eq!(outcome.failure, Some((0, failure)));
    let outcome = map("fail-transiently", 5).unwrap();
    assert_eq!((outcome.outputs.len(), outcome.failure.unwrap().0), (1, 1));
}

#[test]
fn the_numbers_of_a_retry_strategy_are_bounded() {
    let (index, failure) = plugin().fold(&call("fail-transiently", "5"), &inputs()).unwrap().unwrap_err();
    let retry = RetryStrategy::Exponential {
        max_retries: 10_000,
        min_duration: Duration::from_millis(5),
        max_duration: Duration::from_secs(24 * 60 * 60),
    };
    assert_eq!((index, failure.kind), (1, FailureKind::Transient { retry, exhausted: FatalStrategy::Ignore }));
}

#[test]
fn the_texts_of_a_failure_are_bounded() {
    let (_, failure) = map("fail-at-length", 100_000).unwrap().failure.unwrap();
    assert!(failure.message.len() < 17_000 && failure.message.ends_with("x […]"), "{}", failure.message.len());
    assert_eq!(failure.causes.len(), 32);
    assert!(failure.causes.iter().all(|cause| cause.len() < 5_000));
}

#[test]
fn a_position_is_kept_where_it_lies_within_what_was_decoded() {
    let kind = |operation, position| map(operation, position).unwrap().failure.unwrap().1.kind;
    // The second element has two bytes; the config is the number itself.
    let position = Some(2);
    assert_eq!(kind("refuse-element", 2), FailureKind::BadInput { config: false, position });
    assert_eq!(kind("refuse-element", 3), FailureKind::BadInput { config: false, position: None });
    assert_eq!(kind("refuse-config", 7), FailureKind::BadInput { config: true, position: None });
}

#[test]
fn an_unknown_operation_is_the_plugins_answer_and_not_a_trap() {
    assert_eq!(map("no-such-thing", 0).unwrap().failure.unwrap().1.kind, FailureKind::Unsupported);
    let failure = plugin().empty(&call("no-such-thing", "0")).unwrap().unwrap_err();
    assert_eq!(Cause::from(failure.kind), Cause::Unsupported);
}

#[test]
fn an_answer_that_breaks_the_contract_is_refused_and_says_why() {
    let check = |operation, message| check(operation, 0, &Cause::Contract, message);
    check("return-too-few", "it returned 2 outputs for 3 inputs");
    check("return-too-many", "it returned 4 outputs for 3 inputs");
    check("decreasing-offsets", "the outputs are malformed: offset 1 is 1, less than the 2 before it");
    check("offsets-beyond-the-end", "the last offset is 4, and the buffer has 3 bytes");
    check("fail-behind-a-gap", "it returned 0 outputs and the failure of element 1");
    check("fail-beyond-the-end", "it failed at element 3 of a batch of 3");
    check("malformed-text", "its answer cannot be read");
    let stopped = plugin().fold(&call("fail-beyond-the-end", "0"), &inputs()).unwrap_err();
    assert_eq!(stopped.cause, Cause::Contract, "{stopped}");
}

#[test]
fn a_panic_is_told_with_its_place() {
    let stopped = stopped("panic", 0);
    let Cause::Panic { location: Some(location) } = &stopped.cause else { panic!("{stopped}") };
    assert!(location.contains("misbehave.rs:"), "{location}");
    assert!(stopped.message.contains("by intent"), "{stopped}");
}

#[test]
fn a_panic_that_is_not_announced_is_a_trap_with_its_message_on_stderr() {
    let stopped = stopped("panic-unannounced", 0);
    assert_eq!(stopped.cause, Cause::Trap);
    assert!(stopped.stderr.contains("by intent"), "{}", stopped.stderr);
}

#[test]
fn what_is_announced_counts_only_if_the_plugin_traps() {
    let long = stopped("confess-at-length", 100_000);
    assert_eq!(long.cause, Cause::Panic { location: None });
    assert!(long.message.len() < 17_000);
    assert_eq!(map("confess-and-go-on", 0).unwrap().outputs, inputs());
}

#[test]
fn an_end_of_the_process_is_a_trap_that_says_so() {
    check("exit", 3, &Cause::Trap, "it ended its process with exit status 1");
    check("abort", 0, &Cause::Trap, "unreachable");
}

#[test]
fn nothing_is_kept_from_call_to_call() {
    for _ in 0..3 {
        assert_eq!(text(&map("count-calls", 0).unwrap()), "0");
    }
}

#[test]
fn a_trap_leaves_the_plugin_usable() {
    let plugin = plugin();
    plugin.fold(&call("abort", "0"), &inputs()).unwrap_err();
    assert_eq!(plugin.fold(&call("echo", "0"), &inputs()).unwrap().unwrap(), "abc");
}
