//! The traits that authors implement.

use crate::{Descriptor, Result, Serializable};

/// A value that can be executed: it maps an input to an output.
///
/// The value itself is the operation's *config*: it is encoded, travels with each task, and is decoded before the first
/// element of a batch. What it does should depend on nothing but the config and the input. Then a task can be retried,
/// run twice, cached and replayed.
///
/// ```
/// use palfrey_sdk::{Operation, RemoteExecute, Result};
/// use serde::{Deserialize, Serialize};
///
/// /// Multiplies by a constant.
/// #[derive(Serialize, Deserialize, RemoteExecute)]
/// pub struct MultiplyBy(pub u64);
///
/// impl Operation for MultiplyBy {
///     type Input = u64;
///     type Output = u64;
///
///     fn execute(&self, number: u64) -> Result<u64> {
///         Ok(self.0 * number)
///     }
/// }
///
/// assert_eq!(MultiplyBy(6).execute(7).ok(), Some(42));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an operation",
    label = "this type cannot be executed",
    note = "implement `palfrey_sdk::Operation` for it, or `palfrey_sdk::Monoid` if it combines two elements"
)]
pub trait Operation: Send + Sync {
    /// What it is applied to.
    type Input: Serializable;
    /// What it makes of it.
    type Output: Serializable;

    /// Applies it to one input.
    ///
    /// # Errors
    /// Whatever the operation reports: see [`OperationError`](crate::OperationError).
    fn execute(&self, input: Self::Input) -> Result<Self::Output>;
}

/// An operation on pairs that is associative and has an identity. It need not be commutative.
///
/// It can be folded over any number of elements; partial results are combined as contiguous ranges, so the order of the
/// elements is kept. It is also an [`Operation`] on pairs, so that it can be mapped.
///
/// ```
/// use palfrey_sdk::{Monoid, Operation, RemoteExecute, Result};
/// use serde::{Deserialize, Serialize};
///
/// /// Joins texts.
/// #[derive(Serialize, Deserialize, RemoteExecute)]
/// pub struct Concat;
///
/// impl Monoid for Concat {
///     type Elem = String;
///
///     fn empty(&self) -> String {
///         String::new()
///     }
///
///     fn combine(&self, left: String, right: String) -> Result<String> {
///         Ok(left + &right)
///     }
/// }
///
/// assert_eq!(Concat.execute(("pal".to_owned(), "frey".to_owned())).ok().as_deref(), Some("palfrey"));
/// ```
pub trait Monoid: Send + Sync {
    /// What it combines.
    type Elem: Serializable;

    /// The identity: combining it with an element, on either side, is that element.
    fn empty(&self) -> Self::Elem;

    /// Combines two elements that are neighbours, in their order.
    ///
    /// # Errors
    /// Whatever the monoid reports: see [`OperationError`](crate::OperationError).
    fn combine(&self, left: Self::Elem, right: Self::Elem) -> Result<Self::Elem>;
}

impl<T: Monoid> Operation for T {
    type Input = (T::Elem, T::Elem);
    type Output = T::Elem;

    fn execute(&self, (left, right): Self::Input) -> Result<T::Elem> {
        self.combine(left, right)
    }
}

/// An operation that workers can execute, because a plugin has it.
///
/// It is derived. The plugin's name and version are those of the deriving crate. The operation's name is the type's in
/// kebab-case, and its summary the first paragraph of its documentation, unless the attribute says otherwise:
///
/// ```
/// use palfrey_sdk::{Operation, RemoteExecute, Result};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, RemoteExecute)]
/// #[palfrey(name = "length", summary = "Counts the bytes of a text.")]
/// pub struct ByteLength;
///
/// impl Operation for ByteLength {
///     type Input = String;
///     type Output = usize;
///
///     fn execute(&self, text: String) -> Result<usize> {
///         Ok(text.len())
///     }
/// }
///
/// assert_eq!(ByteLength::NAME, "length");
/// assert_eq!(ByteLength::descriptor().input_schema.as_deref(), Some(r#"{"name":"String","ty":"String"}"#));
/// ```
///
/// # What an operation needs
///
/// Nothing is there by default: see [the crate](crate#what-it-does-not-do). An operation that cannot do without names what it needs:
///
/// - `clocks`: the time, by [`SystemTime`](std::time::SystemTime) and [`Instant`](std::time::Instant). Sleeping takes no time even so;
/// - `entropy`: random numbers that nobody can foresee;
/// - `env:NAME`: an environment value of the worker;
/// - `dir:/path`: a directory of the worker, to read from under this path.
///
/// Whoever deploys the plugin has to grant it (`palfrey deploy --grant clocks`), and only workers that allow it execute the
/// operation (`palfrey worker --allow clocks`). Its results are not a function of its bytes any more.
///
/// ```
/// use palfrey_sdk::{FatalError, Operation, RemoteExecute, Result};
/// use serde::{Deserialize, Serialize};
///
/// /// Looks a word up in the dictionary of the worker.
/// #[derive(Serialize, Deserialize, RemoteExecute)]
/// #[palfrey(needs("dir:/dictionary", "env:LANG"))]
/// pub struct LookUp;
///
/// impl Operation for LookUp {
///     type Input = String;
///     type Output = String;
///
///     fn execute(&self, word: String) -> Result<String> {
///         let language = std::env::var("LANG").map_err(FatalError::new)?;
///         Ok(std::fs::read_to_string(format!("/dictionary/{language}/{word}")).map_err(FatalError::new)?)
///     }
/// }
///
/// assert_eq!(LookUp::descriptor().needs, ["dir:/dictionary", "env:LANG"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be executed by workers",
    label = "this type is not `RemoteExecute`",
    note = "write `#[derive(Serialize, Deserialize, RemoteExecute)]` above it, and implement `Operation` or `Monoid`"
)]
pub trait RemoteExecute: Operation + Serializable {
    /// Name of the plugin: that of the package.
    const PLUGIN: &'static str;
    /// Version of the plugin: that of the package.
    const VERSION: &'static str;
    /// Name of the operation within the plugin.
    const NAME: &'static str;
    /// One line for people. May be empty.
    const SUMMARY: &'static str;

    /// What the plugin tells about the operation. A program that compares it with what the deployed plugin tells knows
    /// whether both mean the same by the same bytes.
    fn descriptor() -> Descriptor;
}
