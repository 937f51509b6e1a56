//! Valid values, with something in every field.

use std::time::Duration;

use bytes::Bytes;
use palfrey_host::{
    engine::{Description, Descriptor, Kind},
    plugin::{Action, Activation, Record, UnixMillis},
    task::{
        AnyTask, AnyTaskResult, Apply, Cause, Digest, ElementFailure, ExecutionError, OperationId, Packed, Stage,
        TaskId, TaskOutcome, WorkerReport,
    },
};
use palfrey_sdk::{FatalStrategy, RetryStrategy, Serializer};

pub(crate) fn task() -> AnyTask {
    let stage = |operation: &str, config: &'static [u8], apply| Stage {
        operation: operation.parse().unwrap(),
        digest: Digest::of(config),
        config: config.into(),
        apply,
    };
    AnyTask {
        routing_key: "job".into(),
        id: TaskId(300),
        metadata: "metadata".into(),
        serializer: Serializer::Cbor,
        attempt: 2,
        stages: vec![stage("arith/fib-at@^1.2", b"", Apply::Map), stage("arith/sum", b"config", Apply::Fold)],
        inputs: ["one", "", "three"].into_iter().collect(),
    }
}

pub(crate) fn results() -> Vec<AnyTaskResult> {
    let causes = [
        Cause::Transient {
            retry: RetryStrategy::After { max_retries: 3, duration: Duration::from_secs(1) },
            exhausted: FatalStrategy::Ignore,
        },
        Cause::Panic { location: Some("src/lib.rs:1:2".to_owned()) },
        Cause::Deadline { limit: Duration::from_millis(1500) },
        Cause::BadInput { config: false, position: Some(7) },
    ];
    let error = |cause| ExecutionError {
        element: Some(9),
        causes: vec!["near".to_owned(), "far".to_owned()],
        stderr: "last words".to_owned(),
        ..ExecutionError::new(OperationId::new("arith", "divide"), cause, "by zero")
    };
    let failed = causes.iter().zip(0..).map(|(cause, index)| ElementFailure { index, error: error(cause.clone()) });
    let outputs: Packed = ["one", "two"].into_iter().collect();
    [TaskOutcome::Executed { outputs, failed: failed.collect() }, TaskOutcome::Failed(error(Cause::Trap))]
        .map(|outcome| AnyTaskResult {
            routing_key: "job".into(),
            id: TaskId(300),
            metadata: "metadata".into(),
            serializer: Serializer::Postcard,
            report: WorkerReport {
                worker: "worker".to_owned(),
                slots: 2,
                waited: Duration::from_micros(9),
                execution: Duration::from_millis(12),
            },
            outcome,
        })
        .into()
}

pub(crate) fn records() -> Vec<Record> {
    let descriptor = Descriptor {
        name: "fib-at".to_owned(),
        kind: Kind::Operation,
        summary: "The number at an index.".to_owned(),
        encodings: vec!["postcard".to_owned(), "cbor".to_owned()],
        config_schema: None,
        input_schema: Some(SCHEMA.to_owned()),
        output_schema: Some(SCHEMA.to_owned()),
        needs: ["clocks", "dir:/models"].map(|need| need.parse().unwrap()).into(),
    };
    let description = Description {
        name: "arith".to_owned(),
        version: "1.2.3-beta.1".parse().unwrap(),
        operations: vec![descriptor],
    };
    let digest = Digest::of(b"component");
    let activation = Activation {
        digest,
        size: 70_000,
        chunks: 1,
        description,
        imports: vec!["wasi:cli/stderr@0.2.6".to_owned()],
        force: false,
        signature: None,
        grants: [].into(),
    };
    let granted = Activation {
        force: true,
        signature: Some("untrusted comment: a signature".to_owned()),
        grants: ["clocks", "env:LANG"].map(|grant| grant.parse().unwrap()).into(),
        ..activation.clone()
    };
    [
        Action::Activate(granted),
        Action::Activate(activation),
        Action::Undeploy { plugin: "arith".to_owned() },
        Action::RollBack { plugin: "arith".to_owned(), from: Some(digest), to: Digest::of(b"before") },
    ]
    .map(|action| Record { when: UnixMillis(1_700_000_000_000), ..Record::new("ada", action) })
    .into()
}

pub(crate) const SCHEMA: &str = r#"{"name":"Job","ty":{"Struct":[{"name":"tags","ty":{"name":"Vec<String>","ty":{"Seq":{"name":"String","ty":"String"}}}},{"name":"counts","ty":{"name":"Map","ty":{"Map":{"key":{"name":"u8","ty":"U8"},"val":{"name":"u64","ty":"U64"}}}}}]}}"#;

pub(crate) fn component() -> Bytes {
    Bytes::from(vec![7; 1000])
}
