//! Path, query, header and cookie parameters of one operation.
//!
//! Decided where the standard is silent or divided:
//! - `+` in a query is a space, as in forms (WHATWG URL §5.1); elsewhere it is itself.
//! - Header values are not percent-decoded; cookie values are, where every escape is well formed.
//! - Control characters are refused; in query text tabs and line breaks pass.
//! - `allowReserved` changes what a client must encode, not how a value is read.
//! - An empty query value passes unchecked with `allowEmptyValue`, and is else read like any other text.
//! - `Accept`, `Content-Type` and `Authorization` as header parameters are ignored (OpenAPI 3.1 §4.8.12.1).

use std::borrow::Cow;

use super::decode::{Decode, Reading, Type, settle};
use super::json::parse_json;
use super::media_type::MediaType;
use super::percent::{self, Plus};
use super::style::{Controls, Fault, Field, Fields, Reader, Readings, Spelling, Style, fields, name_of_length};
use super::{Refusal, SchemaId, Schemas, Sizes, Violation};
use crate::decision::Reason;
use crate::request::Headers;

/// The bundle's `parameters[]`, and a response's `headers[]` once their place is filled in.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameter {
    pub name: String,
    #[serde(rename = "in")]
    pub place: String,
    pub required: bool,
    pub style: String,
    pub explode: bool,
    #[allow(dead_code, reason = "a client's licence to leave characters unencoded; it does not change the reading")]
    pub allow_reserved: bool,
    pub allow_empty_value: bool,
    pub content: Option<String>,
    pub schema: Option<String>,
    pub decode: Option<Decode>,
    pub pointer: String,
}

/// A parameter with everything resolved.
pub(crate) struct ParameterSpec {
    /// In lower case for headers.
    name: String,
    /// What evidence calls it.
    label: String,
    place: Place,
    required: bool,
    allow_empty_value: bool,
    form: Form,
    schema: Option<SchemaId>,
    pointer: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
    Header,
    Cookie,
}

/// How the value is spelled.
enum Form {
    Styled {
        style: Style,
        explode: bool,
        decode: Decode,
    },
    /// A document of its own: JSON, or text.
    Document {
        json: bool,
    },
}

/// Which parameters carry credentials: they are neither validated nor unknown.
#[derive(Clone, Copy)]
pub(crate) struct Ignored<'a> {
    pub query: &'a [&'a str],
    pub cookies: &'a [&'a str],
}

impl ParameterSpec {
    /// Resolves names and the schema; the message says what is wrong with the bundle.
    pub(crate) fn build(raw: Parameter, schemas: &Schemas) -> Result<ParameterSpec, String> {
        let place = match raw.place.as_str() {
            "path" => Place::Path,
            "query" => Place::Query,
            "header" => Place::Header,
            "cookie" => Place::Cookie,
            other => return Err(format!("parameter `{}`: unknown place `{other}`", raw.name)),
        };
        let schema = match &raw.schema {
            None => None,
            Some(key) => {
                Some(schemas.id(key).ok_or_else(|| format!("parameter `{}`: unknown schema `{key}`", raw.name))?)
            }
        };
        let form = match &raw.content {
            Some(media_type) => Form::Document {
                json: MediaType::parse(media_type.as_bytes())
                    .ok_or_else(|| format!("parameter `{}`: bad media type `{media_type}`", raw.name))?
                    .is_json(),
            },
            None => Form::Styled {
                style: style(place, &raw.style)
                    .ok_or_else(|| format!("parameter `{}`: style `{}`", raw.name, raw.style))?,
                explode: raw.explode,
                decode: raw.decode.unwrap_or_default(),
            },
        };
        Ok(ParameterSpec {
            label: format!("{} parameter `{}`", raw.place, raw.name),
            name: if place == Place::Header { raw.name.to_ascii_lowercase() } else { raw.name },
            place,
            required: raw.required,
            allow_empty_value: raw.allow_empty_value,
            form,
            schema,
            pointer: raw.pointer,
        })
    }

    fn is_exploded_object(&self) -> bool {
        matches!(&self.form, Form::Styled { style: Style::Form, explode: true, decode } if decode.may_be(Type::Object))
    }

    fn spelling<'s>(&'s self, style: Style, explode: bool, decode: &'s Decode) -> Spelling<'s> {
        Spelling { name: &self.name, style, explode, decode }
    }

    fn refuse(&self, refusal: Refusal) -> Refusal {
        refusal.about(&self.label).at(&self.pointer)
    }

    fn fault(&self, fault: &Fault) -> Refusal {
        self.refuse(refusal_of(fault))
    }

    fn absent(&self) -> Result<(), Refusal> {
        if !self.required {
            return Ok(());
        }
        Err(Refusal::new(Reason::ParameterMissing, format!("{} is missing", self.label)).at(&self.pointer))
    }

    /// Checks the shapes that a value was read as, or its absence.
    fn judge(&self, readings: Readings, schemas: &Schemas) -> Result<(), Refusal> {
        if readings.is_empty() {
            return self.absent();
        }
        let Some(schema) = self.schema else {
            return Ok(());
        };
        let mut first: Option<Violation> = None;
        for reading in readings {
            match settle(reading, schema, schemas) {
                Ok(()) => return Ok(()),
                Err(violation) => first = first.or(Some(violation)),
            }
        }
        match first {
            Some(violation) => Err(self.refuse(Refusal::invalid(Reason::ParameterInvalid, violation))),
            None => Ok(()),
        }
    }

    /// A `content` parameter: one text, decoded, as a document.
    fn document(&self, text: &str, json: bool, sizes: &Sizes) -> Result<Readings, Refusal> {
        let value = if json {
            parse_json(text.as_bytes(), sizes).map_err(|refusal| {
                let refusal = Refusal { reason: Reason::ParameterMalformed, ..refusal };
                self.refuse(refusal)
            })?
        } else {
            serde_json::Value::String(text.to_owned())
        };
        Ok(std::iter::once(Reading::Fixed(value)).collect())
    }

    /// One text: a path variable or a header.
    fn judge_text(&self, raw: &str, reader: Reader<'_>, schemas: &Schemas) -> Result<(), Refusal> {
        let readings = match &self.form {
            Form::Document { json } => {
                let text = reader.text(raw).map_err(|fault| self.fault(&fault))?;
                self.document(&text, *json, reader.sizes)?
            }
            Form::Styled { style, explode, decode } => {
                reader.whole(raw, self.spelling(*style, *explode, decode)).map_err(|fault| self.fault(&fault))?
            }
        };
        self.judge(readings, schemas)
    }

    /// Whether several values make sense: an array or an object, split at commas.
    fn is_list(&self) -> bool {
        matches!(&self.form, Form::Styled { decode, .. } if decode.may_be(Type::Array) || decode.may_be(Type::Object))
    }

    fn judge_header(&self, value: &[u8], list: bool, reader: Reader<'_>, schemas: &Schemas) -> Result<(), Refusal> {
        let Ok(text) = std::str::from_utf8(value) else {
            return Err(self.fault(&Fault::Malformed("the value is not UTF-8")));
        };
        let text = text.trim_matches([' ', '\t']);
        if !list || !text.contains([' ', '\t']) {
            return self.judge_text(text, reader, schemas);
        }
        // White space around the commas of a list says nothing (RFC 9110 §5.6.1).
        let pieces: Vec<&str> = text.split(',').map(|piece| piece.trim_matches([' ', '\t'])).collect();
        self.judge_text(&pieces.join(","), reader, schemas)
    }

    /// A value among fields: a query parameter or a cookie.
    fn judge_fields(
        &self,
        fields: &mut [Field<'_>],
        reader: Reader<'_>,
        is_other: &dyn Fn(&str) -> bool,
        schemas: &Schemas,
    ) -> Result<(), Refusal> {
        if self.allow_empty_value {
            let mut own = fields.iter_mut().filter(|field| field.name == self.name);
            if let (Some(field), None) = (own.next(), own.next())
                && field.raw.is_empty()
            {
                field.taken = true;
                return Ok(());
            }
        }
        let readings = match &self.form {
            Form::Document { json } => self.document_field(fields, *json, reader)?,
            Form::Styled { style, explode, decode } => reader
                .spread(fields, self.spelling(*style, *explode, decode), is_other)
                .map_err(|fault| self.fault(&fault))?,
        };
        self.judge(readings, schemas)
    }

    fn document_field(&self, fields: &mut [Field<'_>], json: bool, reader: Reader<'_>) -> Result<Readings, Refusal> {
        let mut own = fields.iter_mut().filter(|field| field.name == self.name);
        let Some(field) = own.next() else {
            return Ok(Readings::new());
        };
        field.taken = true;
        let raw = field.raw;
        if own.next().is_some() {
            return Err(self.fault(&Fault::Duplicated));
        }
        let text = reader.text(raw).map_err(|fault| self.fault(&fault))?;
        self.document(&text, json, reader.sizes)
    }
}

/// The styles that OpenAPI permits in each place.
fn style(place: Place, style: &str) -> Option<Style> {
    match (place, style) {
        (Place::Path | Place::Header, "simple") => Some(Style::Simple),
        (Place::Path, "label") => Some(Style::Label),
        (Place::Path, "matrix") => Some(Style::Matrix),
        (Place::Query | Place::Cookie, "form") => Some(Style::Form),
        (Place::Query, "spaceDelimited") => Some(Style::SpaceDelimited),
        (Place::Query, "pipeDelimited") => Some(Style::PipeDelimited),
        (Place::Query, "deepObject") => Some(Style::DeepObject),
        _ => None,
    }
}

fn refusal_of(fault: &Fault) -> Refusal {
    match fault {
        Fault::Malformed(evidence) => Refusal::new(Reason::ParameterMalformed, *evidence),
        Fault::Duplicated => Refusal::new(Reason::ParameterDuplicated, "more than one value"),
        Fault::TooMany(max) => Refusal::new(Reason::ParameterMalformed, format!("more than {max} values")),
    }
}

/// Validates all parameters of one operation. `path_values` are canonical and still percent-encoded.
#[allow(clippy::too_many_arguments)]
pub(crate) fn validate_parameters(
    params: &[ParameterSpec],
    unknown_query_denied: bool,
    path_values: &[(&str, &str)],
    query: Option<&str>,
    headers: &dyn Headers,
    schemas: &Schemas,
    sizes: &Sizes,
    ignored: Ignored<'_>,
) -> Result<(), Refusal> {
    validate_path(params, path_values, schemas, sizes)?;
    validate_query(params, unknown_query_denied, query.unwrap_or_default(), schemas, sizes, ignored.query)?;
    validate_headers(params, headers, schemas, sizes)?;
    validate_cookies(params, headers, schemas, sizes, ignored.cookies)
}

fn of_place(params: &[ParameterSpec], place: Place) -> impl Iterator<Item = &ParameterSpec> {
    params.iter().filter(move |param| param.place == place)
}

fn validate_path(
    params: &[ParameterSpec],
    values: &[(&str, &str)],
    schemas: &Schemas,
    sizes: &Sizes,
) -> Result<(), Refusal> {
    let reader = Reader { sizes, plus: Plus::Literal, controls: Controls::Refuse, percent: true };
    for param in of_place(params, Place::Path) {
        match values.iter().find(|(name, _)| *name == param.name) {
            Some((_, raw)) => param.judge_text(raw, reader, schemas)?,
            None => param.absent()?,
        }
    }
    Ok(())
}

fn validate_query(
    params: &[ParameterSpec],
    unknown_denied: bool,
    query: &str,
    schemas: &Schemas,
    sizes: &Sizes,
    ignored: &[&str],
) -> Result<(), Refusal> {
    let reader = Reader { sizes, plus: Plus::Space, controls: Controls::RefuseButSpace, percent: true };
    let mut fields = fields(query, sizes.max_parameters, &reader).map_err(|fault| refusal_of(&fault).about("query"))?;
    for field in &mut fields {
        field.taken = ignored.iter().any(|name| field.name == *name);
    }
    let is_other =
        |name: &str| ignored.contains(&name) || of_place(params, Place::Query).any(|param| claims(param, name));
    for param in of_place(params, Place::Query) {
        param.judge_fields(&mut fields, reader, &is_other, schemas)?;
    }
    for field in fields.iter().filter(|field| !field.taken) {
        if unknown_denied {
            let evidence = format!("a query parameter with {} is not declared", name_of_length(&field.name));
            return Err(Refusal::new(Reason::ParameterUnknown, evidence));
        }
        reader.text(field.raw).map_err(|fault| refusal_of(&fault).about("query"))?;
    }
    Ok(())
}

/// Whether the field `name` belongs to `param` by its own name.
fn claims(param: &ParameterSpec, name: &str) -> bool {
    match &param.form {
        Form::Styled { style: Style::DeepObject, .. } => {
            name.strip_prefix(param.name.as_str()).is_some_and(|rest| rest.starts_with('['))
        }
        _ => param.name == name && !param.is_exploded_object(),
    }
}

fn validate_headers(
    params: &[ParameterSpec],
    headers: &dyn Headers,
    schemas: &Schemas,
    sizes: &Sizes,
) -> Result<(), Refusal> {
    let reader = Reader { sizes, plus: Plus::Literal, controls: Controls::RefuseButSpace, percent: false };
    for param in of_place(params, Place::Header) {
        if matches!(param.name.as_str(), "accept" | "content-type" | "authorization") {
            continue;
        }
        let list = param.is_list();
        match (headers.count(&param.name), headers.first(&param.name)) {
            (0, _) | (_, None) => param.absent()?,
            (1, Some(value)) => param.judge_header(value, list, reader, schemas)?,
            // A list may come in several fields (RFC 9110 §5.3); anything else may not.
            _ if list => param.judge_header(&joined(headers, &param.name, b","), list, reader, schemas)?,
            _ => return Err(param.fault(&Fault::Duplicated)),
        }
    }
    Ok(())
}

/// All values of the field `name`, in order.
fn joined(headers: &dyn Headers, name: &str, separator: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    headers.each(&mut |other, value| {
        if other == name {
            if !all.is_empty() {
                all.extend_from_slice(separator);
            }
            all.extend_from_slice(value);
        }
        true
    });
    all
}

fn validate_cookies(
    params: &[ParameterSpec],
    headers: &dyn Headers,
    schemas: &Schemas,
    sizes: &Sizes,
    ignored: &[&str],
) -> Result<(), Refusal> {
    if of_place(params, Place::Cookie).next().is_none() {
        return Ok(());
    }
    let header: Cow<'_, [u8]> = match (headers.count("cookie"), headers.first("cookie")) {
        (0, _) | (_, None) => Cow::Borrowed(b""),
        (1, Some(value)) => Cow::Borrowed(value),
        _ => Cow::Owned(joined(headers, "cookie", b"; ")),
    };
    let mut fields = cookies(&header, sizes)?;
    for field in &mut fields {
        field.taken = ignored.iter().any(|name| field.name == *name);
    }
    let is_other =
        |name: &str| ignored.contains(&name) || of_place(params, Place::Cookie).any(|param| claims(param, name));
    for param in of_place(params, Place::Cookie) {
        let own = |field: &&Field<'_>| field.name == param.name;
        // Cookies are percent-encoded by some clients only; what is no encoding is taken as it is.
        let percent = fields.iter().filter(own).all(|field| percent::decode(field.raw, Plus::Literal).is_ok());
        let reader = Reader { sizes, plus: Plus::Literal, controls: Controls::Refuse, percent };
        param.judge_fields(&mut fields, reader, &is_other, schemas)?;
    }
    Ok(())
}

/// `name=value` pairs (RFC 6265 §4.2.1); a value may stand in quotation marks.
fn cookies<'h>(header: &'h [u8], sizes: &Sizes) -> Result<Fields<'h>, Refusal> {
    let malformed = |evidence: String| Err(Refusal::new(Reason::ParameterMalformed, evidence));
    let Ok(text) = std::str::from_utf8(header) else {
        return malformed("the `Cookie` header is not UTF-8".to_owned());
    };
    let mut fields = Fields::new();
    for pair in text.split(';').map(|pair| pair.trim_matches([' ', '\t'])).filter(|pair| !pair.is_empty()) {
        if fields.len() >= sizes.max_parameters {
            return malformed(format!("more than {} cookies", sizes.max_parameters));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        fields.push(Field { name: Cow::Borrowed(name), raw: value, taken: false });
    }
    Ok(fields)
}
