//! Provisional: replaced by the engine.
use palfrey_sdk::Serializer;
use serde::{Deserialize, Serialize};

/// A plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Name.
    pub name: String,
    /// Version.
    pub version: semver::Version,
    /// Operations.
    pub operations: Vec<Descriptor>,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: Kind,
    /// Summary.
    pub summary: String,
    /// Encodings.
    pub encodings: Vec<Serializer>,
    /// Schema.
    pub config_schema: Option<String>,
    /// Schema.
    pub input_schema: Option<String>,
    /// Schema.
    pub output_schema: Option<String>,
}

/// Kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Maps.
    Operation,
    /// Folds.
    Monoid,
}
