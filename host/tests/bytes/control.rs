//! What all workers are told.

use palfrey_host::{
    task::wire::{Message, WireError},
    worker::WorkerIpc,
};

use crate::hostile::Decoder;

pub(crate) fn decoder() -> Decoder<WorkerIpc, WireError> {
    Decoder {
        samples: samples().iter().map(WorkerIpc::encode).collect(),
        decode: WorkerIpc::decode,
        encode: WorkerIpc::encode,
        expansion: 4,
    }
}

pub(crate) fn attack(input: &[u8]) {
    decoder().attack(input);
}

fn samples() -> [WorkerIpc; 4] {
    [
        WorkerIpc::Terminate { routing_key: "job".into() },
        WorkerIpc::Report { reply_to: "asker".into() },
        WorkerIpc::Cancel { routing_key: "job".into(), by: "ada".to_owned(), reply_to: "asker".into() },
        WorkerIpc::Drain { worker: "worker".to_owned(), by: "ada".to_owned(), reply_to: "asker".into() },
    ]
}
