//! The harnesses of `host/tests/bytes`, called by a coverage-guided fuzzer. The first byte of an input chooses the decoder. How to
//! run it is in docs/VERIFICATION.md.
#![no_main]
#![expect(dead_code, reason = "the tests use more of these modules")]

#[path = "../../host/tests/bytes/answers.rs"]
mod answers;
#[path = "../../host/tests/bytes/chunks.rs"]
mod chunks;
#[path = "../../host/tests/bytes/control.rs"]
mod control;
#[path = "../../host/tests/bytes/hostile.rs"]
mod hostile;
#[path = "../../host/tests/bytes/packed.rs"]
mod packed;
#[path = "../../host/tests/bytes/records.rs"]
mod records;
#[path = "../../host/tests/bytes/results.rs"]
mod results;
#[path = "../../host/tests/bytes/samples.rs"]
mod samples;
#[path = "../../host/tests/bytes/schemas.rs"]
mod schemas;
#[path = "../../host/tests/bytes/signatures.rs"]
mod signatures;
#[path = "../../host/tests/bytes/stored.rs"]
mod stored;
#[path = "../../host/tests/bytes/tasks.rs"]
mod tasks;
#[path = "../../host/tests/bytes/texts.rs"]
mod texts;

const ATTACKS: [fn(&[u8]); 13] = [
    tasks::attack,
    results::attack,
    control::attack,
    answers::attack,
    records::attack,
    chunks::attack,
    chunks::attack_assembler,
    packed::attack,
    schemas::attack,
    texts::attack,
    signatures::attack_signature,
    signatures::attack_key,
    stored::attack,
];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((&choice, input)) = input.split_first() {
        ATTACKS[usize::from(choice) % ATTACKS.len()](input);
    }
});
