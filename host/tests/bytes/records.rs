//! Records of the registry, as every process reads them; and what they make of its state.

use palfrey_host::plugin::{Record, RecordError, RegistryState};

use crate::{
    hostile::{Decoder, LONGEST_ERROR, hostile},
    samples,
};

pub(crate) fn decoder() -> Decoder<Record, RecordError> {
    Decoder {
        samples: samples::records().iter().map(Record::encode).collect(),
        decode: |bytes| Record::decode(&bytes),
        encode: Record::encode,
        // An import of no text takes one byte, and 24 in memory; a list that grows has its old half beside it.
        expansion: 96,
    }
}

pub(crate) fn attack(input: &[u8]) {
    let decoder = decoder();
    decoder.attack(input);
    let Ok(record) = Record::decode(&hostile(&decoder.samples, input)) else { return };
    let mut state = RegistryState::default();
    if let Err(refusal) = state.apply(0, &record) {
        let text = refusal.to_string();
        assert!(text.len() <= LONGEST_ERROR, "{} bytes: {text:.200}", text.len());
    }
    assert_eq!(state.next_offset(), 1);
}
