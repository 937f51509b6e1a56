//! What a plugin tells about an operation.

use crate::Serializer;

/// What a plugin tells about one of its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name, unique within the plugin.
    pub name: &'static str,
    /// What can be done with it.
    pub kind: Kind,
    /// One line for people.
    pub summary: &'static str,
    /// The encodings it understands.
    pub encodings: &'static [Serializer],
    /// Schema of the config: JSON text, as the Postcard schema of the type describes it. `None` if the type has none.
    pub config_schema: Option<String>,
    /// Schema of an input; of one element, not of the pair, for a monoid.
    pub input_schema: Option<String>,
    /// Schema of an output.
    pub output_schema: Option<String>,
}

/// What can be done with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It maps one element to another.
    Operation,
    /// It combines two elements to one. It can be folded, and also mapped over pairs.
    Monoid,
}
