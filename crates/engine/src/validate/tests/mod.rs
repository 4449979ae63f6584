//! Tests of the whole module, from bytes to verdict.

mod bodies;
mod json;
mod parameters;
mod random;
mod schemas;

use serde_json::{Map, Value, json};

use super::*;

fn sizes() -> Sizes {
    Sizes {
        max_json_depth: 8,
        max_json_nodes: 1000,
        max_json_string_bytes: 4096,
        max_number_chars: 32,
        max_parameters: 20,
        max_multipart_parts: 5,
    }
}

/// One schema, called `s`.
fn one(dialect: &str, schema: Value) -> Schemas {
    Schemas::build(dialect, Map::from_iter([("s".to_owned(), schema)]), &["s"]).expect("a sound schema")
}

fn check(dialect: &str, schema: Value, instance: Value) -> Result<(), Violation> {
    let schemas = one(dialect, schema);
    let id = schemas.id("s").expect("wanted");
    schemas.check(id, &instance)
}

/// A parameter of the schema `s`, with `more` laid over the defaults.
fn parameter(schemas: &Schemas, more: Value) -> ParameterSpec {
    let mut spec = json!({
        "name": "p", "in": "query", "required": false, "style": "form", "explode": true, "allow_reserved": false,
        "allow_empty_value": false, "content": null, "schema": "s", "decode": null, "pointer": "/p"
    });
    for (name, value) in more.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    ParameterSpec::build(serde_json::from_value(spec).expect("a parameter"), schemas).expect("resolves")
}

/// A body of the schema `s`.
fn content(schemas: &Schemas, media_type: &str, kind: &str, more: Value) -> ContentSpec {
    let mut spec = json!({
        "media_type": media_type, "kind": kind, "schema": "s", "decode": null, "encoding": {}, "pointer": "/c"
    });
    for (name, value) in more.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    ContentSpec::build(serde_json::from_value(spec).expect("a content"), schemas).expect("resolves")
}
