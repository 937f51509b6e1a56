//! What an operation can ask and tell the worker that executes it.
//!
//! Outside of a component there is no worker: nobody cancels, every execution is the first one, and reports go nowhere.
//! So an operation can be tested as a plain function.
//!
//! Messages are written with `tracing`; in a component they arrive in the worker's log, under the task's span.
//!
//! ```
//! use palfrey_sdk::{FatalError, Result, context};
//!
//! fn count_primes(limit: u64) -> Result<u64> {
//!     let mut primes = 0;
//!     for number in 2..limit {
//!         if number % 1000 == 0 {
//!             if context::cancelled() {
//!                 return Err(FatalError::msg("nobody wants to know any more").into());
//!             }
//!             context::progress_in(number, limit, "numbers");
//!         }
//!         primes += u64::from((2..number).take_while(|d| d * d <= number).all(|d| number % d != 0));
//!     }
//!     Ok(primes)
//! }
//!
//! assert_eq!(count_primes(2000).ok(), Some(303));
//! ```

/// True once nobody wants the result any more: the job was aborted, failed elsewhere, or ran out of time.
///
/// An operation that asks can stop early, with whatever error it likes. One that does not is stopped by the worker.
///
/// ```
/// assert!(!palfrey_sdk::context::cancelled());
/// ```
pub fn cancelled() -> bool {
    #[cfg(target_family = "wasm")]
    return crate::component::cancelled();
    #[cfg(not(target_family = "wasm"))]
    false
}

/// Which try this is: `0` for the first execution of an element, one more for each retry after a
/// [transient](crate::TransientError) failure.
///
/// ```
/// assert_eq!(palfrey_sdk::context::attempt(), 0);
/// ```
pub fn attempt() -> u32 {
    #[cfg(target_family = "wasm")]
    return crate::component::attempt();
    #[cfg(not(target_family = "wasm"))]
    0
}

/// Reports how far the operation is with the element under way. A `total` of zero means that it is not known.
///
/// ```
/// use palfrey_sdk::context;
///
/// for row in 0..3 {
///     // What the operation is for.
///     context::progress(row + 1, 3);
/// }
/// ```
pub fn progress(done: u64, total: u64) {
    progress_in(done, total, "");
}

/// Reports how far the operation is, counted in `unit`: a plural noun such as `rows` or `bytes`.
///
/// Reports may be dropped: the last one of a short period wins.
///
/// ```
/// use palfrey_sdk::context;
///
/// // A download that does not know how large the file is.
/// context::progress_in(4096, 0, "bytes");
/// ```
pub fn progress_in(done: u64, total: u64, unit: &str) {
    #[cfg(target_family = "wasm")]
    crate::component::progress(done, total, unit);
    #[cfg(not(target_family = "wasm"))]
    let _ = (done, total, unit);
}
