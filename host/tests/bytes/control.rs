//! What all workers are told.

use palfrey_host::{
    task::wire::{Message, WireError},
    worker::WorkerIpc,
};

use crate::hostile::Decoder;

pub(crate) fn decoder() -> Decoder<WorkerIpc, WireError> {
    Decoder {
        samples: vec![WorkerIpc::Terminate { routing_key: "job".into() }.encode()],
        decode: WorkerIpc::decode,
        encode: WorkerIpc::encode,
        expansion: 4,
    }
}

pub(crate) fn attack(input: &[u8]) {
    decoder().attack(input);
}
