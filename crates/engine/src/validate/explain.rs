//! From the validator's error to a violation that tells where and why, and never what the client sent.

use std::fmt::Write as _;

use ahash::AHashSet;
use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use super::{Violation, patterns};

/// Property names that the schemas spell out. Any other name is the client's and is shown only as its length.
pub(super) struct DeclaredNames(AHashSet<Box<str>>);

impl DeclaredNames {
    pub(super) fn of<'a>(schemas: impl Iterator<Item = &'a Value>) -> DeclaredNames {
        let mut names = AHashSet::new();
        schemas.for_each(|schema| collect_names(schema, &mut names));
        DeclaredNames(names)
    }

    fn show(&self, name: &str) -> String {
        if self.0.contains(name) {
            format!("`{name}`")
        } else {
            format!("a name of {}", characters(name.chars().count()))
        }
    }
}

fn collect_names(schema: &Value, names: &mut AHashSet<Box<str>>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
        Value::Object(members) => {
            for (keyword, value) in members {
                if let ("properties", Value::Object(properties)) = (keyword.as_str(), value) {
                    names.extend(properties.keys().map(|name| name.as_str().into()));
                }
                collect_names(value, names);
            }
        }
        _ => {}
    }
}

/// The violation that `error` is, found while `instance` was checked as the property `key` of the root.
/// Without an error the search for it ran out of steps.
pub(super) fn explain(
    key: &str,
    instance: &Value,
    error: Option<&ValidationError<'_>>,
    declared: &DeclaredNames,
) -> Violation {
    let Some(error) = error else {
        return Violation {
            instance: String::new(),
            schema_key: key.to_owned(),
            schema_path: String::new(),
            keyword: String::new(),
            evidence: "does not match the schema; finding the place takes too many steps".to_owned(),
        };
    };
    let (pointer, value) = locate(error.instance_path().as_str(), instance, declared);
    let (schema_key, schema_path) = split_schema_path(error.schema_path().as_str(), key);
    let evidence = reason(error.kind(), value, declared);
    Violation { instance: pointer, schema_key, schema_path, keyword: keyword(error.kind()), evidence }
}

/// The pointer to show (the root's own property left out, names of the client's masked), and the value there.
fn locate<'v>(path: &str, instance: &'v Value, declared: &DeclaredNames) -> (String, Option<&'v Value>) {
    let mut shown = String::new();
    let mut value = Some(instance);
    for segment in path.split('/').skip(2) {
        let name = segment.replace("~1", "/").replace("~0", "~");
        let next = match value {
            Some(Value::Array(items)) => {
                let _ = write!(shown, "/{segment}");
                name.parse().ok().and_then(|index: usize| items.get(index))
            }
            other => {
                if declared.0.contains(name.as_str()) {
                    let _ = write!(shown, "/{segment}");
                } else {
                    let _ = write!(shown, "/<{}>", characters(name.chars().count()));
                }
                other.and_then(|value| value.get(&name))
            }
        };
        value = next;
    }
    (shown, value)
}

/// `/$defs/<key>/<rest>`: the schema that the failing keyword stands in.
fn split_schema_path(path: &str, wanted: &str) -> (String, String) {
    let Some(inside) = path.strip_prefix("/$defs/") else {
        return (wanted.to_owned(), String::new());
    };
    match inside.split_once('/') {
        Some((key, rest)) => (key.to_owned(), format!("/{}", rest.replace(patterns::KEYWORD, "pattern"))),
        None => (inside.to_owned(), String::new()),
    }
}

fn keyword(kind: &ValidationErrorKind) -> String {
    match kind {
        ValidationErrorKind::FalseSchema => "false".to_owned(),
        kind => kind.keyword().replace(patterns::KEYWORD, "pattern"),
    }
}

fn reason(kind: &ValidationErrorKind, value: Option<&Value>, declared: &DeclaredNames) -> String {
    use ValidationErrorKind as Kind;
    let got = value.map_or_else(|| "something else".to_owned(), subject);
    match kind {
        Kind::Type { kind } => format!("must be {}; got {got}", types(kind)),
        Kind::Required { property } => format!("required property {} is missing", quoted(property)),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let first = unexpected.first().map_or_else(String::new, |name| format!(": {}", declared.show(name)));
            format!("{} not declared{first}", count(unexpected.len(), "property is", "properties are"))
        }
        Kind::AdditionalItems { limit } => {
            format!("at most {} declared; got {got}", count(*limit, "item is", "items are"))
        }
        Kind::UnevaluatedItems { unexpected } => {
            format!("{} not declared", count(unexpected.len(), "item is", "items are"))
        }
        Kind::Minimum { limit } => format!("minimum is {limit}; got {got}"),
        Kind::Maximum { limit } => format!("maximum is {limit}; got {got}"),
        Kind::ExclusiveMinimum { limit } => format!("must be greater than {limit}; got {got}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}; got {got}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}; got {got}"),
        Kind::MinLength { limit } => format!("minLength is {limit}; got {got}"),
        Kind::MaxLength { limit } => format!("maxLength is {limit}; got {got}"),
        Kind::MinItems { limit } => format!("minItems is {limit}; got {got}"),
        Kind::MaxItems { limit } => format!("maxItems is {limit}; got {got}"),
        Kind::MinProperties { limit } => format!("minProperties is {limit}; got {got}"),
        Kind::MaxProperties { limit } => format!("maxProperties is {limit}; got {got}"),
        Kind::Pattern { .. } => format!("does not match the pattern; got {got}"),
        Kind::Enum { options } => {
            let options = options.as_array().map_or(0, Vec::len);
            format!("not one of {}; got {got}", count(options, "permitted value", "permitted values"))
        }
        Kind::Constant { .. } => format!("not the only permitted value; got {got}"),
        Kind::Format { format } => format!("not in the format `{format}`; got {got}"),
        Kind::Custom { keyword, .. } if keyword == patterns::KEYWORD => {
            format!("does not match the pattern; got {got}")
        }
        // The other custom keyword is `format`, and its message is the format's name.
        Kind::Custom { message, .. } => format!("not in the format `{message}`; got {got}"),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            format!("none of {} holds; got {got}", count(context.len(), "alternative", "alternatives"))
        }
        Kind::OneOfMultipleValid { .. } => format!("more than one alternative holds; got {got}"),
        Kind::PropertyNames { .. } => "a property's name is not permitted".to_owned(),
        Kind::UniqueItems => format!("items are not unique; got {got}"),
        Kind::Contains => format!("too few or too many items match `contains`; got {got}"),
        Kind::FalseSchema => format!("nothing is permitted here; got {got}"),
        Kind::Not { .. } => format!("matches what `not` forbids; got {got}"),
        other => format!("`{}` does not hold; got {got}", other.keyword()),
    }
}

/// What a value is, without what it says.
pub(super) fn subject(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) => format!("a number of {}", characters(number.to_string().len())),
        Value::String(text) => format!("a string of {}", characters(text.chars().count())),
        Value::Array(items) => format!("an array of {}", count(items.len(), "item", "items")),
        Value::Object(members) => format!("an object of {}", count(members.len(), "property", "properties")),
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => kind.to_string(),
        TypeKind::Multiple(kinds) => kinds.iter().map(|kind| kind.to_string()).collect::<Vec<_>>().join(" or "),
    }
}

fn quoted(name: &Value) -> String {
    format!("`{}`", name.as_str().unwrap_or_default())
}

pub(super) fn characters(count: usize) -> String {
    self::count(count, "character", "characters")
}

fn count(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
