//! What the two logs of the registry hold.
//!
//! The logs outlive releases: a worker reads what an older one wrote, and the other way round while an operator
//! upgrades. Records are therefore CBOR, which names its fields, behind a byte that changes only when old readers would
//! misunderstand. A new field gets `#[serde(default)]`.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes, BytesMut};
use palfrey_sdk::Serializer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    engine::{Capability, Description},
    task::Digest,
};

/// Version of the format. A record of another one is skipped with a warning.
pub(super) const FORMAT: u8 = 1;

/// Milliseconds since 1970, as the clock of whoever wrote the record had it. For people: nothing is decided by it.
///
/// ```
/// use palfrey_host::plugin::UnixMillis;
///
/// assert_eq!(UnixMillis(1_700_000_000_000).to_string(), "2023-11-14T22:13:20Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The time by this machine's clock. Nobody compares it with another machine's: it is for people.
    #[expect(clippy::disallowed_methods, reason = "the one place: what it returns is shown, and decides nothing")]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The year 9999 is the last one that RFC 3339 can express.
        const LAST: u64 = 253_402_300_799_000;
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(self.0.min(LAST))).fmt(f)
    }
}

/// An entry of the log of deployments.
///
/// ```
/// use palfrey_host::plugin::{Action, Record};
///
/// let record = Record::new("ada@example", Action::Undeploy { plugin: "arith".to_owned() });
/// assert_eq!(record.plugin(), "arith");
/// assert_eq!(Record::decode(&record.encode())?, record);
/// # Ok::<(), palfrey_host::plugin::RecordError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Unique. A broker may keep a record twice when its confirm was lost; the second one changes nothing.
    pub id: Uuid,
    /// Who wrote it.
    pub who: String,
    /// When.
    pub when: UnixMillis,
    /// What it does.
    pub action: Action,
}

/// What a record does.
///
/// ```
/// use palfrey_host::plugin::{Action, Record};
///
/// fn line(record: &Record) -> String {
///     match &record.action {
///         Action::Activate(component) => format!("deploy {} {}", record.plugin(), component.description.version),
///         Action::Undeploy { plugin } => format!("undeploy {plugin}"),
///         Action::RollBack { plugin, to, .. } => format!("roll {plugin} back to {}", to.short()),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Deploys a component, whose chunks are in the other log already.
    Activate(Activation),
    /// Withdraws every version of a plugin.
    Undeploy {
        /// The plugin's name.
        plugin: String,
    },
    /// Makes a component active again that was deployed before.
    RollBack {
        /// The plugin's name.
        plugin: String,
        /// What was active when this was decided. If something else is by now, the record is refused.
        from: Option<Digest>,
        /// What becomes active.
        to: Digest,
    },
}

/// A component that becomes the active one of its plugin.
///
/// ```no_run
/// # fn example(plugin: palfrey_host::engine::Plugin) {
/// use palfrey_host::plugin::{Action, Activation, Chunk, Record};
///
/// let activation = Activation {
///     digest: plugin.digest(),
///     size: plugin.size(),
///     chunks: Chunk::count(plugin.size() as usize),
///     description: plugin.description().clone(),
///     imports: plugin.imports().to_vec(),
///     force: false,
///     signature: None,
///     grants: plugin.description().needs(),
/// };
/// let record = Record::new("ada@example", Action::Activate(activation));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// The component.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The number of its chunks.
    pub chunks: u32,
    /// What it says of itself: name, version, operations.
    pub description: Description,
    /// What it imports, for people.
    #[serde(default)]
    pub imports: Vec<String>,
    /// Whether it may take a version that was deployed with other bytes.
    pub force: bool,
    /// A signature in minisign's format. The log does not check it: each worker does, by the keys that it trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// What its operations are granted. It is refused unless that is all that they need.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub grants: BTreeSet<Capability>,
}

impl Record {
    /// A record of this moment.
    pub fn new(who: impl Into<String>, action: Action) -> Self {
        Self { id: Uuid::now_v7(), who: who.into(), when: UnixMillis::now(), action }
    }

    /// The plugin that it is about.
    pub fn plugin(&self) -> &str {
        match &self.action {
            Action::Activate(activation) => &activation.description.name,
            Action::Undeploy { plugin } | Action::RollBack { plugin, .. } => plugin,
        }
    }

    /// The bytes that are appended to the log.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are of another format, cut off, or no record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode(bytes)
    }
}

/// A part of a component: an entry of the log of components.
///
/// ```
/// use bytes::Bytes;
/// use palfrey_host::{plugin::Chunk, task::Digest};
///
/// let component = Bytes::from(vec![7; 600 << 10]);
/// let chunks: Vec<_> = Chunk::split(Digest::of(&component), &component).collect();
/// assert_eq!(chunks.len(), 3);
/// assert_eq!((chunks[2].index, chunks[2].of, chunks[2].bytes.len()), (2, 3, 88 << 10));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The component.
    pub digest: Digest,
    /// Position of this part, counted from zero.
    pub index: u32,
    /// Number of parts.
    pub of: u32,
    /// The part.
    pub bytes: Bytes,
}

impl Chunk {
    /// Bytes in each chunk but the last: small beside any broker's limit on messages, large beside what a message costs.
    pub const SIZE: usize = 256 << 10;

    /// The number of chunks of a component with `size` bytes.
    pub fn count(size: usize) -> u32 {
        u32::try_from(size.div_ceil(Self::SIZE)).expect("a component has less than 2^32 chunks")
    }

    /// Cuts a component, sharing its bytes.
    pub fn split(digest: Digest, component: &Bytes) -> impl Iterator<Item = Self> + Send + 'static {
        let component = component.clone();
        let of = Self::count(component.len());
        (0..of).map(move |index| {
            let start = index as usize * Self::SIZE;
            let end = component.len().min(start + Self::SIZE);
            Self { digest, index, of, bytes: component.slice(start..end) }
        })
    }

    /// The bytes that are appended to the log.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are of another format, cut off, or no chunk.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode(bytes)
    }
}

/// An entry of a log that cannot be read.
///
/// ```
/// use palfrey_host::plugin::{Record, RecordError};
///
/// assert_eq!(Record::decode(b""), Err(RecordError::Empty));
/// let error = Record::decode(b"\xff").unwrap_err();
/// assert!(error.to_string().starts_with("it has format 255"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// No bytes at all.
    #[error("it is empty")]
    Empty,
    /// Written by a release whose records this one would misunderstand.
    #[error("it has format {0}, and this release reads format {FORMAT}: upgrade palfrey on this machine")]
    Format(u8),
    /// Not what the log should hold.
    #[error("it is malformed: {0}")]
    Malformed(String),
}

fn encode(value: &impl Serialize) -> Bytes {
    let body = Serializer::Cbor.to_bytes(value).expect("records are made of types that CBOR can express");
    let mut buffer = BytesMut::with_capacity(1 + body.len());
    buffer.put_u8(FORMAT);
    buffer.put_slice(&body);
    buffer.freeze()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&FORMAT, body)) => Serializer::Cbor.from_bytes(body).map_err(|error| {
            let position = error.position().map(|position| 1 + position);
            let text = position.map_or_else(|| error.to_string(), |position| format!("{error}, at byte {position}"));
            RecordError::Malformed(text)
        }),
        Some((&format, _)) => Err(RecordError::Format(format)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures::{activation, record};

    #[test]
    fn records_read_back_what_they_write() {
        let from = Some(Digest::of(b"new"));
        for action in [
            Action::Undeploy { plugin: "arith".into() },
            Action::RollBack { plugin: "arith".into(), from, to: Digest::of(b"old") },
        ] {
            let record = Record::new("ada", action);
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn chunks_put_together_are_the_component() {
        for size in [0, 1, Chunk::SIZE, Chunk::SIZE + 1, 3 * Chunk::SIZE] {
            let component = Bytes::from(vec![7; size]);
            let chunks: Vec<_> = Chunk::split(Digest::of(&component), &component).collect();
            assert!(chunks.iter().all(|chunk| Chunk::decode(&chunk.encode()).as_ref() == Ok(chunk)));
            assert_eq!(chunks.len(), Chunk::count(size) as usize);
            assert_eq!(chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>(), size);
        }
    }

    #[test]
    fn a_broken_record_says_what_is_wrong_with_it() {
        let record = Record::new("ada", Action::Undeploy { plugin: "arith".into() }).encode();
        let check = |bytes: &[u8], expect: &str| {
            let message = Record::decode(bytes).unwrap_err().to_string();
            assert!(message.contains(expect), "{message}");
        };
        check(b"", "empty");
        check(&[9, 1, 2], "has format 9, and this release reads format 1: upgrade");
        check(&record[..record.len() - 1], "malformed");
        check(b"\x01garbage", "malformed");
    }

    #[test]
    fn a_record_with_a_field_of_a_later_release_is_read() {
        #[derive(Serialize)]
        struct Later {
            id: Uuid,
            who: &'static str,
            when: UnixMillis,
            action: Action,
            ticket: u32,
        }
        let action = Action::Undeploy { plugin: "arith".into() };
        let later = Later { id: Uuid::nil(), who: "ada", when: UnixMillis(0), action, ticket: 7 };
        assert_eq!(Record::decode(&encode(&later)).unwrap().plugin(), "arith");
    }

    /// What the first release appended, before deployments could be signed.
    const UNSIGNED: &str = concat!(
        "01a462696450000000000000000000000000000000076377686f63616461647768656e1b0000018bcfe5680066616374696f6ea1684163746976",
        "617465a66664696765737498201876189218c318ad1835184018bb1880183c020b183a18ee186618cd18881887121832183418ea0c186e187118",
        "4318c018ad18d7183f18f4183118ed6473697a6503666368756e6b73016b6465736372697074696f6ea3646e616d656561726974686776657273",
        "696f6e65302e312e306a6f7065726174696f6e7381a7646e616d656373756d646b696e64666d6f6e6f69646773756d6d6172796069656e636f64",
        "696e67738168706f7374636172646d636f6e6669675f736368656d61f66c696e7075745f736368656d6178197b226e616d65223a22753634222c",
        "227479223a22553634227d6d6f75747075745f736368656d6178197b226e616d65223a22753634222c227479223a22553634227d67696d706f72",
        "74738065666f726365f4",
    );

    #[test]
    fn a_record_of_the_first_release_is_read_and_has_no_signature() {
        let record = Record::decode(&hex::decode(UNSIGNED).unwrap()).unwrap();
        assert_eq!((record.id, record.who.as_str()), (Uuid::from_u128(7), "ada"));
        let Action::Activate(activation) = record.action else { panic!("{record:?}") };
        assert_eq!((activation.digest, activation.size, activation.chunks), (Digest::of(b"one"), 3, 1));
        assert_eq!((activation.description.name.as_str(), activation.force), ("arith", false));
        assert_eq!(activation.description.operations[0].name, "sum");
        assert_eq!(activation.signature, None);
    }

    /// The activation as the first release reads it.
    #[derive(Deserialize)]
    struct FirstRelease {
        action: std::collections::BTreeMap<String, FirstActivation>,
    }

    #[derive(Deserialize)]
    struct FirstActivation {
        digest: Digest,
    }

    #[test]
    fn the_first_release_reads_a_signed_record() {
        let activation = Activation { signature: Some("signed".to_owned()), ..activation("arith", "0.1.0", "one") };
        let record = record(Action::Activate(activation)).encode();
        assert_eq!(decode::<FirstRelease>(&record).unwrap().action["Activate"].digest, Digest::of(b"one"));
        let Action::Activate(activation) = Record::decode(&record).unwrap().action else { panic!("it was one") };
        assert_eq!(activation.signature.as_deref(), Some("signed"));
    }

    #[test]
    fn what_a_later_release_can_grant_does_not_make_a_record_unreadable() {
        let grants = [Capability::Clocks, Capability::Unknown("gpu:0".to_owned())].into();
        let record = record(Action::Activate(Activation { grants, ..activation("arith", "0.1.0", "one") }));
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn a_time_is_printed_for_people() {
        assert_eq!(UnixMillis(1_700_000_000_000).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(UnixMillis(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }
}
