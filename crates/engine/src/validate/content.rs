//! Bodies: which declared media type a message has, and whether its body is valid in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::decode::{Decode, Reading, TEXT, settle};
use super::form::{Field, validate_form};
use super::json::parse_json;
use super::media_type::{MediaRange, MediaType};
use super::multipart::validate_multipart;
use super::style::Style;
use super::{Refusal, SchemaId, Schemas, Sizes, Violation};
use crate::decision::Reason;

/// The bundle's `encoding` of one property of a form.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encoding {
    content_type: Option<String>,
    style: String,
    explode: bool,
    #[allow(dead_code, reason = "a client's licence to leave characters unencoded; it does not change the reading")]
    allow_reserved: bool,
}

/// The bundle's `content[]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
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

/// One media type of a body with everything resolved.
pub(crate) struct ContentSpec {
    range: MediaRange,
    kind: ContentKind,
    pub(super) schema: Option<SchemaId>,
    pub(super) decode: Decode,
    pub(super) fields: BTreeMap<String, Field>,
    pointer: String,
}

impl ContentSpec {
    /// Resolves the media type, the schema and the encodings; the message says what is wrong with the bundle.
    pub(crate) fn build(raw: Content, schemas: &Schemas) -> Result<ContentSpec, String> {
        let range = MediaRange::parse(&raw.media_type).ok_or_else(|| format!("bad media type `{}`", raw.media_type))?;
        let schema = match &raw.schema {
            None => None,
            Some(key) => Some(schemas.id(key).ok_or_else(|| format!("`{}`: unknown schema `{key}`", raw.media_type))?),
        };
        let fields = raw
            .encoding
            .into_iter()
            .map(|(name, encoding)| field(&encoding).map(|field| (name, field)))
            .collect::<Result<_, _>>()?;
        let decode = raw.decode.unwrap_or_default();
        Ok(ContentSpec { range, kind: raw.kind, schema, decode, fields, pointer: raw.pointer })
    }

    pub(crate) fn kind(&self) -> ContentKind {
        self.kind
    }

    pub(crate) fn pointer(&self) -> &str {
        &self.pointer
    }

    pub(crate) fn has_schema(&self) -> bool {
        self.schema.is_some()
    }
}

fn field(encoding: &Encoding) -> Result<Field, String> {
    let style = match encoding.style.as_str() {
        "form" => Style::Form,
        "spaceDelimited" => Style::SpaceDelimited,
        "pipeDelimited" => Style::PipeDelimited,
        "deepObject" => Style::DeepObject,
        other => return Err(format!("unknown style `{other}` of a form field")),
    };
    let content_types = match &encoding.content_type {
        None => Vec::new(),
        Some(list) => list
            .split(',')
            .map(|range| MediaRange::parse(range).ok_or_else(|| format!("bad media type `{range}` of a form field")))
            .collect::<Result<_, _>>()?,
    };
    let json = encoding.content_type.as_ref().is_some_and(|list| {
        list.split(',').all(|range| MediaType::parse(range.as_bytes()).is_some_and(|media| media.is_json()))
    });
    Ok(Field { style, explode: encoding.explode, content_types, json })
}

/// The most specific declared media type that covers `content_type`; of equals, the first.
///
/// Parameters are ignored, but JSON and forms must be in UTF-8 (RFC 8259 §8.1, WHATWG URL §5).
pub(crate) fn choose_content<'a>(
    contents: &'a [ContentSpec],
    content_type: Option<&[u8]>,
) -> Result<&'a ContentSpec, Refusal> {
    let unsupported = |evidence: &'static str| Refusal::new(Reason::MediaTypeUnsupported, evidence);
    let value = content_type.ok_or_else(|| unsupported("there is no `Content-Type`"))?;
    let media = MediaType::parse(value).ok_or_else(|| unsupported("`Content-Type` is malformed"))?;
    let mut best: Option<(u8, &ContentSpec)> = None;
    for content in contents {
        if let Some(fit) = content.range.fit(&media)
            && best.is_none_or(|(other, _)| fit > other)
        {
            best = Some((fit, content));
        }
    }
    let (_, content) = best.ok_or_else(|| unsupported("the media type is not declared"))?;
    if matches!(content.kind, ContentKind::Json | ContentKind::Form) && !media.is_utf8() {
        return Err(unsupported("the charset is not UTF-8").at(&content.pointer));
    }
    Ok(content)
}

/// Validates one whole body against the content that `choose_content` chose.
pub(crate) fn validate_content(
    content: &ContentSpec,
    content_type: Option<&[u8]>,
    body: &[u8],
    schemas: &Schemas,
    sizes: &Sizes,
) -> Result<(), Refusal> {
    let judged = match content.kind {
        ContentKind::Json => validate_json(content, body, schemas, sizes),
        ContentKind::Form => validate_form(content, body, schemas, sizes),
        ContentKind::Multipart => validate_multipart(content, content_type, body, schemas, sizes),
        ContentKind::Text => validate_text(content, content_type, body, schemas, sizes),
        ContentKind::Binary => Ok(()),
    };
    judged.map_err(|refusal| refusal.at(&content.pointer))
}

fn validate_json(content: &ContentSpec, body: &[u8], schemas: &Schemas, sizes: &Sizes) -> Result<(), Refusal> {
    let value = parse_json(body, sizes)?;
    match content.schema {
        Some(schema) => schemas.check(schema, &value).map_err(invalid_body),
        None => Ok(()),
    }
}

/// The whole text is one value: a string, or what `decode` makes of it.
fn validate_text(
    content: &ContentSpec,
    content_type: Option<&[u8]>,
    body: &[u8],
    schemas: &Schemas,
    sizes: &Sizes,
) -> Result<(), Refusal> {
    if body.len() > sizes.max_json_string_bytes {
        return Err(Refusal::new(Reason::BodyTooComplex, "the text is longer than `max_json_string_bytes`"));
    }
    let text = read_text(content_type.and_then(MediaType::parse).as_ref(), body)?;
    match content.schema {
        Some(schema) => settle(Reading::scalar(&text, &content.decode, sizes), schema, schemas).map_err(invalid_body),
        None => Ok(()),
    }
}

/// `body` in the charset that its media type names: UTF-8 (also where none is named), US-ASCII or ISO 8859-1.
pub(super) fn read_text<'b>(media: Option<&MediaType<'_>>, body: &'b [u8]) -> Result<Cow<'b, str>, Refusal> {
    let charset = media.and_then(|media| media.parameter("charset")).unwrap_or("utf-8").to_ascii_lowercase();
    let text = match charset.as_str() {
        "utf-8" | "utf8" => std::str::from_utf8(body).ok().map(Cow::Borrowed),
        "us-ascii" => std::str::from_utf8(body).ok().filter(|text| text.is_ascii()).map(Cow::Borrowed),
        "iso-8859-1" | "latin1" => Some(Cow::Owned(latin1(body))),
        _ => return Err(Refusal::new(Reason::MediaTypeUnsupported, "the charset is not supported")),
    };
    text.ok_or_else(|| Refusal::new(Reason::BodyMalformed, "the text is not in its charset"))
}

/// Each byte as the character of the same number: ISO 8859-1, and how bytes that are no text are shown to a schema.
pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A schema's refusal of a body; one that ran out of steps is a matter of complexity.
pub(super) fn invalid_body(violation: Violation) -> Refusal {
    let reason = if violation.is_exhaustion() { Reason::BodyTooComplex } else { Reason::BodyInvalid };
    Refusal::invalid(reason, violation)
}

/// How `decode` reads the text of a property that is not declared.
pub(super) fn decode_of<'c>(content: &'c ContentSpec, name: &str) -> &'c Decode {
    content.decode.property(name).unwrap_or(&TEXT)
}

/// Judges a form's object.
pub(super) fn judge_object(
    content: &ContentSpec,
    members: Vec<(String, Reading)>,
    schemas: &Schemas,
) -> Result<(), Refusal> {
    match content.schema {
        Some(schema) => settle(Reading::Object(members), schema, schemas).map_err(invalid_body),
        None => Ok(()),
    }
}

/// `value` read as JSON, in a part or a field.
pub(super) fn json_reading(bytes: &[u8], sizes: &Sizes) -> Result<Reading, Refusal> {
    parse_json(bytes, sizes).map(Reading::Fixed)
}

/// A value that can be read in one way only.
pub(super) fn string_reading(text: String) -> Reading {
    Reading::Fixed(Value::String(text))
}
