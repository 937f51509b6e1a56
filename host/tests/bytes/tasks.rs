//! Tasks, as workers get them.

use palfrey_host::task::{
    AnyTask,
    wire::{Envelope, Message, WireError},
};

use crate::{
    hostile::{Decoder, hostile},
    samples,
};

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
    let decoder = decoder();
    decoder.attack(input);
    // What is read of a message of any version is what the message says.
    let bytes = hostile(&decoder.samples, input);
    let (task, envelope) = (AnyTask::decode(bytes.clone()), Envelope::read(&bytes));
    if let Ok(task) = task {
        assert!(envelope.is_some_and(|read| read.routing_key == task.routing_key && read.id == task.id));
    }
}
