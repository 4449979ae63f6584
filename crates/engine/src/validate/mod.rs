//! Is this message what the description says? Parameters and bodies, from bytes to JSON values to schemas.
//!
//! ```text
//! query, path, headers, cookies ─▶ parameters ─▶ decode ─┐
//! application/json ─────────────▶ json ──────────────────┤
//! urlencoded form ──────────────▶ form ───────▶ decode ──┼─▶ schema ─▶ (explain) ─▶ Refusal
//! multipart/form-data ──────────▶ multipart ─▶ decode ───┤
//! text ─────────────────────────▶ content ────▶ decode ──┘
//! ```
//!
//! Every parser takes a whole slice, is bounded by `Sizes` before it allocates, and answers a `Refusal` for whatever
//! it does not understand. Decisions depend on nothing but the bytes, the specification and the sizes.

mod content;
mod decode;
mod explain;
mod form;
mod formats;
mod json;
mod media_type;
mod multipart;
mod parameters;
mod patterns;
mod percent;
mod schema;
mod style;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod view;

use std::borrow::Cow;
use std::fmt;

use crate::decision::Reason;

pub(crate) use content::{Content, ContentKind, ContentSpec, choose_content, validate_content};
pub(crate) use decode::Decode;
pub(crate) use json::parse_json;
pub(crate) use parameters::{Ignored, Parameter, ParameterSpec, validate_parameters};
pub use schema::check_schemas;
pub(crate) use schema::{SchemaId, Schemas};

/// A schema that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaProblem {
    /// Its key, or empty where the schemas as a whole are at fault.
    pub schema: String,
    pub message: String,
}

impl SchemaProblem {
    fn new(schema: impl Into<String>, message: impl Into<String>) -> SchemaProblem {
        SchemaProblem { schema: schema.into(), message: message.into() }
    }
}

/// The bundle's `sizes` that concern parsing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Levels of arrays and objects; 127 at most.
    pub max_json_depth: usize,
    /// Values in a text, and fields of a form.
    pub max_json_nodes: usize,
    pub max_json_string_bytes: usize,
    pub max_number_chars: usize,
    /// Parameters in a query, and cookies.
    pub max_parameters: usize,
    pub max_multipart_parts: usize,
}

/// Where an instance breaks a schema. Nothing in it comes from the client but positions, types and lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// JSON pointer into the instance; names that no schema declares are replaced by their length.
    pub instance: String,
    /// The schema that the failing keyword stands in …
    pub schema_key: String,
    /// … and the JSON pointer to the keyword inside it.
    pub schema_path: String,
    /// Empty where the check ran out of steps.
    pub keyword: String,
    /// Why, without where.
    pub evidence: String,
}

impl Violation {
    fn too_complex(key: &str, evidence: &str) -> Violation {
        Violation {
            instance: String::new(),
            schema_key: key.to_owned(),
            schema_path: String::new(),
            keyword: String::new(),
            evidence: evidence.to_owned(),
        }
    }

    /// Whether nothing is known to be wrong but that the check took too many steps.
    fn is_exhaustion(&self) -> bool {
        self.keyword.is_empty()
    }
}

/// The evidence, after the place in the instance.
impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.instance.is_empty() {
            write!(formatter, "{}: ", self.instance)?;
        }
        formatter.write_str(&self.evidence)
    }
}

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub reason: Reason,
    /// JSON pointer of the parameter or content that refused, where one is known.
    pub pointer: Option<String>,
    pub violation: Option<Box<Violation>>,
    /// Complete: which parameter, where in its value, and why.
    pub evidence: Cow<'static, str>,
}

impl Refusal {
    fn new(reason: Reason, evidence: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { reason, pointer: None, violation: None, evidence: evidence.into() }
    }

    /// A schema's refusal.
    fn invalid(reason: Reason, violation: Violation) -> Refusal {
        let evidence = violation.to_string().into();
        Refusal { reason, pointer: None, violation: Some(Box::new(violation)), evidence }
    }

    fn at(mut self, pointer: &str) -> Refusal {
        self.pointer.get_or_insert_with(|| pointer.to_owned());
        self
    }

    /// The same refusal with `label` before its evidence.
    fn about(mut self, label: &str) -> Refusal {
        self.evidence = format!("{label}: {}", self.evidence).into();
        self
    }
}
