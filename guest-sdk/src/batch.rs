//! Executes an operation on a batch of elements, as the contract wants it: in order, and up to the first failure.
//!
//! It knows nothing of components, so that it is tested as ordinary Rust. The `component` module calls it.

use std::{any::type_name, cell::Cell};

use crate::{
    CodecError, Descriptor, FatalStrategy, Monoid, OperationError, RemoteExecute, RetryStrategy, Serializable,
    Serializer,
};

/// Elements in one buffer: element `i` ends before `ends[i]`, and begins where the one before it ends.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The encoded elements, one after the other.
    pub bytes: Vec<u8>,
    /// For each element, the offset just behind its last byte.
    pub ends: Vec<u32>,
}

impl Packed {
    /// The elements with their indices. One whose offsets lie is an error, and the last one.
    fn elements(&self) -> impl Iterator<Item = (u32, Fallible<&[u8]>)> {
        let last = self.ends.len().saturating_sub(1);
        let mut start = 0_usize;
        (0_u32..).zip(&self.ends).map(move |(index, &end)| {
            let (begin, end) = (start, end as usize);
            start = end;
            let element = match self.bytes.get(begin..end) {
                Some(element) if index as usize != last || end == self.bytes.len() => Ok(element),
                _ => Err(Failure::offsets(begin, end, self.bytes.len()).into()),
            };
            (index, element)
        })
    }

    /// Encodes a value as the next element. If that fails, what was there stays as it was.
    fn push<T: Serializable>(&mut self, value: &T, serializer: Serializer) -> Fallible<()> {
        let length = self.bytes.len();
        serializer.append(value, &mut self.bytes).map_err(|error| Failure::unencodable::<T>(&error))?;
        match u32::try_from(self.bytes.len()) {
            Ok(end) => self.ends.push(end),
            Err(_) => {
                self.bytes.truncate(length);
                let message = "the outputs of one batch exceed 4 GiB: send smaller batches";
                return Err(Failure::fatal(message.to_owned()).into());
            }
        }
        Ok(())
    }
}

/// What each element goes through. Failures are boxed, so that passing on what succeeds moves some bytes and not a hundred.
type Fallible<T> = Result<T, Box<Failure>>;

/// What was finished of a batch. The index of the failure is the number of outputs.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The outputs of the elements before the failure, or of all of them.
    pub outputs: Packed,
    /// What stopped the batch.
    pub failure: Option<Failure>,
}

/// The failure of the element at an index of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementFailure {
    /// Position in the batch, counted from zero.
    pub index: u32,
    /// Why it failed.
    pub failure: Failure,
}

/// Why an element failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// What happened, in one line.
    pub message: String,
    /// What caused it, the nearest cause first.
    pub causes: Vec<String>,
}

/// The kinds of failure that the contract has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Executing it again may succeed.
    Transient {
        /// How often and when to try again.
        retry: RetryStrategy,
        /// What it means when the retries are used up.
        exhausted: FatalStrategy,
    },
    /// Executing it again would fail in the same way.
    Fatal(FatalStrategy),
    /// The config is not one of this operation.
    BadConfig {
        /// Byte offset in the config.
        position: Option<u32>,
    },
    /// The element is not an input of this operation.
    BadElement {
        /// Byte offset in the element.
        position: Option<u32>,
    },
    /// The plugin cannot do what was asked.
    Unsupported,
}

impl Failure {
    fn new(kind: FailureKind, message: String) -> Self {
        Self { kind, message, causes: Vec::new() }
    }

    fn fatal(message: String) -> Self {
        Self::new(FailureKind::Fatal(FatalStrategy::Terminate), message)
    }

    /// The plugin cannot do what was asked.
    #[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "only components are asked"))]
    pub(crate) fn unsupported(message: String) -> Self {
        Self::new(FailureKind::Unsupported, message)
    }

    fn bad_config<T>(error: &CodecError) -> Self {
        let position = error.position();
        Self::new(FailureKind::BadConfig { position }, format!("the config is not a `{}`: {error}", type_name::<T>()))
    }

    fn bad_element<T>(error: &CodecError) -> Self {
        let position = error.position();
        Self::new(FailureKind::BadElement { position }, format!("the element is not a `{}`: {error}", type_name::<T>()))
    }

    fn unencodable<T>(error: &CodecError) -> Self {
        Self::fatal(format!("the output, a `{}`, cannot be encoded: {error}", type_name::<T>()))
    }

    fn offsets(begin: usize, end: usize, length: usize) -> Self {
        Self::new(
            FailureKind::BadElement { position: None },
            format!("the packed inputs are malformed: an element from {begin} to {end} in {length} bytes"),
        )
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        let kind = match &error {
            OperationError::Transient(error) => {
                FailureKind::Transient { retry: error.retry(), exhausted: error.exhausted() }
            }
            OperationError::Fatal(error) => FailureKind::Fatal(error.strategy()),
        };
        Self { kind, message: error.to_string(), causes: error.causes().collect() }
    }
}

/// An operation as the component's exports see it: by name, and with its types erased.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Describes it.
    pub descriptor: fn() -> Descriptor,
    /// Applies it, given its config, to each input.
    pub map: fn(&[u8], Serializer, &Packed) -> Outcome,
    /// What it can do as a monoid, if it is one.
    pub fold: Option<Fold>,
}

/// Combines inputs: config, encoding, inputs.
pub(crate) type FoldFn = fn(&[u8], Serializer, &Packed) -> Result<Vec<u8>, ElementFailure>;

/// What only monoids can do.
#[derive(Debug)]
pub struct Fold {
    /// Combines the inputs; a failure comes with the index of the element.
    pub fold: FoldFn,
    /// The identity.
    pub empty: fn(&[u8], Serializer) -> Result<Vec<u8>, Failure>,
}

impl Entry {
    /// The entry of a type. Whether it is a monoid is for the caller to find out.
    pub fn new<T: RemoteExecute>(fold: Option<Fold>) -> Self {
        Self { name: T::NAME, descriptor: T::descriptor, map: map::<T>, fold }
    }
}

/// Applies an operation to each input, in order, and stops at the first element that fails.
pub(crate) fn map<T: RemoteExecute>(config: &[u8], serializer: Serializer, inputs: &Packed) -> Outcome {
    let mut outcome = Outcome::default();
    let operation: T = match decode_config(config, serializer) {
        Ok(operation) => operation,
        Err(failure) => return Outcome { failure: Some(*failure), ..outcome },
    };
    outcome.outputs.ends.reserve_exact(inputs.ends.len());
    outcome.outputs.bytes.reserve(inputs.bytes.len());
    for (index, element) in inputs.elements() {
        ELEMENT.set(Some(index));
        let result = element
            .and_then(|element| decode_element(element, serializer))
            .and_then(|input| operation.execute(input).map_err(|error| Failure::from(error).into()))
            .and_then(|output| outcome.outputs.push(&output, serializer));
        if let Err(failure) = result {
            outcome.failure = Some(*failure);
            break;
        }
    }
    outcome
}

/// Combines the inputs from left to right. No inputs at all are the identity.
pub(crate) fn fold<T: Monoid + Serializable>(
    config: &[u8],
    serializer: Serializer,
    inputs: &Packed,
) -> Result<Vec<u8>, ElementFailure> {
    let at = |index| move |failure: Box<Failure>| ElementFailure { index, failure: *failure };
    let monoid: T = decode_config(config, serializer).map_err(at(0))?;
    let mut combined = None;
    for (index, element) in inputs.elements() {
        ELEMENT.set(Some(index));
        let right = element.and_then(|element| decode_element(element, serializer)).map_err(at(index))?;
        combined = Some(match combined {
            None => right,
            Some(left) => monoid.combine(left, right).map_err(|error| at(index)(Failure::from(error).into()))?,
        });
    }
    let last = u32::try_from(inputs.ends.len().saturating_sub(1)).unwrap_or(u32::MAX);
    encode(&combined.unwrap_or_else(|| monoid.empty()), serializer).map_err(at(last))
}

/// The identity of a monoid.
pub(crate) fn empty<T: Monoid + Serializable>(config: &[u8], serializer: Serializer) -> Result<Vec<u8>, Failure> {
    let monoid: T = decode_config(config, serializer).map_err(|failure| *failure)?;
    encode(&monoid.empty(), serializer).map_err(|failure| *failure)
}

fn decode_config<T: Serializable>(config: &[u8], serializer: Serializer) -> Fallible<T> {
    ELEMENT.set(None);
    serializer.from_bytes(config).map_err(|error| Failure::bad_config::<T>(&error).into())
}

fn decode_element<T: Serializable>(element: &[u8], serializer: Serializer) -> Fallible<T> {
    serializer.from_bytes(element).map_err(|error| Failure::bad_element::<T>(&error).into())
}

fn encode<T: Serializable>(value: &T, serializer: Serializer) -> Fallible<Vec<u8>> {
    let mut bytes = Vec::new();
    serializer.append(value, &mut bytes).map_err(|error| Failure::unencodable::<T>(&error))?;
    Ok(bytes)
}

thread_local! {
    /// The element under way, for the message of a panic.
    static ELEMENT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Index of the element under way in its batch.
#[cfg_attr(
    not(any(test, target_family = "wasm")),
    expect(dead_code, reason = "only the panic hook of components asks")
)]
pub(crate) fn current_element() -> Option<u32> {
    ELEMENT.get()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{Operation, TransientError};

    /// Echoes texts, with a prefix; fails, panics and misbehaves on demand.
    #[derive(Serialize, Deserialize, RemoteExecute)]
    struct Echo {
        prefix: String,
    }

    impl Operation for Echo {
        type Input = String;
        type Output = Fragile;

        fn execute(&self, input: String) -> crate::Result<Fragile> {
            match input.as_str() {
                "fail" => Err(TransientError::msg("told to fail").with_retry(RetryStrategy::Never).into()),
                "panic" => panic!("told to panic"),
                _ => Ok(Fragile(format!("{}{input}", self.prefix))),
            }
        }
    }

    /// A text that cannot be encoded when it is `break`.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Fragile(String);

    impl Serialize for Fragile {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0.ends_with("break") {
                return Err(serde::ser::Error::custom("told to break"));
            }
            serializer.serialize_newtype_struct("Fragile", &self.0)
        }
    }

    #[derive(Serialize, Deserialize, RemoteExecute)]
    struct Concat;

    impl Monoid for Concat {
        type Elem = String;

        fn empty(&self) -> String {
            String::new()
        }

        fn combine(&self, left: String, right: String) -> crate::Result<String> {
            if right == "fail" { Err(std::fmt::Error)? } else { Ok(left + &right) }
        }
    }

    fn pack<T: Serializable>(values: impl IntoIterator<Item = T>, serializer: Serializer) -> Packed {
        let mut packed = Packed::default();
        for value in values {
            packed.push(&value, serializer).unwrap();
        }
        packed
    }

    fn unpack<T: Serializable>(packed: &Packed, serializer: Serializer) -> Vec<T> {
        packed.elements().map(|(_, element)| serializer.from_bytes(element.unwrap()).unwrap()).collect()
    }

    fn echo(inputs: &Packed) -> Outcome {
        let config = Serializer::Postcard.to_bytes(&Echo { prefix: ">".to_owned() }).unwrap();
        map::<Echo>(&config, Serializer::Postcard, inputs)
    }

    fn echo_all(inputs: &[&str]) -> (Vec<String>, Option<Failure>) {
        let outcome = echo(&pack(inputs.iter().map(ToString::to_string), Serializer::Postcard));
        (unpack(&outcome.outputs, Serializer::Postcard), outcome.failure)
    }

    proptest! {
        #[test]
        fn elements_survive_packing(texts: Vec<String>, serializer in prop::sample::select(&Serializer::ALL[..])) {
            prop_assert_eq!(unpack::<String>(&pack(texts.clone(), serializer), serializer), texts);
        }

        #[test]
        fn offsets_never_make_it_panic(bytes: Vec<u8>, ends: Vec<u32>) {
            let outcome = echo(&Packed { bytes, ends: ends.clone() });
            prop_assert!(outcome.failure.is_some() || outcome.outputs.ends.len() == ends.len());
        }

        #[test]
        fn a_fold_keeps_the_order(texts: Vec<String>, serializer in prop::sample::select(&Serializer::ALL[..])) {
            prop_assume!(!texts.iter().any(|text| text == "fail"));
            let config = serializer.to_bytes(&Concat).unwrap();
            let folded = fold::<Concat>(&config, serializer, &pack(texts.clone(), serializer)).unwrap();
            prop_assert_eq!(serializer.from_bytes::<String>(&folded).unwrap(), texts.concat());
        }
    }

    #[test]
    fn a_batch_stops_at_the_first_failure_and_keeps_what_was_before() {
        let (outputs, failure) = echo_all(&["a", "", "fail", "b"]);
        assert_eq!(outputs, [">a", ">"]);
        let kind = FailureKind::Transient { retry: RetryStrategy::Never, exhausted: FatalStrategy::Terminate };
        assert_eq!(failure, Some(Failure { kind, message: "told to fail".to_owned(), causes: vec![] }));
    }

    #[test]
    fn an_output_that_cannot_be_encoded_costs_no_other() {
        let (outputs, failure) = echo_all(&["a", "break", "b"]);
        assert_eq!(outputs, [">a"]);
        let failure = failure.unwrap();
        assert_eq!(failure.kind, FailureKind::Fatal(FatalStrategy::Terminate));
        assert!(failure.message.starts_with("the output, a `"), "{}", failure.message);
    }

    #[test]
    fn an_undecodable_element_is_named_with_its_type_and_position() {
        let outcome = echo(&Packed { bytes: vec![1, b'a', 9, b'b'], ends: vec![2, 4] });
        assert_eq!(outcome.outputs.ends.len(), 1);
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.kind, FailureKind::BadElement { position: Some(1) });
        assert!(failure.message.starts_with("the element is not a `alloc::string::String`: "), "{}", failure.message);
    }

    #[test]
    fn an_undecodable_config_is_named_before_any_element() {
        let outcome = map::<Echo>(&[3, b'a'], Serializer::Postcard, &pack(["a".to_owned()], Serializer::Postcard));
        assert_eq!(outcome.outputs, Packed::default());
        assert_eq!(outcome.failure.unwrap().kind, FailureKind::BadConfig { position: Some(1) });
        let error = fold::<Concat>(&[0], Serializer::Postcard, &Packed::default()).unwrap_err();
        assert_eq!((error.index, error.failure.kind), (0, FailureKind::BadConfig { position: Some(0) }));
    }

    #[test]
    fn offsets_that_lie_are_bad_input() {
        for (ends, sound) in [(vec![2, 1], 1), (vec![9], 0), (vec![2], 0), (vec![2, u32::MAX], 1)] {
            let outcome = echo(&Packed { bytes: vec![1, b'a', 1, b'b'], ends });
            assert_eq!(outcome.outputs.ends.len(), sound);
            let failure = outcome.failure.unwrap();
            assert!(failure.message.starts_with("the packed inputs are malformed"), "{}", failure.message);
        }
    }

    #[test]
    fn the_element_that_panics_is_known() {
        let inputs = pack(["a", "b", "panic"].map(str::to_owned), Serializer::Postcard);
        assert!(std::panic::catch_unwind(|| echo(&inputs)).is_err());
        assert_eq!(current_element(), Some(2));
        echo(&Packed::default());
        assert_eq!(current_element(), None);
    }

    #[test]
    fn a_failed_fold_names_the_element_that_could_not_be_combined() {
        let inputs = pack(["a", "fail", "b"].map(str::to_owned), Serializer::Cbor);
        let config = Serializer::Cbor.to_bytes(&Concat).unwrap();
        let error = fold::<Concat>(&config, Serializer::Cbor, &inputs).unwrap_err();
        assert_eq!((error.index, error.failure.kind), (1, FailureKind::Fatal(FatalStrategy::Terminate)));
    }

    #[test]
    fn no_elements_fold_to_the_identity() {
        let folded = fold::<Concat>(&[], Serializer::Postcard, &Packed::default()).unwrap();
        assert_eq!(folded, empty::<Concat>(&[], Serializer::Postcard).unwrap());
        assert_eq!(Serializer::Postcard.from_bytes::<String>(&folded).unwrap(), "");
    }
}
