//! The component around the operations: it translates between the contract's types and those of `batch`.

#[expect(missing_docs, reason = "generated: the contract documents it")]
pub mod bindings;
mod log;
mod panic;

use std::sync::Once;

use bindings::{
    exports::palfrey::plugin::operations,
    palfrey::plugin::{context, types},
};

pub(crate) use context::{attempt, cancelled, progress};

use crate::{
    Descriptor, FatalStrategy, Kind, RetryStrategy, Serializer,
    batch::{ElementFailure, Entry, Failure, FailureKind, Fold, Packed},
};

/// What `registry!` tells about a plugin.
pub trait Plugin {
    /// Of the package.
    const NAME: &'static str;
    /// Of the package.
    const VERSION: &'static str;

    /// Its operations.
    fn entries() -> Vec<Entry>;
}

impl<P: Plugin> operations::Guest for P {
    fn describe() -> operations::Description {
        set_up();
        let operations = P::entries().iter().map(|entry| (entry.descriptor)().into()).collect();
        operations::Description { name: P::NAME.to_owned(), version: P::VERSION.to_owned(), operations }
    }

    fn map(operation: String, config: Vec<u8>, encoding: String, inputs: types::Packed) -> operations::MapOutcome {
        set_up();
        let (outputs, failure) = match find::<P>(&operation, &encoding) {
            Ok((entry, serializer)) => {
                let outcome = (entry.map)(&config, serializer, &inputs.into());
                (outcome.outputs, outcome.failure)
            }
            Err(failure) => (Packed::default(), Some(failure)),
        };
        // A batch has at most as many elements as its offsets, which are counted in 32 bits.
        let index = outputs.ends.len() as u32;
        operations::MapOutcome {
            outputs: outputs.into(),
            failure: failure.map(|failure| ElementFailure { index, failure }.into()),
        }
    }

    fn fold(
        monoid: String,
        config: Vec<u8>,
        encoding: String,
        inputs: types::Packed,
    ) -> Result<Vec<u8>, types::ElementFailure> {
        set_up();
        find_monoid::<P>(&monoid, &encoding)
            .map_err(|failure| ElementFailure { index: 0, failure })
            .and_then(|(monoid, serializer)| (monoid.fold)(&config, serializer, &inputs.into()))
            .map_err(Into::into)
    }

    fn empty(monoid: String, config: Vec<u8>, encoding: String) -> Result<Vec<u8>, types::Failure> {
        set_up();
        find_monoid::<P>(&monoid, &encoding)
            .and_then(|(monoid, serializer)| (monoid.empty)(&config, serializer))
            .map_err(Into::into)
    }
}

/// Sends panics and log messages to the worker.
fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::install();
        log::install();
    });
}

fn find<P: Plugin>(operation: &str, encoding: &str) -> Result<(Entry, Serializer), Failure> {
    let entry = P::entries().into_iter().find(|entry| entry.name == operation);
    let entry = entry.ok_or_else(|| {
        Failure::unsupported(format!("plugin `{}` {} has no operation `{operation}`", P::NAME, P::VERSION))
    })?;
    let serializer = encoding.parse().map_err(|error| Failure::unsupported(format!("{error}")))?;
    Ok((entry, serializer))
}

fn find_monoid<P: Plugin>(monoid: &str, encoding: &str) -> Result<(Fold, Serializer), Failure> {
    let (entry, serializer) = find::<P>(monoid, encoding)?;
    let fold = entry.fold.ok_or_else(|| {
        Failure::unsupported(format!("operation `{monoid}` of plugin `{}` is no monoid: map it instead", P::NAME))
    })?;
    Ok((fold, serializer))
}

impl From<Descriptor> for operations::Descriptor {
    fn from(descriptor: Descriptor) -> Self {
        Self {
            name: descriptor.name.to_owned(),
            kind: match descriptor.kind {
                Kind::Operation => operations::Kind::Operation,
                Kind::Monoid => operations::Kind::Monoid,
            },
            summary: descriptor.summary.to_owned(),
            encodings: descriptor.encodings.iter().map(|serializer| serializer.name().to_owned()).collect(),
            config_schema: descriptor.config_schema,
            input_schema: descriptor.input_schema,
            output_schema: descriptor.output_schema,
            needs: descriptor.needs.iter().map(|&need| need.to_owned()).collect(),
        }
    }
}

impl From<types::Packed> for Packed {
    fn from(packed: types::Packed) -> Self {
        Self { bytes: packed.bytes, ends: packed.ends }
    }
}

impl From<Packed> for types::Packed {
    fn from(packed: Packed) -> Self {
        Self { bytes: packed.bytes, ends: packed.ends }
    }
}

impl From<ElementFailure> for types::ElementFailure {
    fn from(failure: ElementFailure) -> Self {
        Self { index: failure.index, failure: failure.failure.into() }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        let bad_input = |what, position| types::FailureKind::BadInput(types::BadInput { what, position });
        let kind = match failure.kind {
            FailureKind::Transient { retry, exhausted } => types::FailureKind::Transient(types::TransientFailure {
                retry: retry.into(),
                exhausted: exhausted.into(),
            }),
            FailureKind::Fatal(strategy) => types::FailureKind::Fatal(strategy.into()),
            FailureKind::BadConfig { position } => bad_input(types::Undecodable::Config, position),
            FailureKind::BadElement { position } => bad_input(types::Undecodable::Element, position),
            FailureKind::Unsupported => types::FailureKind::Unsupported,
        };
        Self { kind, message: failure.message, causes: failure.causes }
    }
}

impl From<RetryStrategy> for types::RetryStrategy {
    fn from(strategy: RetryStrategy) -> Self {
        let milliseconds = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match strategy {
            RetryStrategy::Never => Self::Never,
            RetryStrategy::Immediate { max_retries } => Self::Immediate(types::ImmediateRetry { max_retries }),
            RetryStrategy::After { max_retries, duration } => {
                Self::After(types::DelayedRetry { max_retries, delay_ms: milliseconds(duration) })
            }
            RetryStrategy::Exponential { max_retries, min_duration, max_duration } => {
                Self::Exponential(types::ExponentialRetry {
                    max_retries,
                    min_delay_ms: milliseconds(min_duration),
                    max_delay_ms: milliseconds(max_duration),
                })
            }
        }
    }
}

impl From<FatalStrategy> for types::FatalStrategy {
    fn from(strategy: FatalStrategy) -> Self {
        match strategy {
            FatalStrategy::Terminate => Self::Terminate,
            FatalStrategy::Ignore => Self::Ignore,
        }
    }
}
