//! `application/x-www-form-urlencoded` bodies (WHATWG URL §5, OpenAPI 3.1 §4.8.14.4): one object.

use super::content::{ContentSpec, decode_of, json_reading, judge_object};
use super::decode::{Reading, Type};
use super::media_type::MediaRange;
use super::percent::Plus;
use super::style::{Controls, Fault, Fields, Reader, Spelling, Style, fields, name_of_length};
use super::{Refusal, Schemas, Sizes};
use crate::decision::Reason;

/// How one property is spelled in a form.
pub(super) struct Field {
    pub(super) style: Style,
    pub(super) explode: bool,
    /// Empty: not said.
    pub(super) content_types: Vec<MediaRange>,
    /// All of them are JSON.
    pub(super) json: bool,
}

/// Reads the form and checks its object.
pub(super) fn validate_form(
    content: &ContentSpec,
    body: &[u8],
    schemas: &Schemas,
    sizes: &Sizes,
) -> Result<(), Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| malformed("the form is not UTF-8"))?;
    let reader = Reader { sizes, plus: Plus::Space, controls: Controls::Pass, percent: true };
    let mut fields = fields(text, sizes.max_json_nodes, &reader).map_err(|fault| refusal_of(&fault))?;
    if let Some(field) = fields.iter().find(|field| field.raw.len() > sizes.max_json_string_bytes.saturating_mul(3)) {
        return Err(Refusal::new(
            Reason::BodyTooComplex,
            format!("the field with {} is too long", name_of_length(&field.name)),
        ));
    }
    let members = read_members(content, &mut fields, reader)?;
    judge_object(content, members, schemas)
}

fn malformed(evidence: &'static str) -> Refusal {
    Refusal::new(Reason::BodyMalformed, evidence)
}

fn refusal_of(fault: &Fault) -> Refusal {
    match fault {
        Fault::Malformed(evidence) => malformed(evidence),
        Fault::Duplicated => Refusal::new(Reason::BodyDuplicateKey, "a field stands twice"),
        Fault::TooMany(max) => Refusal::new(Reason::BodyTooComplex, format!("more than {max} fields or items")),
    }
}

/// Properties that are spelled in a way of their own first, then every other field by its own name.
fn read_members(
    content: &ContentSpec,
    fields: &mut Fields<'_>,
    reader: Reader<'_>,
) -> Result<Vec<(String, Reading)>, Refusal> {
    let mut members = Vec::new();
    for (name, field) in &content.fields {
        let reading = match field.json {
            true => json_field(name, fields, reader)?,
            false => styled_field(content, name, field, fields, reader)?,
        };
        members.extend(reading.map(|reading| (name.clone(), reading)));
    }
    let mut index = MemberIndex::default();
    for field in fields.iter().filter(|field| !field.taken) {
        let decode = decode_of(content, &field.name);
        index.add(&mut members, field, decode, &reader).map_err(|fault| refusal_of(&fault))?;
    }
    Ok(members)
}

fn json_field(name: &str, fields: &mut Fields<'_>, reader: Reader<'_>) -> Result<Option<Reading>, Refusal> {
    let mut own = fields.iter_mut().filter(|field| field.name == name);
    let Some(field) = own.next() else {
        return Ok(None);
    };
    field.taken = true;
    let raw = field.raw;
    if own.next().is_some() {
        return Err(refusal_of(&Fault::Duplicated));
    }
    let text = reader.text(raw).map_err(|fault| refusal_of(&fault))?;
    json_reading(text.as_bytes(), reader.sizes).map(Some)
}

fn styled_field(
    content: &ContentSpec,
    name: &str,
    field: &Field,
    fields: &mut Fields<'_>,
    reader: Reader<'_>,
) -> Result<Option<Reading>, Refusal> {
    let decode = decode_of(content, name);
    let spelling = Spelling { name, style: field.style, explode: field.explode, decode };
    // An exploded object would take fields of other properties: only its own declared ones are left to it.
    let is_other = |_: &str| true;
    let readings = reader.spread(fields, spelling, &is_other).map_err(|fault| refusal_of(&fault))?;
    Ok(readings.into_iter().next())
}

/// Where each name stands among the members, so that a form of many fields is read in linear time.
#[derive(Default)]
struct MemberIndex {
    places: ahash::AHashMap<String, usize>,
}

impl MemberIndex {
    fn add(
        &mut self,
        members: &mut Vec<(String, Reading)>,
        field: &super::style::Field<'_>,
        decode: &super::Decode,
        reader: &Reader<'_>,
    ) -> Result<(), Fault> {
        let text = reader.text(field.raw)?;
        let array = decode.may_be(Type::Array);
        let item = if array { decode.items.as_deref().unwrap_or(&super::decode::TEXT) } else { decode };
        let reading = Reading::scalar(&text, item, reader.sizes);
        match self.places.get(field.name.as_ref()).and_then(|place| members.get_mut(*place)) {
            None => {
                self.places.insert(field.name.clone().into_owned(), members.len());
                let reading = if array { Reading::Array(vec![reading]) } else { reading };
                members.push((field.name.clone().into_owned(), reading));
                Ok(())
            }
            Some((_, Reading::Array(items))) => {
                items.push(reading);
                Ok(())
            }
            Some(_) => Err(Fault::Duplicated),
        }
    }
}
