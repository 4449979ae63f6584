//! OpenAPI's serialization styles, read back (OpenAPI 3.1 §4.8.12.3, RFC 6570).
//!
//! A value that may have several shapes (`types: [array, string]`) is read as each of them, in order. Delimiters count
//! where they stand unencoded; pieces are percent-decoded after splitting, once. A `form` list without any bare comma
//! but with encoded ones is, as the last resort, split at those: many clients encode every comma.

use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use super::Sizes;
use super::decode::{Decode, Reading, TEXT, Type, pairs};
use super::explain::characters;
use super::percent::{Plus, decode};

/// Members of one object that is spelled by a style; they are searched one by one.
const MAX_MEMBERS: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
}

/// Why a serialized value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed(&'static str),
    /// More than one value where there can be only one.
    Duplicated,
    TooMany(usize),
}

/// How one named value is spelled.
#[derive(Clone, Copy)]
pub(super) struct Spelling<'s> {
    pub(super) name: &'s str,
    pub(super) style: Style,
    pub(super) explode: bool,
    pub(super) decode: &'s Decode,
}

/// `name=value` of a query, a form or a cookie header. The value is still encoded.
pub(super) struct Field<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) raw: &'a str,
    /// Whether something declared has claimed it.
    pub(super) taken: bool,
}

pub(super) type Fields<'a> = SmallVec<[Field<'a>; 8]>;

/// The shapes that one value can have, in the order to try. Empty: absent.
pub(super) type Readings = SmallVec<[Reading; 2]>;

/// What text is decoded by: where `+` is a space, and which control characters are refused.
#[derive(Clone, Copy)]
pub(super) struct Reader<'s> {
    pub(super) sizes: &'s Sizes,
    pub(super) plus: Plus,
    pub(super) controls: Controls,
    /// Not for header values, which no rule percent-encodes.
    pub(super) percent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Controls {
    /// All of C0 and DEL.
    Refuse,
    /// As above, but tabs and line breaks pass.
    RefuseButSpace,
    Pass,
}

impl<'s> Reader<'s> {
    pub(super) fn text<'a>(&self, raw: &'a str) -> Result<Cow<'a, str>, Fault> {
        let text = if self.percent {
            decode(raw, self.plus).map_err(|error| Fault::Malformed(error.evidence()))?
        } else {
            Cow::Borrowed(raw)
        };
        let refused = |byte: u8| match self.controls {
            Controls::Refuse => byte < 0x20 || byte == 0x7f,
            Controls::RefuseButSpace => (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f,
            Controls::Pass => false,
        };
        if text.bytes().any(refused) {
            return Err(Fault::Malformed("a control character"));
        }
        Ok(text)
    }

    fn scalar(&self, raw: &str, decode: &Decode) -> Result<Reading, Fault> {
        Ok(Reading::scalar(&self.text(raw)?, decode, self.sizes))
    }

    fn array<'a>(&self, pieces: impl Iterator<Item = &'a str>, decode: &Decode) -> Result<Reading, Fault> {
        let items = decode.items.as_deref().unwrap_or(&TEXT);
        pieces.map(|piece| self.scalar(piece, items)).collect::<Result<_, _>>().map(Reading::Array)
    }

    fn object<'a>(&self, members: impl Iterator<Item = (&'a str, &'a str)>, decode: &Decode) -> Result<Reading, Fault> {
        let mut object: Vec<(String, Reading)> = Vec::new();
        for (name, raw) in members {
            let name = self.text(name)?.into_owned();
            if object.len() >= MAX_MEMBERS {
                return Err(Fault::TooMany(MAX_MEMBERS));
            }
            if object.iter().any(|(other, _)| *other == name) {
                return Err(Fault::Duplicated);
            }
            let reading = self.scalar(raw, decode.property(&name).unwrap_or(&TEXT))?;
            object.push((name, reading));
        }
        Ok(Reading::Object(object))
    }

    /// Every shape that `decode` allows, each by its own function; scalars of all types are one shape.
    fn shapes(
        &self,
        decode: &Decode,
        mut scalar: impl FnMut() -> Result<Option<Reading>, Fault>,
        mut array: impl FnMut() -> Result<Option<Reading>, Fault>,
        mut object: impl FnMut() -> Result<Option<Reading>, Fault>,
    ) -> Result<Readings, Fault> {
        let mut readings = Readings::new();
        let mut scalar_read = false;
        for kind in decode.types() {
            match kind {
                Type::Array => readings.extend(array()?),
                Type::Object => readings.extend(object()?),
                _ if !scalar_read => {
                    scalar_read = true;
                    readings.extend(scalar()?);
                }
                _ => {}
            }
        }
        Ok(readings)
    }

    /// A value that is one text: a path segment, a header, or an unexploded field.
    pub(super) fn whole(&self, raw: &str, spelling: Spelling<'_>) -> Result<Readings, Fault> {
        let spelled = Whole::of(raw, spelling)?;
        let mut readings = self.shapes(
            spelling.decode,
            || self.scalar(spelled.scalar, spelling.decode).map(Some),
            || {
                let pieces = spelled.array(spelling);
                self.bounded(pieces.len())?;
                self.array(pieces.into_iter(), spelling.decode).map(Some)
            },
            || {
                let pieces = spelled.object(spelling);
                self.bounded(pieces.len())?;
                self.members(&pieces, spelling)
            },
        )?;
        if readings.is_empty() {
            // An object alone was allowed, and the text spells none: let the schema say so.
            readings.push(self.scalar(spelled.scalar, &TEXT)?);
        }
        if spelling.style == Style::Form && spelling.decode.may_be(Type::Array) && !raw.contains(',') {
            readings.extend(self.split_after_decoding(raw, spelling.decode)?);
        }
        Ok(readings)
    }

    fn split_after_decoding(&self, raw: &str, decode: &Decode) -> Result<Option<Reading>, Fault> {
        let text = self.text(raw)?;
        if !text.contains(',') {
            return Ok(None);
        }
        self.bounded(text.matches(',').count())?;
        let items = decode.items.as_deref().unwrap_or(&TEXT);
        Ok(Some(Reading::Array(text.split(',').map(|piece| Reading::scalar(piece, items, self.sizes)).collect())))
    }

    fn members(&self, pieces: &[&str], spelling: Spelling<'_>) -> Result<Option<Reading>, Fault> {
        let members =
            if spelling.explode { pieces.iter().map(|piece| piece.split_once('=')).collect() } else { pairs(pieces) };
        members.map(|members| self.object(members.into_iter(), spelling.decode)).transpose()
    }

    fn bounded(&self, count: usize) -> Result<(), Fault> {
        if count > self.sizes.max_json_nodes { Err(Fault::TooMany(self.sizes.max_json_nodes)) } else { Ok(()) }
    }

    /// A value spread over fields (query, form, cookies); those that belong to it become taken. `is_other` tells which
    /// names belong to something else, so that an exploded object with free properties leaves them alone.
    pub(super) fn spread(
        &self,
        fields: &mut [Field<'_>],
        spelling: Spelling<'_>,
        is_other: &dyn Fn(&str) -> bool,
    ) -> Result<Readings, Fault> {
        if spelling.style == Style::DeepObject {
            return self.deep_object(fields, spelling).map(|reading| reading.into_iter().collect());
        }
        let raws: SmallVec<[&str; 4]> = fields
            .iter_mut()
            .filter(|field| field.name == spelling.name)
            .map(|field| {
                field.taken = true;
                field.raw
            })
            .collect();
        if !spelling.explode {
            return match raws.as_slice() {
                [] => Ok(Readings::new()),
                [raw] => self.whole(raw, spelling),
                _ => Err(Fault::Duplicated),
            };
        }
        if raws.len() > 1 && !spelling.decode.may_be(Type::Array) {
            return Err(Fault::Duplicated);
        }
        self.shapes(
            spelling.decode,
            || match raws.as_slice() {
                [raw] => self.scalar(raw, spelling.decode).map(Some),
                _ => Ok(None),
            },
            || match raws.is_empty() {
                true => Ok(None),
                false => self.array(raws.iter().copied(), spelling.decode).map(Some),
            },
            || self.exploded_object(fields, spelling.decode, is_other),
        )
    }

    /// `form` with `explode`: every property is a field of its own.
    fn exploded_object(
        &self,
        fields: &mut [Field<'_>],
        decode: &Decode,
        is_other: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Reading>, Fault> {
        let mut object: Vec<(String, Reading)> = Vec::new();
        let free = decode.additional.is_some();
        for field in fields.iter_mut() {
            let declared = decode.properties.contains_key(field.name.as_ref());
            if !declared && (!free || is_other(&field.name)) {
                continue;
            }
            field.taken = true;
            self.add_member(&mut object, &field.name, field.raw, decode)?;
        }
        Ok((!object.is_empty()).then_some(Reading::Object(object)))
    }

    /// Adds one `name=value`; a name that stands again must be an array.
    pub(super) fn add_member(
        &self,
        object: &mut Vec<(String, Reading)>,
        name: &str,
        raw: &str,
        decode: &Decode,
    ) -> Result<(), Fault> {
        if object.len() >= MAX_MEMBERS {
            return Err(Fault::TooMany(MAX_MEMBERS));
        }
        let decode = decode.property(name).unwrap_or(&TEXT);
        if !decode.may_be(Type::Array) {
            if object.iter().any(|(other, _)| other == name) {
                return Err(Fault::Duplicated);
            }
            object.push((name.to_owned(), self.scalar(raw, decode)?));
            return Ok(());
        }
        let item = self.scalar(raw, decode.items.as_deref().unwrap_or(&TEXT))?;
        match object.iter_mut().find(|(other, _)| other == name) {
            Some((_, Reading::Array(items))) => items.push(item),
            Some(_) => return Err(Fault::Duplicated),
            None => object.push((name.to_owned(), Reading::Array(vec![item]))),
        }
        Ok(())
    }

    /// `name[a]=1&name[b][c]=2`. OpenAPI defines one level; more levels and `[]` for arrays are read as they are meant.
    fn deep_object(&self, fields: &mut [Field<'_>], spelling: Spelling<'_>) -> Result<Option<Reading>, Fault> {
        let mut object = Vec::new();
        for field in fields.iter_mut() {
            let Some(keys) = field.name.strip_prefix(spelling.name).and_then(bracketed) else {
                continue;
            };
            field.taken = true;
            self.insert_deep(&mut object, &keys, field.raw, spelling.decode)?;
        }
        Ok((!object.is_empty()).then_some(Reading::Object(object)))
    }

    fn insert_deep(
        &self,
        object: &mut Vec<(String, Reading)>,
        keys: &[&str],
        raw: &str,
        decode: &Decode,
    ) -> Result<(), Fault> {
        match keys {
            [] => Err(Fault::Malformed("a property name is missing between brackets")),
            [name] | [name, ""] => self.add_member(object, name, raw, decode),
            [name, rest @ ..] => {
                let inner = decode.property(name).unwrap_or(&TEXT);
                let at = match object.iter().position(|(other, _)| other == name) {
                    Some(at) => at,
                    None => {
                        object.push(((*name).to_owned(), Reading::Object(Vec::new())));
                        object.len() - 1
                    }
                };
                match object.get_mut(at) {
                    Some((_, Reading::Object(members))) => self.insert_deep(members, rest, raw, inner),
                    _ => Err(Fault::Duplicated),
                }
            }
        }
    }
}

/// `[a][b]` as `a`, `b`.
fn bracketed(text: &str) -> Option<SmallVec<[&str; 4]>> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let keys: SmallVec<[&str; 4]> = inside.split("][").collect();
    let clean = keys.iter().all(|key| !key.contains(['[', ']']));
    (clean && keys.first().is_some_and(|key| !key.is_empty())).then_some(keys)
}

/// One text, cleared of what its style puts before the value.
struct Whole<'a> {
    scalar: &'a str,
    /// What arrays and objects are cut from.
    list: &'a str,
}

impl<'a> Whole<'a> {
    fn of(raw: &'a str, spelling: Spelling<'_>) -> Result<Whole<'a>, Fault> {
        match spelling.style {
            Style::Label => {
                let value = raw.strip_prefix('.').ok_or(Fault::Malformed("a `label` value starts with `.`"))?;
                Ok(Whole { scalar: value, list: value })
            }
            Style::Matrix => {
                let list = raw.strip_prefix(';').ok_or(Fault::Malformed("a `matrix` value starts with `;`"))?;
                let named = list.strip_prefix(spelling.name).map(|rest| rest.strip_prefix('=').unwrap_or(rest));
                let exploded_object = spelling.explode && spelling.decode.may_be(Type::Object);
                let scalar = match named {
                    Some(value) => value,
                    None if exploded_object => list,
                    None => return Err(Fault::Malformed("a `matrix` value starts with its name")),
                };
                Ok(Whole { scalar, list: if spelling.explode { list } else { scalar } })
            }
            _ => Ok(Whole { scalar: raw, list: raw }),
        }
    }

    fn array(&self, spelling: Spelling<'_>) -> SmallVec<[&'a str; 8]> {
        let pieces = self.object(spelling);
        if spelling.style == Style::Matrix && spelling.explode {
            let own = |piece: &'a str| {
                piece.strip_prefix(spelling.name).map(|rest| rest.strip_prefix('=').unwrap_or(rest)).unwrap_or(piece)
            };
            return pieces.into_iter().map(own).collect();
        }
        pieces
    }

    fn object(&self, spelling: Spelling<'_>) -> SmallVec<[&'a str; 8]> {
        if self.list.is_empty() {
            return SmallVec::new();
        }
        let delimiters: &[&str] = match (spelling.style, spelling.explode) {
            (Style::Label, true) => &["."],
            (Style::Matrix, true) => &[";"],
            (Style::SpaceDelimited, _) => &["%20", "+", " "],
            (Style::PipeDelimited, _) => &["|", "%7C", "%7c"],
            _ => &[","],
        };
        split(self.list, delimiters)
    }
}

fn split<'a>(text: &'a str, delimiters: &[&str]) -> SmallVec<[&'a str; 8]> {
    let mut pieces: SmallVec<[&str; 8]> = smallvec![];
    let (mut start, mut at) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        match delimiters.iter().find(|delimiter| rest.starts_with(**delimiter)) {
            Some(delimiter) => {
                pieces.push(text.get(start..at).unwrap_or_default());
                at += delimiter.len();
                start = at;
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    pieces.push(text.get(start..).unwrap_or_default());
    pieces
}

/// `a=1&b=2` as fields, names decoded. Empty pieces are skipped (WHATWG URL §5.1).
pub(super) fn fields<'a>(text: &'a str, max: usize, reader: &Reader<'_>) -> Result<Fields<'a>, Fault> {
    let mut fields = Fields::new();
    for piece in text.split('&').filter(|piece| !piece.is_empty()) {
        if fields.len() >= max {
            return Err(Fault::TooMany(max));
        }
        let (name, raw) = piece.split_once('=').unwrap_or((piece, ""));
        fields.push(Field { name: reader.text(name)?, raw, taken: false });
    }
    Ok(fields)
}

/// How a name is told that the client chose.
pub(super) fn name_of_length(name: &str) -> String {
    format!("a name of {}", characters(name.chars().count()))
}
