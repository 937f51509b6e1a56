//! What the code of macros uses. Nothing here is promised to anybody else.

pub use crate::{
    batch::Entry,
    probe::{NotMonoid, Probe, WithoutSchema},
    registry::check,
};

#[cfg(target_family = "wasm")]
pub use crate::component::{Plugin, bindings};
