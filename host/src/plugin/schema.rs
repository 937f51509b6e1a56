//! Schemas for people, and whether two of them mean the same bytes.
//!
//! A schema is the JSON text of a [Postcard schema](postcard_schema::schema::owned::OwnedNamedType). A plugin in another
//! language may write what it likes: text that is none is compared and shown as it is.

use postcard_schema::schema::owned::{
    OwnedDataModelType as Type, OwnedDataModelVariant as Shape, OwnedNamedType as Named, OwnedNamedValue as Field,
    OwnedNamedVariant as Variant,
};

/// Whether values of one type read as values of the other, in every encoding.
///
/// Names of fields and variants count, since self-describing encodings carry them. Names of types do not: a `BTreeMap`
/// and a `HashMap` are the same bytes.
///
/// ```
/// use palfrey_host::plugin::schema;
///
/// assert!(schema::same(r#"{"name":"u64","ty":"U64"}"#, r#"{"name":"Count","ty":"U64"}"#));
/// assert!(!schema::same(r#"{"name":"u64","ty":"U64"}"#, r#"{"name":"u32","ty":"U32"}"#));
/// ```
pub fn same(one: &str, other: &str) -> bool {
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => same_type(&one.ty, &other.ty),
        _ => one == other,
    }
}

/// A schema in one line of Rust-like notation: `{ min: u64, tags: Vec<String> }`.
///
/// ```
/// use palfrey_host::plugin::schema;
/// use palfrey_sdk::RemoteExecute;
///
/// let pair = arith::Divide::descriptor().input_schema.expect("tuples have a schema");
/// assert_eq!(schema::inline(&pair), "(u64, u64)");
/// ```
pub fn inline(schema: &str) -> String {
    parse(schema).map_or_else(|| schema.to_owned(), |named| type_expression(&named))
}

/// As [`inline`], cut where an error message would become a page.
pub(super) fn brief(schema: &str) -> String {
    const LONGEST: usize = 300;
    let text = inline(schema);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// As [`inline`] where that fits into a line of 100 characters behind `indent` others, and otherwise with a line for each
/// field and variant.
///
/// ```
/// use palfrey_host::plugin::schema;
///
/// let pair = r#"{"name":"Pair","ty":{"Struct":[
///     {"name":"left","ty":{"name":"u64","ty":"U64"}},
///     {"name":"right","ty":{"name":"u64","ty":"U64"}}
/// ]}}"#;
/// assert_eq!(schema::indented(pair, 0), "Pair { left: u64, right: u64 }");
/// assert_eq!(schema::indented(pair, 80).lines().count(), 4);
/// ```
pub fn indented(schema: &str, indent: usize) -> String {
    parse(schema).map_or_else(|| schema.to_owned(), |named| lines(&named, indent))
}

/// Of a pair of values of one type.
pub(super) fn pair_of(schema: &str) -> String {
    format!(r#"{{"name":"pair","ty":{{"Tuple":[{schema},{schema}]}}}}"#)
}

fn parse(schema: &str) -> Option<Named> {
    serde_json::from_str(schema).ok()
}

fn same_type(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Option(one), Type::Option(other))
        | (Type::Seq(one), Type::Seq(other))
        | (Type::NewtypeStruct(one), Type::NewtypeStruct(other)) => same_type(&one.ty, &other.ty),
        (Type::Tuple(one), Type::Tuple(other)) | (Type::TupleStruct(one), Type::TupleStruct(other)) => {
            same_list(one, other, |one, other| same_type(&one.ty, &other.ty))
        }
        (Type::Map { key, val }, Type::Map { key: other_key, val: other_val }) => {
            same_type(&key.ty, &other_key.ty) && same_type(&val.ty, &other_val.ty)
        }
        (Type::Struct(one), Type::Struct(other)) => same_list(one, other, same_field),
        (Type::Enum(one), Type::Enum(other)) => same_list(one, other, |one, other| {
            one.name == other.name
                && match (&one.ty, &other.ty) {
                    (Shape::UnitVariant, Shape::UnitVariant) => true,
                    (Shape::NewtypeVariant(one), Shape::NewtypeVariant(other)) => same_type(&one.ty, &other.ty),
                    (Shape::TupleVariant(one), Shape::TupleVariant(other)) => {
                        same_list(one, other, |one, other| same_type(&one.ty, &other.ty))
                    }
                    (Shape::StructVariant(one), Shape::StructVariant(other)) => same_list(one, other, same_field),
                    _ => false,
                }
        }),
        // What is left holds no other types.
        (one, other) => one == other,
    }
}

fn same_field(one: &Field, other: &Field) -> bool {
    one.name == other.name && same_type(&one.ty.ty, &other.ty.ty)
}

fn same_list<T>(one: &[T], other: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
}

fn type_expression(named: &Named) -> String {
    match &named.ty {
        Type::Bool => "bool".into(),
        Type::I8 => "i8".into(),
        Type::U8 => "u8".into(),
        Type::I16 => "i16".into(),
        Type::I32 => "i32".into(),
        Type::I64 => "i64".into(),
        Type::I128 => "i128".into(),
        Type::U16 => "u16".into(),
        Type::U32 => "u32".into(),
        Type::U64 => "u64".into(),
        Type::U128 => "u128".into(),
        Type::Usize => "usize".into(),
        Type::Isize => "isize".into(),
        Type::F32 => "f32".into(),
        Type::F64 => "f64".into(),
        Type::Char => "char".into(),
        Type::String => "String".into(),
        Type::ByteArray => "Bytes".into(),
        Type::Unit => "()".into(),
        Type::Schema => "Schema".into(),
        Type::UnitStruct => named.name.clone(),
        Type::NewtypeStruct(inner) => format!("{}({})", named.name, type_expression(inner)),
        Type::TupleStruct(items) => format!("{}({})", named.name, list(items)),
        Type::Struct(fields) => format!("{} {}", named.name, body(fields)),
        Type::Option(inner) => format!("Option<{}>", type_expression(inner)),
        Type::Seq(inner) => format!("Vec<{}>", type_expression(inner)),
        Type::Map { key, val } => format!("Map<{}, {}>", type_expression(key), type_expression(val)),
        Type::Tuple(items) => match items.split_first() {
            Some((first, rest)) if items.len() > 3 && rest.iter().all(|item| item == first) => {
                format!("[{}; {}]", type_expression(first), items.len())
            }
            _ => format!("({})", list(items)),
        },
        Type::Enum(variants) => {
            format!("{} {{ {} }}", named.name, variants.iter().map(variant).collect::<Vec<_>>().join(" | "))
        }
    }
}

fn lines(named: &Named, indent: usize) -> String {
    const WIDTH: usize = 100;
    let inline = type_expression(named);
    if indent + inline.len() <= WIDTH {
        return inline;
    }
    let inner = indent + 2;
    let pad = " ".repeat(inner);
    let items: Vec<_> = match &named.ty {
        Type::Struct(fields) => {
            fields.iter().map(|field| format!("{pad}{}: {},\n", field.name, lines(&field.ty, inner))).collect()
        }
        Type::Enum(variants) => variants.iter().map(|it| format!("{pad}| {}\n", variant(it))).collect(),
        Type::Option(inner) => return format!("Option<{}>", lines(inner, indent)),
        Type::Seq(inner) => return format!("Vec<{}>", lines(inner, indent)),
        _ => return inline,
    };
    format!("{} {{\n{}{}}}", named.name, items.concat(), " ".repeat(indent))
}

fn list(items: &[Named]) -> String {
    items.iter().map(type_expression).collect::<Vec<_>>().join(", ")
}

fn body(fields: &[Field]) -> String {
    let fields: Vec<_> = fields.iter().map(|field| format!("{}: {}", field.name, type_expression(&field.ty))).collect();
    if fields.is_empty() { "{}".into() } else { format!("{{ {} }}", fields.join(", ")) }
}

fn variant(Variant { name, ty }: &Variant) -> String {
    match ty {
        Shape::UnitVariant => name.clone(),
        Shape::NewtypeVariant(inner) => format!("{name}({})", type_expression(inner)),
        Shape::TupleVariant(items) => format!("{name}({})", list(items)),
        Shape::StructVariant(fields) => format!("{name} {}", body(fields)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use postcard_schema::Schema;

    use super::*;

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    enum Choice {
        Nothing,
        One(u8),
        Two(u8, String),
        Named { low: u64, high: Option<f32> },
    }

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Job {
        tags: Vec<String>,
        counts: BTreeMap<String, u64>,
        digest: [u8; 32],
    }

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Renamed {
        tags: Vec<String>,
        counts: HashMap<String, u64>,
        digest: [u8; 32],
    }

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct OtherField {
        labels: Vec<String>,
        counts: HashMap<String, u64>,
        digest: [u8; 32],
    }

    fn json<T: Schema + ?Sized>() -> String {
        serde_json::to_string(T::SCHEMA).unwrap()
    }

    #[test]
    fn schemas_are_shown_as_rust_types() {
        assert_eq!(inline(&json::<u64>()), "u64");
        assert_eq!(inline(&json::<(u64, Vec<u8>)>()), "(u64, Vec<u8>)");
        assert_eq!(inline(&json::<[u8; 32]>()), "[u8; 32]");
        assert_eq!(inline(&json::<Job>()), "Job { tags: Vec<String>, counts: Map<String, u64>, digest: [u8; 32] }");
        assert_eq!(
            inline(&json::<Choice>()),
            "Choice { Nothing | One(u8) | Two(u8, String) | Named { low: u64, high: Option<f32> } }"
        );
    }

    #[test]
    fn a_long_schema_gets_a_line_for_each_field_and_variant() {
        assert_eq!(indented(&json::<Job>(), 4), inline(&json::<Job>()));
        let lines = "Job {
                                                            tags: Vec<String>,
                                                            counts: Map<String, u64>,
                                                            digest: [u8; 32],
                                                          }";
        assert_eq!(indented(&json::<Job>(), 58), lines);
        let choice = indented(&json::<Vec<Choice>>(), 60);
        assert!(choice.starts_with("Vec<Choice {\n"), "{choice}");
        assert!(
            choice.contains("\n                                                              | One(u8)\n"),
            "{choice}"
        );
        assert!(choice.ends_with("}>"), "{choice}");
    }

    #[test]
    fn an_error_is_no_page() {
        let long = json::<[Job; 40]>().replace("tags", &"t".repeat(400));
        assert_eq!(brief(&long).chars().count(), 301);
        assert_eq!(brief(&json::<u64>()), "u64");
    }

    #[test]
    fn names_of_types_do_not_count_and_names_of_fields_do() {
        assert!(same(&json::<Job>(), &json::<Renamed>()));
        assert!(!same(&json::<Job>(), &json::<OtherField>()));
        assert!(!same(&json::<u32>(), &json::<u64>()));
        assert!(!same(&json::<(u32, u32)>(), &json::<(u32, u32, u32)>()));
        assert!(same(&json::<Choice>(), &json::<Choice>()));
    }

    #[test]
    fn a_schema_of_another_kind_is_compared_and_shown_as_text() {
        assert!(same("{\"type\": \"number\"}", "{\"type\": \"number\"}"));
        assert!(!same("{\"type\": \"number\"}", &json::<u64>()));
        assert_eq!(inline("{\"type\": \"number\"}"), "{\"type\": \"number\"}");
    }
}
