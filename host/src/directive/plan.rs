//! Plans: the stages of a directive before anything is resolved or sent.

use std::fmt;

use bytes::Bytes;
use palfrey_sdk::{CodecError, Descriptor, Monoid, RemoteExecute, Serializer};

use super::{Element, Encoded, JobError};
use crate::{
    plugin::{ExpectedTypes, Registry, Resolved},
    task::{Apply, OperationId, ParseIdError, Stage},
};

/// An operation as a directive sees it.
pub(crate) trait PlannedOperation: Send + Sync {
    /// Its name.
    fn id(&self) -> OperationId;

    /// Its encoded value.
    fn config(&self, serializer: Serializer) -> Result<Bytes, CodecError>;

    /// What the program takes it for, and the version that it was compiled with, to be compared with what is deployed.
    /// `None` if the program knows only its name.
    fn expected(&self) -> Option<(Descriptor, &'static str)>;
}

/// What can be mapped: everything that is [`RemoteExecute`], and an [`OperationHandle`].
///
/// ```
/// use palfrey_host::directive::{Element, Functor, IndexedStream, MapStage};
///
/// fn twice<'a, T: Element + 'a>(
///     source: IndexedStream<'a, T>,
///     operation: &'a impl MapStage<Input = T, Output = T>,
/// ) -> IndexedStream<'a, T> {
///     source.map(operation).map(operation)
/// }
///
/// let quadrupled = twice(IndexedStream::from(1..=3), &arith::MultiplyBy(2));
/// ```
#[expect(private_bounds, reason = "how a plan reads an operation is not for implementing elsewhere")]
pub trait MapStage: AsPlanned {
    /// Type of the elements that go in.
    type Input;
    /// Type of the elements that come out.
    type Output;
}

/// What can be folded with: every [`Monoid`] that is [`RemoteExecute`], and an [`OperationHandle`]. It is a bound as
/// [`MapStage`] is.
///
/// ```
/// use palfrey_host::directive::{Element, Fold, FoldStage, Foldable, IndexedStream};
///
/// fn all<'a, M: FoldStage>(elements: impl Into<IndexedStream<'a, M::Elem>>, monoid: &'a M) -> Fold<'a, M::Elem>
/// where
///     M::Elem: Element + 'a,
/// {
///     elements.into().fold(monoid)
/// }
/// let product = all(1..=10, &arith::Product);
/// ```
#[expect(private_bounds, reason = "how a plan reads an operation is not for implementing elsewhere")]
pub trait FoldStage: AsPlanned {
    /// Type of the elements.
    type Elem: Element;
}

pub(crate) trait AsPlanned {
    fn as_planned(&self) -> Box<dyn PlannedOperation + '_>;
}

struct Typed<'a, Op>(&'a Op);

impl<Op: RemoteExecute> PlannedOperation for Typed<'_, Op> {
    fn id(&self) -> OperationId {
        OperationId::new(Op::PLUGIN, Op::NAME)
    }

    fn config(&self, serializer: Serializer) -> Result<Bytes, CodecError> {
        serializer.to_bytes(self.0)
    }

    fn expected(&self) -> Option<(Descriptor, &'static str)> {
        Some((Op::descriptor(), Op::VERSION))
    }
}

impl<Op: RemoteExecute> AsPlanned for Op {
    fn as_planned(&self) -> Box<dyn PlannedOperation + '_> {
        Box::new(Typed(self))
    }
}

impl<Op: RemoteExecute> MapStage for Op {
    type Input = Op::Input;
    type Output = Op::Output;
}

impl<M: Monoid + RemoteExecute> FoldStage for M {
    type Elem = M::Elem;
}

/// An operation by its ID, without its Rust types: configs, inputs and outputs are bytes in the runtime's encoding.
///
/// ```
/// use palfrey_host::directive::{Encoded, Functor, IndexedStream, OperationHandle};
///
/// let fib_at = OperationHandle::new("arith/fib-at", &[][..])?;
/// let inputs = [1_u8, 2, 3].map(|n| Encoded::from(vec![n]));
/// let directive = IndexedStream::from(inputs).map(&fib_at);
/// # Ok::<(), palfrey_host::task::ParseIdError>(())
/// ```
#[derive(Debug, Clone)]
pub struct OperationHandle {
    id: OperationId,
    config: Bytes,
}

impl OperationHandle {
    /// An operation by its ID, and its encoded value. A unit struct such as `FibAt` encodes to nothing in Postcard. The ID may
    /// say which deployment is meant: `arith/fib-at@^1.2`, `arith/fib-at@sha256:…`.
    ///
    /// # Errors
    /// If the ID is malformed. Whether the operation exists is found out when the directive runs.
    pub fn new(id: &str, config: impl Into<Bytes>) -> Result<Self, ParseIdError> {
        Ok(Self { id: id.parse()?, config: config.into() })
    }
}

impl PlannedOperation for &OperationHandle {
    fn id(&self) -> OperationId {
        self.id.clone()
    }

    fn config(&self, _: Serializer) -> Result<Bytes, CodecError> {
        Ok(self.config.clone())
    }

    fn expected(&self) -> Option<(Descriptor, &'static str)> {
        None
    }
}

impl AsPlanned for OperationHandle {
    fn as_planned(&self) -> Box<dyn PlannedOperation + '_> {
        Box::new(self)
    }
}

impl MapStage for OperationHandle {
    type Input = Encoded;
    type Output = Encoded;
}

impl FoldStage for OperationHandle {
    type Elem = Encoded;
}

/// The stages of a directive.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    stages: Vec<(Box<dyn PlannedOperation + 'a>, Apply)>,
}

impl<'a> Plan<'a> {
    pub(crate) fn push(&mut self, stage: &'a (impl AsPlanned + ?Sized), apply: Apply) {
        self.stages.push((stage.as_planned(), apply));
    }

    /// Pins every stage to what is deployed now. Later deployments do not change a job under way.
    pub(crate) fn resolve(&self, registry: &Registry, serializer: Serializer) -> Result<Pinned, JobError> {
        let mut pinned = Pinned { stages: Vec::new(), pure: true };
        let mut before: Option<Resolved> = None;
        for (operation, apply) in &self.stages {
            let (stage, resolved) = resolve(&**operation, *apply, registry, serializer)?;
            if let Some(before) = &before {
                resolved.check_takes(*apply, before)?;
            }
            pinned.stages.push(stage);
            pinned.pure &= resolved.descriptor.is_pure();
            before = Some(resolved);
        }
        Ok(pinned)
    }
}

/// A plan that knows what executes it.
pub(crate) struct Pinned {
    pub(crate) stages: Vec<Stage>,
    /// Whether all stages [are](crate::engine::Descriptor::is_pure).
    pub(crate) pure: bool,
}

/// Pins an operation to what is deployed now, and checks that it is what the program takes it for.
fn resolve(
    operation: &dyn PlannedOperation,
    apply: Apply,
    registry: &Registry,
    serializer: Serializer,
) -> Result<(Stage, Resolved), JobError> {
    let id = operation.id();
    let resolved = pin(&id, operation.expected(), apply, registry, serializer)?;
    let config = operation
        .config(serializer)
        .map_err(|source| JobError::Encode { what: format!("the config of {id}"), source })?;
    Ok((Stage { operation: id, digest: resolved.digest, config, apply }, resolved))
}

/// A stage that maps an operation whose value is not known yet: its config is empty.
pub(crate) fn resolve_type<Op: RemoteExecute>(registry: &Registry, serializer: Serializer) -> Result<Stage, JobError> {
    let operation = OperationId::new(Op::PLUGIN, Op::NAME);
    let digest = pin(&operation, Some((Op::descriptor(), Op::VERSION)), Apply::Map, registry, serializer)?.digest;
    Ok(Stage { operation, digest, config: Bytes::new(), apply: Apply::Map })
}

fn pin(
    id: &OperationId,
    expected: Option<(Descriptor, &'static str)>,
    apply: Apply,
    registry: &Registry,
    serializer: Serializer,
) -> Result<Resolved, JobError> {
    let resolved = registry.resolve(id)?;
    if let Some((expected, version)) = expected {
        resolved.check_schemas(&ExpectedTypes {
            version,
            config: expected.config_schema.as_deref(),
            input: expected.input_schema.as_deref(),
            output: expected.output_schema.as_deref(),
        })?;
    }
    if apply == Apply::Fold {
        resolved.check_monoid()?;
    }
    resolved.check_encoding(serializer)?;
    Ok(resolved)
}

impl fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = self.stages.iter().map(|(operation, apply)| (operation.id().to_string(), apply));
        f.debug_list().entries(stages).finish()
    }
}
