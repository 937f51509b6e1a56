//! Bytes that released versions have written, and what they mean: for ever.
//!
//! Each file under `tests/recorded/` holds one message in hexadecimal digits, in a folder named for the version of its
//! format. A change that reads one of them otherwise breaks those who run two releases side by side: it needs a new version
//! of the format, and a new folder beside the old one. Files are never changed. What headers mean (`moves-1`) is checked where
//! they are read, in `queue/amqp/headers.rs`.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use palfrey_host::{
    engine::{Capability, Description, Descriptor, Kind},
    plugin::{Action, Activation, Chunk, Record, UnixMillis},
    presence::{Answer, JobStatus, LoadedPlugin, Process, WorkerStatus},
    task::{
        AnyTask, AnyTaskResult, Apply, Cause, Digest, ElementFailure, ExecutionError, OperationId, Packed, Stage,
        TaskId, TaskOutcome, WorkerReport, wire::Message,
    },
    worker::{Suspect, WorkerIpc},
};
use palfrey_sdk::{FatalStrategy, RetryStrategy, Serializer};
use uuid::Uuid;

fn recorded(name: &str) -> Bytes {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name).with_extension("hex");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    hex::decode(text.split_whitespace().collect::<String>()).unwrap().into()
}

/// The recorded bytes are this message, and it is still written as it was then.
fn check<M: Message + PartialEq + std::fmt::Debug>(name: &str, expected: M) {
    let bytes = recorded(name);
    assert_eq!(M::decode(bytes.clone()).unwrap(), expected, "{name}");
    assert_eq!(hex::encode(expected.encode()), hex::encode(bytes), "{name}: written otherwise under the same version");
}

fn digest() -> Digest {
    Digest::of(b"a component")
}

fn stage(operation: &str, apply: Apply) -> Stage {
    Stage { operation: operation.parse().unwrap(), digest: digest(), config: Bytes::from_static(&[7]), apply }
}

#[test]
fn tasks() {
    let task = AnyTask {
        routing_key: "0198c0ffee".into(),
        id: TaskId(300),
        metadata: "note".into(),
        serializer: Serializer::Postcard,
        attempt: 2,
        stages: vec![stage("arith/multiply-by", Apply::Map), stage("arith/sum@^1.2", Apply::Fold)],
        inputs: ["one", "", "three"].into_iter().collect(),
    };
    check("wire-1/task-postcard", task.clone());
    check("wire-1/task-cbor-empty", AnyTask { serializer: Serializer::Cbor, inputs: Packed::default(), ..task });
}

#[test]
fn results() {
    let result = |outcome| AnyTaskResult {
        routing_key: "0198c0ffee".into(),
        id: TaskId(300),
        metadata: "note".into(),
        serializer: Serializer::Cbor,
        report: WorkerReport {
            worker: "3f2a".into(),
            slots: 4,
            waited: Duration::new(0, 7),
            execution: Duration::new(3, 5),
        },
        outcome,
    };
    let (terminate, ignore) = (FatalStrategy::Terminate, FatalStrategy::Ignore);
    let transient = |retry| Cause::Transient { retry, exhausted: ignore };
    // Each cause, in the order in which they were introduced.
    let causes = [
        transient(RetryStrategy::Never),
        transient(RetryStrategy::Immediate { max_retries: 3 }),
        transient(RetryStrategy::After { max_retries: 3, duration: Duration::from_millis(20) }),
        transient(RetryStrategy::Exponential {
            max_retries: 3,
            min_duration: Duration::from_millis(20),
            max_duration: Duration::from_secs(2),
        }),
        Cause::Fatal { strategy: terminate },
        Cause::RetriesExhausted { attempts: 4, strategy: terminate },
        Cause::Panic { location: Some("src/lib.rs:1:2".into()) },
        Cause::Trap,
        Cause::Deadline { limit: Duration::from_secs(5) },
        Cause::Memory { limit: 1 << 20 },
        Cause::OutputTooLarge { limit: 1 << 20 },
        Cause::Cancelled,
        Cause::BadInput { config: true, position: Some(9) },
        Cause::Unsupported,
        Cause::Contract,
        Cause::PluginUnavailable,
        Cause::Worker,
        Cause::Poison { attempts: 3 },
        Cause::Format { version: 2 },
        Cause::UnreadableResult { version: 2 },
    ];
    let failure = |cause| ExecutionError {
        element: Some(1),
        causes: vec!["because".into()],
        stderr: "said".into(),
        ..ExecutionError::new(OperationId::new("arith", "divide"), cause, "message")
    };
    let failed = (0..).zip(causes).map(|(index, cause)| ElementFailure { index, error: failure(cause) }).collect();
    let outputs = ["one", "two"].into_iter().collect();
    check("wire-1/result-executed", result(TaskOutcome::Executed { outputs, failed }));
    check("wire-1/result-failed", result(TaskOutcome::Failed(failure(Cause::Trap))));
}

#[test]
fn control_messages_and_answers() {
    let job = || "0198c0ffee".into();
    check("wire-1/ipc-terminate", WorkerIpc::Terminate { routing_key: job() });
    check("wire-1/ipc-report", WorkerIpc::Report { reply_to: "answers".into() });
    let (by, reply_to) = ("ada@engine".to_owned(), || "answers".into());
    check("wire-1/ipc-cancel", WorkerIpc::Cancel { routing_key: job(), by: by.clone(), reply_to: reply_to() });
    check("wire-1/ipc-answered", WorkerIpc::Answered { routing_key: job(), tasks: vec![TaskId(300), TaskId(7)] });
    check("wire-1/ipc-drain", WorkerIpc::Drain { worker: "3f2a".into(), by, reply_to: reply_to() });
    let suspect = Suspect { routing_key: job(), task: TaskId(300), attempt: 3 };
    check("wire-1/ipc-accuse", WorkerIpc::Accuse(suspect.clone()));
    check("wire-1/ipc-vouch", WorkerIpc::Vouch(suspect));
    let process = Process {
        version: "0.1.0".into(),
        user: "ada".into(),
        host: "engine".into(),
        pid: 4711,
        program: "palfrey".into(),
    };
    let plugin = LoadedPlugin { name: "arith".into(), version: "0.1.0".into(), digest: digest() };
    let worker = WorkerStatus {
        identity: "3f2a".into(),
        process: process.clone(),
        bus: "default".into(),
        draining: true,
        slots: 4,
        waiting: 3,
        running: vec![(job(), 2)],
        load: 0.5,
        executed: 1000,
        plugins: vec![plugin],
        uptime: Duration::new(60, 1),
    };
    check("wire-1/answer-worker", Answer::Worker(worker));
    let status = JobStatus {
        id: job(),
        process,
        bus: "default".into(),
        operations: vec![OperationId::new("arith", "sum")],
        done: 10,
        taken: 20,
        total: Some(30),
        in_flight: 5,
        running: 0,
        retried: 1,
        failed: 2,
        age: Duration::new(9, 8),
    };
    check("wire-1/answer-jobs", Answer::Jobs(vec![status]));
    check("wire-1/answer-accepted", Answer::Accepted);
}

#[test]
fn records_of_the_registry() {
    let check = |name: &str, action: Action| {
        let (id, when) = (Uuid::from_u128(0x0198_c0ff_ee00_7000_8000_0000_0000_0001), UnixMillis(1_700_000_000_000));
        let expected = Record { id, who: "ada@engine".into(), when, action };
        let bytes = recorded(name);
        assert_eq!(Record::decode(&bytes).as_ref(), Ok(&expected), "{name}");
        assert_eq!(
            hex::encode(expected.encode()),
            hex::encode(bytes),
            "{name}: written otherwise under the same version"
        );
    };
    let operation = |kind| Descriptor {
        name: "sum".into(),
        kind,
        summary: "Adds.".into(),
        encodings: vec!["postcard".into(), "cbor".into()],
        config_schema: None,
        input_schema: Some("\"U64\"".into()),
        output_schema: Some("\"U64\"".into()),
        needs: [].into(),
    };
    let operations = vec![operation(Kind::Operation), Descriptor { name: "product".into(), ..operation(Kind::Monoid) }];
    let description = Description { name: "arith".into(), version: "1.2.3".parse().unwrap(), operations };
    let activation = Activation {
        digest: digest(),
        size: 300_000,
        chunks: 2,
        description,
        imports: vec!["palfrey:plugin/context@0.1.0".into()],
        force: false,
        signature: None,
        grants: [].into(),
    };
    check("registry-1/activate", Action::Activate(activation.clone()));
    let signature = "untrusted comment: signature from palfrey secret key 2F1D4E0A6B7C8D9E\nRUQ=\n\
                     trusted comment: plugin:arith version:1.2.3\nAAE=\n";
    let signed = Activation { signature: Some(signature.into()), ..activation.clone() };
    check("registry-1/activate-signed", Action::Activate(signed));
    let mut granted = activation;
    granted.description.operations[0].needs = [Capability::Clocks, Capability::Dir("/data".into())].into();
    granted.grants = [Capability::Clocks, Capability::Dir("/data".into()), Capability::Env("LANG".into())].into();
    check("registry-1/activate-granted", Action::Activate(granted));
    check("registry-1/undeploy", Action::Undeploy { plugin: "arith".into() });
    let (plugin, to) = ("arith".into(), digest());
    check("registry-1/roll-back", Action::RollBack { plugin, from: Some(Digest::of(b"another")), to });
    let chunk = Chunk { digest: digest(), index: 1, of: 2, bytes: Bytes::from_static(b"part") };
    let bytes = recorded("registry-1/chunk");
    assert_eq!(Chunk::decode(&bytes), Ok(chunk.clone()));
    assert_eq!(hex::encode(chunk.encode()), hex::encode(bytes));
}
