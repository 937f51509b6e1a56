//! The calls of a plugin: what goes in, what comes out, and the checks in between.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use palfrey_sdk::{FatalStrategy, RetryStrategy, Serializer};
use tokio_util::sync::CancellationToken;

use super::{
    Plugin,
    bindings::{exports::palfrey::plugin::operations as guest, palfrey::plugin::types as wit},
    context::ProgressSink,
    error::{Stopped, size_beside},
    grants::Grants,
    instance::{Answer, Request},
    journal::cut,
    limits::Limits,
};
use crate::task::{Cause, Packed, PackedBuilder};

/// What is executed, under which conditions.
///
/// ```no_run
/// # async fn example(engine: palfrey_host::engine::Engine, plugin: palfrey_host::engine::Plugin) -> anyhow::Result<()> {
/// use std::time::Duration;
/// use palfrey_host::{engine::{Call, Limits}, task::Cause};
///
/// let outcome = engine
///     .run(move || {
///         let limits = Limits { time: Duration::from_secs(1), ..Limits::default() };
///         // A config is encoded as inputs are: `MultiplyBy(3)` in Postcard.
///         let call = Call { attempt: 1, ..Call::new("multiply-by", &[3], limits) };
///         plugin.map(&call, &[[1], [2]].into_iter().collect())
///     })
///     .await;
/// match outcome {
///     Ok(outcome) => println!("{} outputs, and the failure {:?}", outcome.outputs.len(), outcome.failure),
///     Err(stopped) if matches!(stopped.cause, Cause::Deadline { .. }) => println!("too slow"),
///     Err(stopped) => println!("{stopped}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Call<'a> {
    /// The operation's name within the plugin.
    pub operation: &'a str,
    /// The encoded value of the operation.
    pub config: &'a [u8],
    /// Encoding of config, inputs and outputs.
    pub serializer: Serializer,
    /// Which try this is, counted from zero.
    pub attempt: u32,
    /// What the call may use. What exceeds the engine's own bounds is cut to them.
    pub limits: Limits,
    /// Stops the call, within milliseconds, with [`Cause::Cancelled`]. The guest is also [told](palfrey_sdk::context::cancelled),
    /// should it ask before that.
    pub cancel: CancellationToken,
    /// Receives reports of progress.
    pub progress: Option<ProgressSink>,
}

impl<'a> Call<'a> {
    /// A first attempt that nobody cancels or watches.
    pub fn new(operation: &'a str, config: &'a [u8], limits: Limits) -> Self {
        Self {
            operation,
            config,
            serializer: Serializer::default(),
            attempt: 0,
            limits,
            cancel: CancellationToken::new(),
            progress: None,
        }
    }
}

/// What was finished of a batch that is mapped.
///
/// ```
/// use palfrey_host::engine::{Failure, FailureKind, MapOutcome};
/// # use palfrey_sdk::FatalStrategy;
///
/// # let failure = Failure { kind: FailureKind::Fatal(FatalStrategy::Terminate), message: "no".into(), causes: vec![] };
/// let outcome = MapOutcome { outputs: [[1], [2]].into_iter().collect(), failure: Some((2, failure)) };
/// // The elements before the one that failed have their outputs, those behind it were not executed.
/// let (index, failure) = outcome.failure.expect("the third element failed");
/// assert_eq!(outcome.outputs.len(), index as usize);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapOutcome {
    /// The outputs of all elements, or of those before the failure.
    pub outputs: Packed,
    /// The failure that stopped the batch, with the index of its element.
    pub failure: Option<(u32, Failure)>,
}

/// A failure that an operation reports.
///
/// ```
/// use palfrey_host::engine::{Failure, FailureKind};
/// use palfrey_sdk::FatalStrategy;
///
/// let failure = Failure {
///     kind: FailureKind::Fatal(FatalStrategy::Terminate),
///     message: "there is no such page".to_owned(),
///     causes: vec!["404".to_owned()],
/// };
/// assert_eq!([&[failure.message], &failure.causes[..]].concat().join(": "), "there is no such page: 404");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// What happened.
    pub message: String,
    /// What caused it, the nearest cause first.
    pub causes: Vec<String>,
}

/// The kinds of failures that an operation can report.
///
/// ```
/// use palfrey_host::{engine::FailureKind, task::Cause};
/// use palfrey_sdk::{FatalStrategy, RetryStrategy};
///
/// let kind = FailureKind::Transient {
///     retry: RetryStrategy::Immediate { max_retries: 3 },
///     exhausted: FatalStrategy::Terminate,
/// };
/// // A worker tells the orchestrator as a cause.
/// assert!(matches!(Cause::from(kind), Cause::Transient { retry, .. } if retry.delay_after(0).is_some()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The config or the element could not be decoded.
    BadInput {
        /// Whether it was the config. Otherwise it was the element.
        config: bool,
        /// Byte offset at which decoding failed, where it is known.
        position: Option<u32>,
    },
    /// The plugin has no such operation or monoid, or does not understand the encoding.
    Unsupported,
}

impl From<FailureKind> for Cause {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Transient { retry, exhausted } => Self::Transient { retry, exhausted },
            FailureKind::Fatal(strategy) => Self::Fatal { strategy },
            FailureKind::BadInput { config, position } => Self::BadInput { config, position },
            FailureKind::Unsupported => Self::Unsupported,
        }
    }
}

/// The longest message of a failure in bytes. More is cut.
const MAX_MESSAGE: usize = 16 << 10;
/// The most causes that are kept, the nearest ones.
const MAX_CAUSES: usize = 32;
/// The longest message of a cause in bytes. More is cut.
const MAX_CAUSE: usize = 4 << 10;
/// The most retries: enough for any outage, and not for ever.
const MAX_RETRIES: u32 = 10_000;
/// The longest pause before a retry.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes that an answer may have besides its outputs: offsets come on top.
const ANSWER_OVERHEAD: u64 = 1 << 20;

impl Plugin {
    /// Applies an operation to each input, in order, up to the first element that fails, in a fresh instance.
    ///
    /// An operation that looks at random numbers or a clock gets a fresh instance for each input, because what it sees there
    /// depends on how often it looked before: so an output does not depend on which inputs share its batch. That costs
    /// some microseconds an input.
    ///
    /// It blocks the thread as long as the limits allow: call it within [`Engine::run`](super::Engine::run).
    ///
    /// # Errors
    /// If the guest was stopped, or its answer breaks the contract. Nothing of the batch is known then.
    pub fn map(&self, call: &Call<'_>, inputs: &Packed) -> Result<MapOutcome, Stopped> {
        let operations = &self.inner.description.operations;
        let operation = operations.iter().position(|operation| operation.name == call.operation);
        let apart = operation.and_then(|index| self.inner.apart.get(index));
        if inputs.len() <= 1 || !apart.is_some_and(|apart| apart.load(Relaxed)) {
            let (outcome, Aftermath { looked, .. }) = self.map_together(call, inputs, Duration::ZERO)?;
            if !looked {
                return Ok(outcome);
            }
            // Remembered, so that the next batch is executed only once.
            apart.inspect(|apart| apart.store(true, Relaxed));
            if inputs.len() <= 1 {
                return Ok(outcome);
            }
        }
        self.map_apart(call, inputs)
    }

    fn map_together(
        &self,
        call: &Call<'_>,
        inputs: &Packed,
        spent: Duration,
    ) -> Result<(MapOutcome, Aftermath), Stopped> {
        let request = self.request(call, inputs.len(), spent)?;
        let Answer { value, stderr, log, looked, took } = self.execute(request, |guest, store| {
            guest.call_map(store, call.operation, call.config, call.serializer.name(), packed(inputs))
        })?;
        let outcome = check_outcome(call, inputs, value).map_err(|cause| cause.stopped(stderr))?;
        Ok((outcome, Aftermath { looked, log, took }))
    }

    /// The limits are those of the whole batch.
    fn map_apart(&self, call: &Call<'_>, inputs: &Packed) -> Result<MapOutcome, Stopped> {
        let mut call = call.clone();
        let limit = call.limits.output;
        let mut spent = Duration::ZERO;
        let mut outputs = PackedBuilder::default();
        for index in 0..inputs.len() {
            let one = inputs.slice(index..index + 1);
            let (outcome, Aftermath { log, took, .. }) = self.map_together(&call, &one, spent)?;
            call.limits.log = log;
            spent += took;
            let size = outputs.byte_len() + outcome.outputs.bytes().len();
            if size as u64 > limit {
                return Err(Refusal::TooLarge { size, limit }.stopped(String::new()));
            }
            outputs.extend(&outcome.outputs);
            if let Some((_, failure)) = outcome.failure {
                return Ok(MapOutcome { outputs: outputs.build(), failure: Some((index as u32, failure)) });
            }
        }
        Ok(MapOutcome { outputs: outputs.build(), failure: None })
    }

    /// Combines the inputs to one element, from left to right, in a fresh instance. The inner error is the failure that
    /// the monoid reports, with the index of its element.
    ///
    /// ```no_run
    /// # fn example(plugin: palfrey_host::engine::Plugin) -> anyhow::Result<()> {
    /// use palfrey_host::engine::{Call, Limits};
    ///
    /// let sum = Call::new("sum", &[], Limits::default());
    /// assert_eq!(plugin.fold(&sum, &[[1], [2], [3]].into_iter().collect())?, Ok(vec![6].into()));
    /// assert_eq!(plugin.empty(&sum)?, Ok(vec![0].into()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It blocks the thread as long as the limits allow: call it within [`Engine::run`](super::Engine::run).
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn fold(&self, call: &Call<'_>, inputs: &Packed) -> Result<Result<Bytes, (u32, Failure)>, Stopped> {
        let request = self.request(call, 1, Duration::ZERO)?;
        let Answer { value, stderr, .. } = self.execute(request, |guest, store| {
            guest.call_fold(store, call.operation, call.config, call.serializer.name(), packed(inputs))
        })?;
        let checked = match value {
            Ok(element) => check_output(call, element.len()).map(|()| Ok(element.into())),
            Err(failure) => element_failure(call, inputs, failure).map(Err),
        };
        checked.map_err(|cause| cause.stopped(stderr))
    }

    /// The identity of a monoid, from a fresh instance. The inner error is the failure that the monoid reports.
    ///
    /// It blocks the thread as long as the limits allow: call it within [`Engine::run`](super::Engine::run).
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn empty(&self, call: &Call<'_>) -> Result<Result<Bytes, Failure>, Stopped> {
        let request = self.request(call, 1, Duration::ZERO)?;
        let Answer { value, stderr, .. } = self.execute(request, |guest, store| {
            guest.call_empty(store, call.operation, call.config, call.serializer.name())
        })?;
        match value {
            Ok(element) => check_output(call, element.len()).map(|()| Ok(element.into())),
            Err(failure) => Ok(Err(convert(call, 0, failure))),
        }
        .map_err(|cause: Refusal| cause.stopped(stderr))
    }

    fn request<'a>(&self, call: &'a Call<'a>, elements: usize, spent: Duration) -> Result<Request<'a>, Stopped> {
        let offsets = elements as u64 * size_of::<u32>() as u64;
        Ok(Request {
            operation: call.operation,
            config: call.config,
            attempt: call.attempt,
            limits: call.limits,
            spent,
            answer: call.limits.output.saturating_add(offsets).saturating_add(ANSWER_OVERHEAD),
            cancel: call.cancel.clone(),
            progress: call.progress.as_ref().map(Arc::clone),
            grants: self.grants_for(call.operation)?,
        })
    }

    /// What an operation is given: what it needs, all of it. It would compute something else without.
    fn grants_for(&self, operation: &str) -> Result<Grants, Stopped> {
        if let Some(need) = self.withheld(operation) {
            let message = format!("it needs `{need}`, which was not granted");
            return Err(Stopped { cause: Cause::PluginUnavailable, message, stderr: String::new() });
        }
        let needs = self.description().operation(operation).map(|operation| &operation.needs);
        Ok(needs.map_or_else(Grants::default, |needs| self.grants.only(needs)))
    }
}

/// What is known of an instance that is gone.
struct Aftermath {
    /// Whether it has seen a random number or a clock.
    looked: bool,
    /// Bytes that it might still have written to the log.
    log: u64,
    took: Duration,
}

/// An answer that is not taken.
enum Refusal {
    TooLarge { size: usize, limit: u64 },
    Contract(String),
}

impl Refusal {
    fn stopped(self, stderr: String) -> Stopped {
        let (cause, message) = match self {
            Self::TooLarge { size, limit } => (
                Cause::OutputTooLarge { limit },
                format!("it has {}; `output` is the limit to raise", size_beside(size as u64, limit)),
            ),
            Self::Contract(message) => (Cause::Contract, message),
        };
        Stopped { cause, message, stderr }
    }
}

fn packed(inputs: &Packed) -> guest::PackedParam<'_> {
    guest::PackedParam { bytes: inputs.bytes(), ends: inputs.ends() }
}

fn check_output(call: &Call<'_>, size: usize) -> Result<(), Refusal> {
    let limit = call.limits.output;
    if size as u64 > limit { Err(Refusal::TooLarge { size, limit }) } else { Ok(()) }
}

fn check_outcome(call: &Call<'_>, inputs: &Packed, outcome: guest::MapOutcome) -> Result<MapOutcome, Refusal> {
    let guest::MapOutcome { outputs: guest::PackedResult { bytes, ends }, failure } = outcome;
    check_output(call, bytes.len())?;
    let outputs = Packed::new(bytes.into(), ends)
        .map_err(|error| Refusal::Contract(format!("the outputs are malformed: {error}")))?;
    let failure = failure.map(|failure| element_failure(call, inputs, failure)).transpose()?;
    match &failure {
        None if outputs.len() != inputs.len() => {
            Err(Refusal::Contract(format!("it returned {} outputs for {} inputs", outputs.len(), inputs.len())))
        }
        Some((index, _)) if outputs.len() != *index as usize => Err(Refusal::Contract(format!(
            "it returned {} outputs and the failure of element {index}, which should be the next one",
            outputs.len()
        ))),
        _ => Ok(MapOutcome { outputs, failure }),
    }
}

fn element_failure(call: &Call<'_>, inputs: &Packed, failure: wit::ElementFailure) -> Result<(u32, Failure), Refusal> {
    let wit::ElementFailure { index, failure } = failure;
    let Some(element) = inputs.get(index as usize) else {
        return Err(Refusal::Contract(format!("it failed at element {index} of a batch of {}", inputs.len())));
    };
    Ok((index, convert(call, element.len(), failure)))
}

/// What a guest reports, within bounds.
fn convert(call: &Call<'_>, element: usize, failure: wit::Failure) -> Failure {
    let wit::Failure { kind, message, causes } = failure;
    let kind = match kind {
        wit::FailureKind::Transient(wit::TransientFailure { retry, exhausted }) => {
            FailureKind::Transient { retry: retry_strategy(retry), exhausted: fatal_strategy(exhausted) }
        }
        wit::FailureKind::Fatal(strategy) => FailureKind::Fatal(fatal_strategy(strategy)),
        wit::FailureKind::BadInput(wit::BadInput { what, position }) => {
            let config = matches!(what, wit::Undecodable::Config);
            let length = if config { call.config.len() } else { element };
            // A position behind the end helps nobody.
            FailureKind::BadInput { config, position: position.filter(|&position| position as usize <= length) }
        }
        wit::FailureKind::Unsupported => FailureKind::Unsupported,
    };
    let causes = causes.iter().take(MAX_CAUSES).map(|cause| cut(cause, MAX_CAUSE)).collect();
    Failure { kind, message: cut(&message, MAX_MESSAGE), causes }
}

fn fatal_strategy(strategy: wit::FatalStrategy) -> FatalStrategy {
    match strategy {
        wit::FatalStrategy::Terminate => FatalStrategy::Terminate,
        wit::FatalStrategy::Ignore => FatalStrategy::Ignore,
    }
}

fn retry_strategy(strategy: wit::RetryStrategy) -> RetryStrategy {
    let delay = |milliseconds| Duration::from_millis(milliseconds).min(MAX_DELAY);
    match strategy {
        wit::RetryStrategy::Never => RetryStrategy::Never,
        wit::RetryStrategy::Immediate(wit::ImmediateRetry { max_retries }) => {
            RetryStrategy::Immediate { max_retries: max_retries.min(MAX_RETRIES) }
        }
        wit::RetryStrategy::After(wit::DelayedRetry { max_retries, delay_ms }) => {
            RetryStrategy::After { max_retries: max_retries.min(MAX_RETRIES), duration: delay(delay_ms) }
        }
        wit::RetryStrategy::Exponential(wit::ExponentialRetry { max_retries, min_delay_ms, max_delay_ms }) => {
            RetryStrategy::Exponential {
                max_retries: max_retries.min(MAX_RETRIES),
                min_duration: delay(min_delay_ms),
                max_duration: delay(max_delay_ms),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn packed_result() -> impl Strategy<Value = guest::PackedResult> {
        let honest = vec(vec(any::<u8>(), 0..4), 0..6).prop_map(|elements| {
            let packed: Packed = elements.into_iter().collect();
            guest::PackedResult { bytes: packed.bytes().to_vec(), ends: packed.ends().to_vec() }
        });
        let ends = vec(prop_oneof![0..12_u32, any::<u32>()], 0..6);
        let lie = (vec(any::<u8>(), 0..12), ends).prop_map(|(bytes, ends)| guest::PackedResult { bytes, ends });
        prop_oneof![honest, lie]
    }

    fn element_failures() -> impl Strategy<Value = wit::ElementFailure> {
        let strategy = || {
            any::<bool>().prop_map(|end| if end { wit::FatalStrategy::Terminate } else { wit::FatalStrategy::Ignore })
        };
        let retry = any::<(u32, u64, u64)>().prop_map(|(max_retries, min_delay_ms, max_delay_ms)| {
            wit::RetryStrategy::Exponential(wit::ExponentialRetry { max_retries, min_delay_ms, max_delay_ms })
        });
        let kind = prop_oneof![
            Just(wit::FailureKind::Unsupported),
            strategy().prop_map(wit::FailureKind::Fatal),
            (retry, strategy()).prop_map(|(retry, exhausted)| {
                wit::FailureKind::Transient(wit::TransientFailure { retry, exhausted })
            }),
            (any::<bool>(), option::of(any::<u32>())).prop_map(|(config, position)| {
                let what = if config { wit::Undecodable::Config } else { wit::Undecodable::Element };
                wit::FailureKind::BadInput(wit::BadInput { what, position })
            }),
        ];
        let long = (".{0,8}", 0..6000_usize).prop_map(|(text, times)| text.repeat(times));
        let index = prop_oneof![0..8_u32, any::<u32>()];
        (index, kind, long, vec("[^a]{0,3}", 0..50)).prop_map(|(index, kind, message, causes)| wit::ElementFailure {
            index,
            failure: wit::Failure { kind, message, causes },
        })
    }

    proptest! {
        /// Whatever a guest returns is an outcome of this batch within the limits, or refused.
        #[test]
        fn what_a_guest_returns_is_an_outcome_of_its_batch_or_refused(
            inputs in vec(vec(any::<u8>(), 0..4), 0..6),
            outputs in packed_result(),
            failure in option::of(element_failures()),
            output in 0..10_u64,
        ) {
            let call = Call::new("anything", b"config", Limits { output, ..Limits::default() });
            let inputs: Packed = inputs.into_iter().collect();
            let Ok(outcome) = check_outcome(&call, &inputs, guest::MapOutcome { outputs, failure }) else { return Ok(()) };
            prop_assert!(outcome.outputs.bytes().len() as u64 <= output);
            prop_assert_eq!(outcome.outputs.iter().map(|element| element.len()).sum::<usize>(), outcome.outputs.bytes().len());
            match outcome.failure {
                None => prop_assert_eq!(outcome.outputs.len(), inputs.len()),
                Some((index, failure)) => {
                    prop_assert_eq!(outcome.outputs.len(), index as usize);
                    let element = inputs.get(index as usize);
                    prop_assert!(element.is_some());
                    prop_assert!(failure.message.len() <= MAX_MESSAGE + " […]".len());
                    prop_assert!(failure.causes.len() <= MAX_CAUSES);
                    match failure.kind {
                        FailureKind::Transient { retry: RetryStrategy::Exponential { max_retries, min_duration, max_duration }, .. } => {
                            prop_assert!(max_retries <= MAX_RETRIES && min_duration <= MAX_DELAY && max_duration <= MAX_DELAY);
                        }
                        FailureKind::BadInput { config, position: Some(position) } => {
                            let length = if config { call.config.len() } else { element.map_or(0, |bytes| bytes.len()) };
                            prop_assert!(position as usize <= length);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}
