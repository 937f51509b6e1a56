//! Every decoder of bytes that come over the wire or from disk, against bytes that nobody sane sends.
//!
//! There is a file a decoder. Its `attack` makes hostile bytes out of an input of any kind and checks what must hold for all
//! of them (`hostile` says what). Here inputs are drawn by proptest, more of them with `PROPTEST_CASES=100000`; a
//! coverage-guided fuzzer calls the same functions, see `docs/VERIFICATION.md`. Decoders that are private to the library have
//! their harness beside them: the description of a component, what a guest returns, the cache of machine code, addresses, headers of
//! messages that were moved, the heads of requests for a worker's health.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod chunks;
mod control;
mod hostile;
mod packed;
mod records;
mod results;
mod samples;
mod schemas;
mod signatures;
mod stored;
mod tasks;
mod texts;

use proptest::{collection::vec, prelude::*};

/// Calls a harness with inputs of any kind.
fn with_any_input(attack: impl Fn(&[u8])) {
    let default = ProptestConfig::default();
    let config = ProptestConfig { cases: default.cases.saturating_mul(16), failure_persistence: None, ..default };
    proptest!(config, |(input in vec(any::<u8>(), 0..48))| attack(&input));
}

#[test]
fn tasks_are_decoded_or_refused() {
    tasks::decoder().refuses_what_is_cut_or_continued();
    with_any_input(tasks::attack);
}

#[test]
fn results_are_decoded_or_refused() {
    results::decoder().refuses_what_is_cut_or_continued();
    with_any_input(results::attack);
}

#[test]
fn control_messages_are_decoded_or_refused() {
    control::decoder().refuses_what_is_cut_or_continued();
    with_any_input(control::attack);
}

#[test]
fn answers_of_who_is_there_are_decoded_or_refused() {
    answers::decoder().refuses_what_is_cut_or_continued();
    with_any_input(answers::attack);
}

#[test]
fn records_of_the_registry_are_decoded_or_refused() {
    records::decoder().refuses_what_is_cut_or_continued();
    with_any_input(records::attack);
}

#[test]
fn chunks_of_components_are_decoded_or_refused() {
    chunks::decoder().refuses_what_is_cut_or_continued();
    with_any_input(chunks::attack);
}

#[test]
fn chunks_in_any_order_are_assembled_within_the_limit_or_refused() {
    with_any_input(chunks::attack_assembler);
}

#[test]
fn offsets_describe_a_buffer_or_are_refused() {
    with_any_input(packed::attack);
}

#[test]
fn schemas_are_shown_and_compared_whatever_they_are() {
    with_any_input(schemas::attack);
}

#[test]
fn texts_of_the_configuration_are_parsed_or_refused() {
    with_any_input(texts::attack);
}

#[test]
fn signatures_that_were_changed_are_refused() {
    with_any_input(signatures::attack_signature);
}

#[test]
fn keys_that_were_changed_are_refused_or_trust_somebody_else() {
    with_any_input(signatures::attack_key);
}

#[test]
fn stored_components_that_were_changed_are_missing() {
    with_any_input(stored::attack);
}
