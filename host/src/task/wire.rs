//! The bytes of tasks and results.
//!
//! A message is one version byte, the length of a header as four bytes (little-endian), the header in Postcard, the elements'
//! end offsets as four bytes each (little-endian), and their bytes as they are. Decoding shares the elements with the message
//! instead of copying them.
//!
//! A release reads one version. What it can do with a message of another one is to say whose it is: the [`Envelope`] is the
//! part that stays as it is in every version, so that a job learns that nobody can read its tasks. It consists of the
//! version byte, the length of the header, and at its beginning the routing key (its length as a LEB128 number, then UTF-8)
//! and the task's number (LEB128). An envelope with nothing in it, sent where a job's results go, asks whether the job goes on.

use bytes::Bytes;
use palfrey_sdk::Serializer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    AnyTask, AnyTaskResult, ElementFailure, ExecutionError, Packed, PackedError, RoutingKey, Stage, TaskId,
    TaskOutcome, WorkerReport,
};

/// Version of the format. A message of another version is refused.
///
/// ```
/// use palfrey_host::task::{AnyTask, wire::{Message, VERSION, WireError}};
///
/// // What a later release might send.
/// let message = [VERSION + 1, 0, 0, 0, 0];
/// assert_eq!(AnyTask::decode(message.to_vec().into()), Err(WireError::Version(VERSION + 1)));
/// ```
pub const VERSION: u8 = 1;

const PREFIX: usize = 1 + size_of::<u32>();

/// A value that is sent over a [channel](crate::channel). A program that has channels of its own implements it:
///
/// ```
/// use bytes::Bytes;
/// use palfrey_host::task::wire::{Message, WireError};
///
/// #[derive(Debug, PartialEq)]
/// struct Note(String);
///
/// impl Message for Note {
///     fn encode(&self) -> Bytes {
///         self.0.clone().into()
///     }
///
///     fn decode(bytes: Bytes) -> Result<Self, WireError> {
///         String::from_utf8(bytes.into()).map(Self).map_err(|error| WireError::Header(error.to_string()))
///     }
/// }
///
/// let note = Note("at noon".to_owned());
/// assert_eq!(Note::decode(note.encode()), Ok(note));
/// ```
pub trait Message: Sized {
    /// The bytes that travel.
    fn encode(&self) -> Bytes;

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are of another version, cut off, or not such a message.
    fn decode(bytes: Bytes) -> Result<Self, WireError>;
}

/// Bytes that are not a message.
///
/// ```
/// use palfrey_host::task::{AnyTask, wire::{Message, WireError}};
///
/// let error = AnyTask::decode("???".into()).unwrap_err();
/// assert_eq!(error, WireError::TooShort(3));
/// assert_eq!(error.to_string(), "3 bytes are too few for a message");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than any message.
    #[error("{0} bytes are too few for a message")]
    TooShort(usize),
    /// Written by another release.
    #[error("the message has format version {0}, and this release reads version {VERSION}")]
    Version(u8),
    /// The header does not fit into the message.
    #[error("the header should have {header} bytes, and {available} are there")]
    Cut {
        /// Length that the message claims.
        header: usize,
        /// Bytes behind the prefix.
        available: usize,
    },
    /// The header does not decode.
    #[error("the header is malformed: {0}")]
    Header(String),
    /// Something follows a message that has no elements.
    #[error("{bytes} bytes are left over behind the message, from byte {position} on")]
    LeftOver {
        /// How many.
        bytes: usize,
        /// Where they begin.
        position: usize,
    },
    /// Fewer bytes than the elements' offsets have.
    #[error("the offsets of {elements} elements should be there, and there are {available} bytes")]
    Offsets {
        /// Elements that the message claims.
        elements: u32,
        /// Bytes behind the header.
        available: usize,
    },
    /// The offsets do not describe the elements.
    #[error("the elements are malformed: {0}")]
    Elements(PackedError),
    /// A task without stages, or with a fold before its last one.
    #[error("the stages are malformed: {0}")]
    Stages(&'static str),
}

/// Whose message it is: what can be read of a task or a result of any version. [`Envelope::read`] has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The version of its format.
    pub version: u8,
    /// The job.
    pub routing_key: RoutingKey,
    /// The task.
    pub id: TaskId,
}

impl Envelope {
    /// Reads it off a task or a result. `None` if the bytes are neither.
    ///
    /// ```
    /// use palfrey_host::task::{TaskId, wire::Envelope};
    ///
    /// let from_the_future = [9, 6, 0, 0, 0, 3, b'j', b'o', b'b', 7, 255];
    /// let envelope = Envelope::read(&from_the_future.to_vec().into()).expect("it can be read for ever");
    /// assert_eq!((envelope.version, envelope.routing_key.as_str(), envelope.id), (9, "job", TaskId(7)));
    /// ```
    pub fn read(bytes: &Bytes) -> Option<Self> {
        Self::open(bytes).map(|(envelope, _)| envelope)
    }

    /// Reads it, and says whether there is nothing in it.
    pub(crate) fn open(bytes: &Bytes) -> Option<(Self, bool)> {
        let (version, header, payload) = split(bytes).ok()?;
        let ((routing_key, id), rest) = postcard::take_from_bytes(&header).ok()?;
        Some((Self { version, routing_key, id }, rest.is_empty() && payload.is_empty()))
    }
}

/// Asks whether a job goes on, of which a task is under way. It is sent where the job's results go.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inquiry {
    pub(crate) routing_key: RoutingKey,
    pub(crate) id: TaskId,
}

impl Message for Inquiry {
    fn encode(&self) -> Bytes {
        encode_header(self)
    }

    fn decode(bytes: Bytes) -> Result<Self, WireError> {
        decode_header(&bytes)
    }
}

/// Version, header and elements.
fn split(bytes: &Bytes) -> Result<(u8, Bytes, Bytes), WireError> {
    let prefix = bytes.get(..PREFIX).ok_or(WireError::TooShort(bytes.len()))?;
    let length = u32::from_le_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    let mut header = bytes.slice(PREFIX..);
    if length > header.len() {
        return Err(WireError::Cut { header: length, available: header.len() });
    }
    let payload = header.split_off(length);
    Ok((prefix[0], header, payload))
}

fn frame(header: &impl Serialize, elements: &Packed) -> Bytes {
    let offsets = size_of_val(elements.ends());
    let mut buffer = Vec::with_capacity(PREFIX + 256 + offsets + elements.bytes().len());
    buffer.extend([VERSION, 0, 0, 0, 0]);
    let mut buffer = postcard::to_extend(header, buffer).expect("headers are made of types that Postcard can express");
    let behind = buffer.len();
    let length = u32::try_from(behind - PREFIX).expect("a header is smaller than 4 GiB");
    buffer[1..PREFIX].copy_from_slice(&length.to_le_bytes());
    buffer.resize(behind + offsets, 0);
    for (bytes, end) in buffer[behind..].as_chunks_mut().0.iter_mut().zip(elements.ends()) {
        *bytes = end.to_le_bytes();
    }
    buffer.extend_from_slice(elements.bytes());
    buffer.into()
}

/// The elements behind a header, which says how many there are.
fn unpack(elements: u32, mut rest: Bytes) -> Result<Packed, WireError> {
    let available = rest.len();
    let offsets = (elements as usize).checked_mul(size_of::<u32>()).filter(|&offsets| offsets <= available);
    let offsets = rest.split_to(offsets.ok_or(WireError::Offsets { elements, available })?);
    let ends = offsets.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
    Packed::new(rest, ends).map_err(WireError::Elements)
}

/// How many elements there are, as a header says it.
fn count(elements: &Packed) -> u32 {
    u32::try_from(elements.len()).expect("a message has fewer than four billion elements")
}

fn unframe<H: DeserializeOwned>(bytes: &Bytes) -> Result<(H, Bytes), WireError> {
    let prefix = bytes.get(..PREFIX).ok_or(WireError::TooShort(bytes.len()))?;
    if prefix[0] != VERSION {
        return Err(WireError::Version(prefix[0]));
    }
    let length = u32::from_le_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    let rest = bytes.slice(PREFIX..);
    let header = rest.get(..length).ok_or(WireError::Cut { header: length, available: rest.len() })?;
    let header = Serializer::Postcard.from_bytes(header).map_err(|error| {
        let position = error.position().map(|position| PREFIX + position as usize);
        WireError::Header(position.map_or_else(|| error.to_string(), |position| format!("{error}, at byte {position}")))
    })?;
    Ok((header, rest.slice(length..)))
}

fn nothing_left(message: &Bytes, rest: &Bytes) -> Result<(), WireError> {
    match rest.len() {
        0 => Ok(()),
        bytes => Err(WireError::LeftOver { bytes, position: message.len() - bytes }),
    }
}

#[derive(Serialize, Deserialize)]
struct TaskHeader {
    routing_key: RoutingKey,
    id: TaskId,
    metadata: Bytes,
    serializer: Serializer,
    attempt: u32,
    stages: Vec<Stage>,
    elements: u32,
}

impl Message for AnyTask {
    fn encode(&self) -> Bytes {
        let header = TaskHeader {
            routing_key: self.routing_key.clone(),
            id: self.id,
            metadata: self.metadata.clone(),
            serializer: self.serializer,
            attempt: self.attempt,
            stages: self.stages.clone(),
            elements: count(&self.inputs),
        };
        frame(&header, &self.inputs)
    }

    fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let (TaskHeader { routing_key, id, metadata, serializer, attempt, stages, elements }, rest) = unframe(&bytes)?;
        match stages.split_last() {
            None => return Err(WireError::Stages("there are none")),
            Some((_, before)) if before.iter().any(|stage| stage.apply == super::Apply::Fold) => {
                return Err(WireError::Stages("only the last one may be a fold"));
            }
            Some(_) => {}
        }
        let inputs = unpack(elements, rest)?;
        Ok(Self { routing_key, id, metadata, serializer, attempt, stages, inputs })
    }
}

#[derive(Serialize, Deserialize)]
struct ResultHeader {
    routing_key: RoutingKey,
    id: TaskId,
    metadata: Bytes,
    serializer: Serializer,
    report: WorkerReport,
    outcome: OutcomeHeader,
}

#[derive(Serialize, Deserialize)]
enum OutcomeHeader {
    Executed { elements: u32, failed: Vec<ElementFailure> },
    Failed(ExecutionError),
}

impl Message for AnyTaskResult {
    fn encode(&self) -> Bytes {
        let none = Packed::default();
        let (outcome, outputs) = match &self.outcome {
            TaskOutcome::Executed { outputs, failed } => {
                (OutcomeHeader::Executed { elements: count(outputs), failed: failed.clone() }, outputs)
            }
            TaskOutcome::Failed(error) => (OutcomeHeader::Failed(error.clone()), &none),
        };
        let header = ResultHeader {
            routing_key: self.routing_key.clone(),
            id: self.id,
            metadata: self.metadata.clone(),
            serializer: self.serializer,
            report: self.report.clone(),
            outcome,
        };
        frame(&header, outputs)
    }

    fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let (ResultHeader { routing_key, id, metadata, serializer, report, outcome }, rest) = unframe(&bytes)?;
        let outcome = match outcome {
            OutcomeHeader::Executed { elements, failed } => {
                TaskOutcome::Executed { outputs: unpack(elements, rest)?, failed }
            }
            OutcomeHeader::Failed(error) => {
                nothing_left(&bytes, &rest)?;
                TaskOutcome::Failed(error)
            }
        };
        Ok(Self { routing_key, id, metadata, serializer, report, outcome })
    }
}

/// Encodes a message that is all header, for types that carry no elements.
///
/// ```
/// use palfrey_host::task::wire::{decode_header, encode_header};
///
/// let bytes = encode_header(&("at noon", 12_u8));
/// assert_eq!(decode_header::<(String, u8)>(&bytes)?, ("at noon".to_owned(), 12));
/// # Ok::<(), palfrey_host::task::wire::WireError>(())
/// ```
pub fn encode_header(header: &impl Serialize) -> Bytes {
    frame(header, &Packed::default())
}

/// Reads what [`encode_header`] wrote.
///
/// ```
/// use bytes::Bytes;
/// use palfrey_host::task::wire::{Message, WireError, decode_header, encode_header};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Note {
///     text: String,
/// }
///
/// impl Message for Note {
///     fn encode(&self) -> Bytes {
///         encode_header(self)
///     }
///
///     fn decode(bytes: Bytes) -> Result<Self, WireError> {
///         decode_header(&bytes)
///     }
/// }
/// ```
///
/// # Errors
/// As [`Message::decode`].
pub fn decode_header<H: DeserializeOwned>(bytes: &Bytes) -> Result<H, WireError> {
    let (header, rest) = unframe(bytes)?;
    nothing_left(bytes, &rest)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::task::{Apply, Cause, Digest, OperationId};

    #[test]
    fn an_inquiry_is_an_envelope_with_nothing_in_it() {
        let inquiry = Inquiry { routing_key: "job".into(), id: TaskId(7) };
        let bytes = inquiry.encode();
        assert_eq!(bytes, [VERSION, 5, 0, 0, 0, 3, b'j', b'o', b'b', 7].as_slice());
        let envelope = Envelope { version: VERSION, routing_key: "job".into(), id: TaskId(7) };
        assert_eq!(Envelope::open(&bytes), Some((envelope, true)));
        assert_eq!(Inquiry::decode(bytes), Ok(inquiry));
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn packed() -> impl Strategy<Value = Packed> {
        vec(vec(any::<u8>(), 0..20), 0..20).prop_map(|elements| elements.into_iter().collect())
    }

    fn serializer() -> impl Strategy<Value = Serializer> {
        prop_oneof![Just(Serializer::Postcard), Just(Serializer::Cbor)]
    }

    fn stages() -> impl Strategy<Value = Vec<Stage>> {
        let stage = ("[a-z]{1,8}", "[a-z]{1,8}", bytes()).prop_map(|(plugin, operation, config)| Stage {
            operation: OperationId::new(&plugin, &operation),
            digest: Digest::of(&config),
            config,
            apply: Apply::Map,
        });
        (vec(stage, 1..4), any::<bool>()).prop_map(|(mut stages, folds)| {
            let last = stages.len() - 1;
            stages[last].apply = if folds { Apply::Fold } else { Apply::Map };
            stages
        })
    }

    prop_compose! {
        fn task()(
            routing_key in "[a-z0-9]{1,32}",
            (id, attempt) in any::<(u64, u32)>(),
            metadata in bytes(),
            serializer in serializer(),
            stages in stages(),
            inputs in packed(),
        ) -> AnyTask {
            AnyTask { routing_key: routing_key.into(), id: TaskId(id), metadata, serializer, attempt, stages, inputs }
        }
    }

    prop_compose! {
        fn failure()(
            element in option::of(any::<u64>()),
            cause in prop_oneof![
                Just(Cause::Trap),
                any::<u64>().prop_map(|limit| Cause::Memory { limit }),
                any::<u32>().prop_map(|seconds| Cause::Deadline { limit: Duration::from_secs(seconds.into()) }),
                option::of(".{0,20}").prop_map(|location| Cause::Panic { location }),
                (any::<bool>(), option::of(any::<u32>()))
                    .prop_map(|(config, position)| Cause::BadInput { config, position }),
            ],
            message in ".{0,40}",
            causes in vec(".{0,20}", 0..3),
        ) -> ExecutionError {
            let error = ExecutionError::new(OperationId::new("arith", "divide"), cause, message);
            ExecutionError { element, causes, ..error }
        }
    }

    prop_compose! {
        fn result()(
            task in task(),
            (slots, nanos, waited) in any::<(u32, u32, u32)>(),
            outcome in prop_oneof![
                failure().prop_map(TaskOutcome::Failed),
                (packed(), vec((any::<u32>(), failure()), 0..3)).prop_map(|(outputs, failed)| {
                    let failed = failed.into_iter().map(|(index, error)| ElementFailure { index, error }).collect();
                    TaskOutcome::Executed { outputs, failed }
                }),
            ],
        ) -> AnyTaskResult {
            let AnyTask { routing_key, id, metadata, serializer, .. } = task;
            let [waited, execution] = [waited, nanos].map(|nanos| Duration::from_nanos(nanos.into()));
            let report = WorkerReport { worker: "worker".into(), slots, waited, execution };
            AnyTaskResult { routing_key, id, metadata, serializer, report, outcome }
        }
    }

    proptest! {
        #[test]
        fn tasks_read_back_what_was_written(task in task()) {
            prop_assert_eq!(AnyTask::decode(task.encode()), Ok(task));
        }

        #[test]
        fn results_read_back_what_was_written(result in result()) {
            prop_assert_eq!(AnyTaskResult::decode(result.encode()), Ok(result));
        }

        #[test]
        fn bytes_of_any_kind_are_a_message_or_an_error(garbage in vec(any::<u8>(), 0..200)) {
            // The header's length and the version are seldom right by chance.
            let mut nearly = vec![VERSION, garbage.len() as u8, 0, 0, 0];
            nearly.extend(&garbage);
            for bytes in [garbage, nearly] {
                _ = AnyTask::decode(bytes.clone().into());
                _ = AnyTaskResult::decode(bytes.into());
            }
        }

        #[test]
        fn a_message_that_was_cut_is_refused(task in task(), part in 0.0..1.0_f64) {
            let bytes = task.encode();
            let cut = bytes.slice(..(bytes.len() as f64 * part) as usize);
            prop_assert!(AnyTask::decode(cut).is_err());
        }
    }

    #[test]
    fn the_envelope_of_a_task_and_of_a_result_can_be_read_in_any_version() {
        let mut runner = proptest::test_runner::TestRunner::default();
        let strategy = (task(), result(), any::<u8>());
        let check = |(task, result, version): (AnyTask, AnyTaskResult, u8)| {
            for (bytes, routing_key, id) in
                [(task.encode(), task.routing_key, task.id), (result.encode(), result.routing_key, result.id)]
            {
                let mut bytes = bytes.to_vec();
                bytes[0] = version;
                let envelope = Envelope { version, routing_key, id };
                prop_assert_eq!(Envelope::read(&bytes.into()), Some(envelope));
            }
            Ok(())
        };
        runner.run(&strategy, check).unwrap();
        for garbage in ["garbage", "", "\x01\x00\x00\x00\x00"] {
            assert_eq!(Envelope::read(&garbage.into()), None);
        }
    }

    #[test]
    fn a_message_of_another_version_says_which() {
        let error = AnyTask::decode(Bytes::from_static(&[9, 0, 0, 0, 0])).unwrap_err();
        assert_eq!(error.to_string(), "the message has format version 9, and this release reads version 1");
    }

    #[test]
    fn a_fold_before_the_last_stage_is_refused() {
        let stage = |apply| Stage {
            operation: OperationId::new("arith", "sum"),
            digest: Digest::of(b""),
            config: Bytes::new(),
            apply,
        };
        let task = |stages| AnyTask {
            routing_key: "job".into(),
            id: TaskId(0),
            metadata: Bytes::new(),
            serializer: Serializer::Postcard,
            attempt: 0,
            stages,
            inputs: Packed::default(),
        };
        let decode = |stages| AnyTask::decode(task(stages).encode()).map(|_| ());
        assert_eq!(decode(vec![stage(Apply::Map), stage(Apply::Fold)]), Ok(()));
        assert!(matches!(decode(vec![stage(Apply::Fold), stage(Apply::Map)]), Err(WireError::Stages(_))));
        assert!(matches!(decode(vec![]), Err(WireError::Stages(_))));
    }
}
