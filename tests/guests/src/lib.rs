//! A plugin whose operations misbehave by name: what the engine is tested with.
//!
//! It is written against the contract alone, without the SDK, so that it can break every rule. An operation is a row of
//! `misbehave`, all of them are described, and its parameter is the config, a number in decimal digits. The description misbehaves as
//! `MODE` says, which tests change in the component's bytes.
//!
//! Build it by `cargo build --release --target wasm32-wasip2 -p palfrey-test-guests`.

#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod misbehave;
