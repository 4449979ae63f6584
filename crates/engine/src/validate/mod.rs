//! Stub until the real validators are merged: the interface that the plan is written against.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::decision::Reason;
use crate::request::Headers;

/// A schema that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaProblem {
    pub schema: String,
    pub message: String,
}

/// Every key of `schemas` that cannot be built in `dialect`.
pub fn check_schemas(_dialect: &str, _schemas: &Value) -> Vec<SchemaProblem> {
    todo!()
}

/// All validators of a bundle.
pub(crate) struct Schemas;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SchemaId(#[allow(dead_code)] usize);

#[allow(dead_code)]
impl Schemas {
    pub(crate) fn build(
        _dialect: &str,
        _schemas: Map<String, Value>,
        _wanted: &[&str],
    ) -> Result<Schemas, SchemaProblem> {
        Ok(Schemas)
    }

    pub(crate) fn id(&self, _key: &str) -> Option<SchemaId> {
        Some(SchemaId(0))
    }

    pub(crate) fn check(&self, _id: SchemaId, _instance: &Value) -> Result<(), Violation> {
        Ok(())
    }
}

/// Where an instance breaks a schema. `evidence` carries no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub instance: String,
    pub schema_key: String,
    pub schema_path: String,
    pub keyword: String,
    pub evidence: String,
}

/// The bundle's `sizes` that concern parsing.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)]
pub(crate) struct Sizes {
    pub max_json_depth: usize,
    pub max_json_nodes: usize,
    pub max_json_string_bytes: usize,
    pub max_number_chars: usize,
    pub max_parameters: usize,
    pub max_multipart_parts: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub reason: Reason,
    /// JSON pointer of the parameter or content that refused, where one is known.
    pub pointer: Option<String>,
    pub violation: Option<Violation>,
    pub evidence: Cow<'static, str>,
}

/// The bundle's `decode` tree.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct Decode {
    pub types: Vec<String>,
    #[serde(default)]
    pub items: Option<Box<Decode>>,
    #[serde(default)]
    pub properties: BTreeMap<String, Decode>,
    #[serde(default)]
    pub additional: Option<Box<Decode>>,
}

/// The bundle's `encoding` of one property.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct Encoding {
    pub content_type: Option<String>,
    pub style: String,
    pub explode: bool,
    pub allow_reserved: bool,
}

/// The bundle's `parameters[]`, as read.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct Parameter {
    pub name: String,
    #[serde(rename = "in")]
    pub place: String,
    pub required: bool,
    pub style: String,
    pub explode: bool,
    pub allow_reserved: bool,
    pub allow_empty_value: bool,
    pub content: Option<String>,
    pub schema: Option<String>,
    pub decode: Option<Decode>,
    pub pointer: String,
}

/// The bundle's `content[]`, as read.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct Content {
    pub media_type: String,
    pub kind: ContentKind,
    pub schema: Option<String>,
    pub decode: Option<Decode>,
    pub encoding: BTreeMap<String, Encoding>,
    pub pointer: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ContentKind {
    Json,
    Form,
    Multipart,
    Text,
    Binary,
}

/// A parameter with its validator resolved.
#[allow(dead_code)]
pub(crate) struct ParameterSpec {
    raw: Parameter,
}

impl ParameterSpec {
    /// Resolves the schema key; the message names what is wrong.
    pub(crate) fn build(raw: Parameter, _schemas: &Schemas) -> Result<ParameterSpec, String> {
        Ok(ParameterSpec { raw })
    }
}

/// One media type of a body with its validator resolved.
pub(crate) struct ContentSpec {
    raw: Content,
}

#[allow(dead_code)]
impl ContentSpec {
    pub(crate) fn build(raw: Content, _schemas: &Schemas) -> Result<ContentSpec, String> {
        Ok(ContentSpec { raw })
    }

    pub(crate) fn has_schema(&self) -> bool {
        self.raw.schema.is_some()
    }

    pub(crate) fn kind(&self) -> ContentKind {
        self.raw.kind
    }

    pub(crate) fn pointer(&self) -> &str {
        &self.raw.pointer
    }
}

/// Which parameters carry credentials: they are neither validated nor unknown. Header names in lower case.
#[derive(Clone, Copy)]
#[allow(dead_code)]
pub(crate) struct Ignored<'a> {
    pub query: &'a [&'a str],
    pub cookies: &'a [&'a str],
}

/// Validates all parameters of one operation. `path_values` are canonical and still percent-encoded.
#[allow(dead_code, clippy::too_many_arguments)]
pub(crate) fn validate_parameters(
    _params: &[ParameterSpec],
    _unknown_query_denied: bool,
    _path_values: &[(&str, &str)],
    _query: Option<&str>,
    _headers: &dyn Headers,
    _schemas: &Schemas,
    _sizes: &Sizes,
    _ignored: Ignored<'_>,
) -> Result<(), Refusal> {
    Ok(())
}

/// The most specific declared media type that covers `content_type`.
#[allow(dead_code)]
pub(crate) fn choose_content<'a>(
    contents: &'a [ContentSpec],
    _content_type: Option<&[u8]>,
) -> Result<&'a ContentSpec, Refusal> {
    contents.first().ok_or_else(|| Refusal {
        reason: Reason::MediaTypeUnsupported,
        pointer: None,
        violation: None,
        evidence: Cow::Borrowed("no media type is declared"),
    })
}

/// Validates one whole body against the content that `choose_content` chose.
#[allow(dead_code)]
pub(crate) fn validate_content(
    _content: &ContentSpec,
    _content_type: Option<&[u8]>,
    _body: &[u8],
    _schemas: &Schemas,
    _sizes: &Sizes,
) -> Result<(), Refusal> {
    Ok(())
}
