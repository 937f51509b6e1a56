//! Results, as orchestrators get them.

use palfrey_host::task::{
    AnyTaskResult,
    wire::{Message, WireError},
};

use crate::{hostile::Decoder, samples};

pub(crate) fn decoder() -> Decoder<AnyTaskResult, WireError> {
    Decoder {
        samples: samples::results().iter().map(Message::encode).collect(),
        decode: AnyTaskResult::decode,
        encode: AnyTaskResult::encode,
        // A cause of no text takes one byte, and 24 in memory; a list that grows has its old half beside it.
        expansion: 96,
    }
}

pub(crate) fn attack(input: &[u8]) {
    decoder().attack(input);
}
