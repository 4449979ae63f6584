//! What the conformance tests and the measuring program reach inside for. Not part of the public interface.

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value};

use super::patterns::move_patterns;
use super::schema::{SchemaId, Schemas, draft, options, steps_of};
use super::view::{Meter, View, ViewNode};
use super::{Sizes, parse_json};

/// The sizes that the compiler writes by default.
fn sizes() -> Sizes {
    Sizes {
        max_json_depth: 64,
        max_json_nodes: 100_000,
        max_json_string_bytes: 1 << 20,
        max_number_chars: 64,
        max_parameters: 200,
        max_multipart_parts: 100,
    }
}

/// A lone schema, compiled with the engine's options; it may refer to `remotes` by their URIs.
pub struct LoneSchema(Validator<View>);

impl LoneSchema {
    pub fn build(dialect: &str, schema: &Value, remotes: &Registry<'_>) -> Result<LoneSchema, String> {
        let draft = draft(dialect).map_err(|problem| problem.message)?;
        let mut schema = schema.clone();
        move_patterns(&mut schema);
        options(draft).with_registry(remotes).build(&schema).map(LoneSchema).map_err(|error| error.to_string())
    }

    /// Parses and checks one JSON text.
    pub fn accepts(&self, text: &[u8]) -> Result<bool, String> {
        let value = parse_json(text, &sizes()).map_err(|refusal| refusal.evidence.into_owned())?;
        let meter = Meter::new(steps_of(&value));
        let valid = self.0.is_valid(ViewNode::Value(&value, &meter));
        if meter.is_empty() { Err("too many steps".to_owned()) } else { Ok(valid) }
    }
}

/// A bundle's schemas.
pub struct Bundle {
    schemas: Schemas,
    sizes: Sizes,
}

/// One of them.
#[derive(Clone, Copy)]
pub struct Key(SchemaId);

impl Bundle {
    pub fn build(dialect: &str, schemas: Map<String, Value>, wanted: &[&str]) -> Result<Bundle, String> {
        let schemas = Schemas::build(dialect, schemas, wanted).map_err(|problem| format!("{problem:?}"))?;
        Ok(Bundle { schemas, sizes: sizes() })
    }

    pub fn key(&self, key: &str) -> Option<Key> {
        self.schemas.id(key).map(Key)
    }

    /// Parses and checks one JSON text; the evidence of the refusal.
    pub fn check(&self, key: Key, text: &[u8]) -> Result<(), String> {
        let value = parse_json(text, &self.sizes).map_err(|refusal| refusal.evidence.into_owned())?;
        self.schemas.check(key.0, &value).map_err(|violation| violation.to_string())
    }
}

/// Parses one JSON text.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    parse_json(text, &sizes()).map_err(|refusal| refusal.reason.name().to_owned())
}
