//! Tasks, as workers get them.

use palfrey_host::task::{
    AnyTask,
    wire::{Message, WireError},
};

use crate::{hostile::Decoder, samples};

pub(crate) fn decoder() -> Decoder<AnyTask, WireError> {
    Decoder {
        samples: vec![samples::task().encode()],
        decode: AnyTask::decode,
        encode: AnyTask::encode,
        // An offset of one byte takes four, and a list that grows has its old half beside it.
        expansion: 16,
    }
}

pub(crate) fn attack(input: &[u8]) {
    decoder().attack(input);
}
