//! What workers and orchestrators answer to whoever asks who is there.

use std::time::Duration;

use bytes::Bytes;
use palfrey_host::{
    presence::{Answer, JobStatus, LoadedPlugin, Process, WorkerStatus},
    task::{
        Digest,
        wire::{Message, WireError},
    },
};

use crate::hostile::Decoder;

/// An answer that is compared by what it prints: a load that is no number does not equal itself.
#[derive(Debug)]
pub(crate) struct Printed(Answer);

impl PartialEq for Printed {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

pub(crate) fn decoder() -> Decoder<Printed, WireError> {
    Decoder {
        samples: samples().iter().map(Answer::encode).collect(),
        decode: |bytes: Bytes| Answer::decode(bytes).map(Printed),
        encode: |Printed(answer)| answer.encode(),
        // A job of no text takes some twenty bytes, and hundreds in memory; a list that grows has its old half beside it.
        expansion: 96,
    }
}

pub(crate) fn attack(input: &[u8]) {
    decoder().attack(input);
}

fn samples() -> [Answer; 3] {
    let worker = WorkerStatus {
        identity: "worker".to_owned(),
        process: Process::default(),
        bus: "default".to_owned(),
        draining: false,
        slots: 2,
        waiting: 1,
        running: vec![("job".into(), 2)],
        load: 0.5,
        executed: 300,
        plugins: vec![LoadedPlugin {
            name: "arith".to_owned(),
            version: "1.2.3".to_owned(),
            digest: Digest::of(b"component"),
        }],
        uptime: Duration::from_millis(1500),
    };
    let job = JobStatus {
        id: "job".into(),
        process: Process::default(),
        bus: "default".to_owned(),
        operations: vec!["arith/fib-at@^1.2".parse().unwrap()],
        done: 25,
        taken: 50,
        total: Some(100),
        in_flight: 3,
        running: 0,
        retried: 1,
        failed: 2,
        age: Duration::from_secs(10),
    };
    [Answer::Worker(worker), Answer::Jobs(vec![job]), Answer::Accepted]
}
