//! What a plugin tells about an operation.

use crate::Serializer;

/// What a plugin tells about one of its operations: [`RemoteExecute::descriptor`](crate::RemoteExecute::descriptor).
///
/// ```
/// use palfrey_sdk::{Operation, RemoteExecute, Result};
/// # use serde::{Deserialize, Serialize};
///
/// /// Doubles a number.
/// #[derive(Serialize, Deserialize, RemoteExecute)]
/// struct Double;
/// # impl Operation for Double {
/// #     type Input = u32;
/// #     type Output = u64;
/// #     fn execute(&self, number: u32) -> Result<u64> { Ok(u64::from(number) * 2) }
/// # }
///
/// let descriptor = Double::descriptor();
/// assert_eq!((descriptor.name, descriptor.summary), ("double", "Doubles a number."));
/// assert_eq!(descriptor.output_schema.as_deref(), Some(r#"{"name":"u64","ty":"U64"}"#));
/// assert_eq!(descriptor.config_schema, None, "it does not derive `Schema`");
/// ```
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
    /// What it needs from outside of the sandbox, by name.
    pub needs: &'static [&'static str],
}

/// What can be done with an operation.
///
/// ```
/// use palfrey_sdk::{Kind, Monoid, RemoteExecute, Result};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, RemoteExecute)]
/// struct Largest;
///
/// // What implements `Monoid` is one; what implements `Operation` can only be mapped.
/// impl Monoid for Largest {
///     // ...
/// #     type Elem = u8;
/// #     fn empty(&self) -> u8 { 0 }
/// #     fn combine(&self, left: u8, right: u8) -> Result<u8> { Ok(left.max(right)) }
/// }
///
/// assert_eq!(Largest::descriptor().kind, Kind::Monoid);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It maps one element to another.
    Operation,
    /// It combines two elements to one. It can be folded, and also mapped over pairs.
    Monoid,
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{Monoid, Operation, RemoteExecute, Result, Schema};

    #[derive(Serialize, Deserialize, Schema)]
    #[postcard(crate = crate::postcard_schema)]
    struct Point {
        x: i32,
    }

    #[derive(Serialize, Deserialize)]
    struct Opaque;

    /// Makes a point
    /// opaque.
    ///
    /// Nobody knows why.
    #[derive(Serialize, Deserialize, RemoteExecute)]
    struct HidePoint;

    impl Operation for HidePoint {
        type Input = Point;
        type Output = Opaque;

        fn execute(&self, _: Point) -> Result<Opaque> {
            Ok(Opaque)
        }
    }

    #[derive(Serialize, Deserialize, Schema, RemoteExecute)]
    #[postcard(crate = crate::postcard_schema)]
    #[palfrey(name = "max", summary = "The larger one.", needs("clocks", "env:CEILING"))]
    struct Maximum;

    impl Monoid for Maximum {
        type Elem = u16;

        fn empty(&self) -> u16 {
            0
        }

        fn combine(&self, left: u16, right: u16) -> Result<u16> {
            Ok(left.max(right))
        }
    }

    #[test]
    fn types_with_a_schema_have_it_and_others_have_none() {
        let point = r#"{"name":"Point","ty":{"Struct":[{"name":"x","ty":{"name":"i32","ty":"I32"}}]}}"#;
        let expected = Descriptor {
            name: "hide-point",
            kind: Kind::Operation,
            summary: "Makes a point opaque.",
            encodings: &Serializer::ALL,
            config_schema: None,
            input_schema: Some(point.to_owned()),
            output_schema: None,
            needs: &[],
        };
        assert_eq!(HidePoint::descriptor(), expected);
        assert_eq!((HidePoint::PLUGIN, HidePoint::VERSION), ("palfrey-sdk", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_monoid_is_recognised_and_described_by_its_element() {
        let expected = Descriptor {
            name: "max",
            kind: Kind::Monoid,
            summary: "The larger one.",
            encodings: &Serializer::ALL,
            config_schema: Some(r#"{"name":"Maximum","ty":"UnitStruct"}"#.to_owned()),
            input_schema: Some(r#"{"name":"u16","ty":"U16"}"#.to_owned()),
            output_schema: Some(r#"{"name":"u16","ty":"U16"}"#.to_owned()),
            needs: &["clocks", "env:CEILING"],
        };
        assert_eq!(Maximum::descriptor(), expected);
    }

    #[test]
    fn generic_code_describes_without_knowing_schemas() {
        fn name_of<T: RemoteExecute>() -> &'static str {
            T::descriptor().name
        }
        assert_eq!(name_of::<Maximum>(), "max");
    }
}
