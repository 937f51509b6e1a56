//! Palfrey: a distributed task system whose workers never have to be rebuilt.
//!
//! A program states a computation as a directive, and workers execute it, in this process or on other machines. What workers
//! can do is written with [`palfrey_sdk`], compiled to a WebAssembly component, and deployed while they run. This crate is for
//! everybody else: the library for programs and workers, and the binary `palfrey` for operators.
//!
//! ```no_run
//! use arith::{FibAt, Sum};
//! use palfrey_host::{Runtime, directive::*};
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     // With all defaults it needs nothing installed: the workers are in this process.
//!     let runtime = Runtime::in_memory().await?;
//!     runtime.deploy(std::fs::read("target/wasm32-wasip2/release/arith.wasm")?).await?;
//!
//!     let numbers = IndexedStream::from(1..=10).map(&FibAt).run(&runtime).await?;
//!     assert_eq!(numbers.into_values_sorted().await?, [1, 1, 2, 3, 5, 8, 13, 21, 34, 55]);
//!
//!     let sum = IndexedStream::from(1..=10).map(&FibAt).fold(&Sum).run(&runtime).await?;
//!     assert_eq!(sum, 143);
//!     Ok(runtime.close().await?)
//! }
//! ```
//!
//! The program depends on the crate of the operations, here `arith`, as on any other; so the compiler checks that inputs and
//! outputs fit together. The component is built from the same source by `cargo build --release --target wasm32-wasip2`.
//!
//! # Where to start
//!
//! | to | start with |
//! |---|---|
//! | compute something | [`directive`]: [`IndexedStream`](directive::IndexedStream) is the source, [`JobOptions`](directive::JobOptions) what else can be asked |
//! | connect to a broker, or choose limits | [`Config`], of which every flag is also an environment variable |
//! | react to failures | [`JobError`], and [`Cause`](task::Cause) for what happened on a worker |
//! | deploy, roll back, or see what is deployed | [`Runtime::deploy`] and [`Registry`](plugin::Registry) |
//! | see which workers and jobs there are, cancel and drain them | [`Runtime::survey`], [`Runtime::cancel`], [`Runtime::drain`] |
//! | look at tasks that could not be processed | [`Runtime::dead_letters`] |
//! | call an operation without its Rust types | [`Runtime::call`] and [`OperationHandle`](directive::OperationHandle) |
//! | write a directive of your own | [`Runtime::lease_coordinated_task_channel`] |
//! | run workers within a program of your own | [`WorkerRuntime`] |
//! | execute a component without tasks and brokers | [`engine`] |
//! | speak to another broker | [`queue::Connection`] |
//!
//! # What can be relied on
//!
//! A worker acknowledges a task only after the broker has confirmed its result: what dies in between is executed again, and the
//! first result of each task counts. A job pins what it executes when it starts: no deployment changes it. An operation is
//! granted nothing, and is a function of its bytes on every machine.
//!
//! # Coming from Paladin
//!
//! The names are those of [Paladin](https://docs.rs/paladin-core), and so is most of what they mean. What differs:
//!
//! | in Paladin | here |
//! |---|---|
//! | workers are built with the operations, `register()` and its marker go to `from_config` | workers register nothing; `registry!(FibAt, Sum)` makes a component of the crate, which is [deployed](Runtime::deploy) |
//! | `Literal(5)`, and `run` gives a `Literal` | [`Literal::new(5)`](directive::Literal::new), and `run` gives the value |
//! | `into_values_sorted` gives an iterator | [it](directive::Results::into_values_sorted) gives a `Vec` |
//! | `try_from_into_iterator` | [`IndexedStream::from_fallible_stream`](directive::IndexedStream::from_fallible_stream) |
//! | `max_retries: NonZeroU32`, and none in `RetryStrategy::Exponential` | [a plain `u32`](palfrey_sdk::RetryStrategy), in `Exponential` as well |
//! | `FatalError::from_str(message, strategy)` | [`FatalError::msg(message)`](palfrey_sdk::FatalError::msg)`.with_strategy(strategy)` |
//! | `TransientError::from_str(message, retry, fatal)` | [`TransientError::msg(message)`](palfrey_sdk::TransientError::msg)`.with_retry(retry).with_exhausted(fatal)` |
//! | a job with a failure that is ignored waits for its result | the element [has none](palfrey_sdk::FatalStrategy::Ignore), and the job goes on |
//! | `config::Runtime`, AMQP by default | [`config::Transport`], in memory by default |
//! | `Config::num_workers` | [`Config::workers`], which share [`Config::slots`] threads |
//! | `WorkerIpc::ExecutionError` | [`WorkerIpc::Terminate`](worker::WorkerIpc::Terminate), which every worker hears |
//! | `main_loop()` | [`main_loop(shutdown)`](WorkerRuntime::main_loop), which finishes what is under way |
//! | `coordinated_channel` | [`channel::coordinated`] |
//! | the results of a channel end when its sender is dropped and all are acknowledged | so they do, and at once when a task has [failed for good](runtime::TaskResults) |
//! | `acker.ack()` borrows | [it](queue::Acker::ack) consumes, so that nothing is acknowledged twice |
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod channel;
pub mod config;
mod connect;
pub mod dead_letters;
pub mod directive;
pub mod engine;
#[cfg(debug_assertions)]
pub mod failpoint;
pub mod plugin;
pub mod presence;
pub mod queue;
pub mod runtime;
pub mod secret;
mod sync;
pub mod task;
pub mod worker;

/// Target of the events that tell where the time of each task goes, at level TRACE: see docs/PROFILING.md.
pub(crate) const TIMES: &str = "palfrey::times";

/// As such an event has it.
pub(crate) fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub use config::Config;
pub use connect::ConnectError;
pub use directive::JobError;
pub use runtime::Runtime;
pub use worker::WorkerRuntime;
