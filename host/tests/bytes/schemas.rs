//! Schemas of types, which components bring and anybody may have written.

use palfrey_host::plugin::schema;

use crate::{
    hostile::{hostile, within},
    samples::SCHEMA,
};

pub(crate) fn attack(input: &[u8]) {
    let bytes = hostile(&[SCHEMA.into()], input);
    let text = String::from_utf8_lossy(&bytes);
    // An empty list of two bytes is a value of JSON in memory.
    within(256, &bytes, || {
        assert!(schema::same(&text, &text));
        _ = schema::same(&text, SCHEMA);
        // Shown, it does not grow beyond its text by more than an indentation a line.
        assert!(schema::inline(&text).len() <= 4 * text.len() + 64);
        _ = schema::indented(&text, 70);
    });
}
