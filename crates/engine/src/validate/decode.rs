//! Text into JSON values, as the bundle's `decode` trees say.
//!
//! Parameters and form fields carry no types: `5` may be a number or a string. A tree names the types to try, in
//! order. Each element takes the first type that its text can be read as; where the schema then objects to an element,
//! that element is read as its next type and the schema asked again.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::schema::Located;
use super::{SchemaId, Schemas, Sizes, Violation};

/// How often the schema is asked again for one parameter or form.
const MAX_ATTEMPTS: usize = 32;

/// The bundle's `decode`: how text becomes JSON.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decode {
    /// In the order to try; none means `string`.
    #[serde(default)]
    pub(super) types: Vec<Type>,
    #[serde(default)]
    pub(super) items: Option<Box<Decode>>,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, Decode>,
    #[serde(default)]
    pub(super) additional: Option<Box<Decode>>,
}

/// What a text may be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Null,
    Array,
    Object,
}

impl Decode {
    /// The types to try.
    pub(super) fn types(&self) -> &[Type] {
        if self.types.is_empty() { &[Type::String] } else { &self.types }
    }

    pub(super) fn may_be(&self, kind: Type) -> bool {
        self.types().contains(&kind)
    }

    /// How the property `name` is read: declared, or any other.
    pub(super) fn property(&self, name: &str) -> Option<&Decode> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}

/// The tree of an absent `decode`: any text is a string.
pub(super) static TEXT: Decode =
    Decode { types: Vec::new(), items: None, properties: BTreeMap::new(), additional: None };

/// A value whose scalars may still be read in more than one way.
pub(super) enum Reading {
    Scalar(Scalar),
    Array(Vec<Reading>),
    Object(Vec<(String, Reading)>),
    /// Already JSON, or bytes: there is only one way.
    Fixed(Value),
}

/// The ways to read one text. Never empty.
pub(super) struct Scalar {
    ways: SmallVec<[Value; 2]>,
    chosen: usize,
}

impl Reading {
    /// `text` as each scalar type of `decode` that can spell it; where none can, as a string, so that the schema
    /// says what is wrong.
    pub(super) fn scalar(text: &str, decode: &Decode, sizes: &Sizes) -> Reading {
        let mut ways: SmallVec<[Value; 2]> =
            decode.types().iter().filter_map(|kind| read(text, *kind, sizes)).collect();
        if ways.is_empty() {
            ways.push(Value::String(text.to_owned()));
        }
        Reading::Scalar(Scalar { ways, chosen: 0 })
    }

    fn value(&self) -> Value {
        match self {
            Reading::Scalar(scalar) => scalar.ways.get(scalar.chosen).cloned().unwrap_or_default(),
            Reading::Array(items) => Value::Array(items.iter().map(Reading::value).collect()),
            Reading::Object(members) => Value::Object(
                members.iter().map(|(name, member)| (name.clone(), member.value())).collect::<Map<_, _>>(),
            ),
            Reading::Fixed(value) => value.clone(),
        }
    }

    /// Reads the scalar at `pointer` in its next way. Says whether there was one.
    fn advance_at(&mut self, pointer: &str) -> bool {
        let Some(rest) = pointer.strip_prefix('/') else {
            return pointer.is_empty() && matches!(self, Reading::Scalar(_)) && self.advance();
        };
        let (segment, rest) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let next = match self {
            Reading::Array(items) => segment.parse().ok().and_then(|index: usize| items.get_mut(index)),
            Reading::Object(members) => {
                let name = segment.replace("~1", "/").replace("~0", "~");
                members.iter_mut().find(|(member, _)| *member == name).map(|(_, reading)| reading)
            }
            _ => None,
        };
        next.is_some_and(|reading| reading.advance_at(rest))
    }

    /// Reads every scalar that has one in its next way. Says whether there was any.
    fn advance(&mut self) -> bool {
        match self {
            Reading::Scalar(scalar) => {
                let more = scalar.chosen + 1 < scalar.ways.len();
                scalar.chosen += usize::from(more);
                more
            }
            Reading::Array(items) => items.iter_mut().map(Reading::advance).filter(|more| *more).count() > 0,
            Reading::Object(members) => {
                members.iter_mut().map(|(_, member)| member.advance()).filter(|more| *more).count() > 0
            }
            Reading::Fixed(_) => false,
        }
    }
}

/// Whether some way to read `reading` is valid. The violation is that of the first way.
pub(super) fn settle(mut reading: Reading, schema: SchemaId, schemas: &Schemas) -> Result<(), Violation> {
    let mut first = None;
    for _ in 0..MAX_ATTEMPTS {
        let Err(located) = schemas.check_located(schema, &reading.value()) else {
            return Ok(());
        };
        let Located { pointer, violation } = *located;
        let exhausted = violation.is_exhaustion();
        first.get_or_insert(violation);
        if exhausted || !(reading.advance_at(&pointer) || reading.advance()) {
            break;
        }
    }
    first.map_or(Ok(()), Err)
}

/// `text` as a `kind`, or `None` where it does not spell one.
///
/// Numbers are spelled as in JSON; a whole number must fit 64 bits and a fraction a double. Null is the empty text or
/// `null`. Arrays and objects are no scalars.
fn read(text: &str, kind: Type, sizes: &Sizes) -> Option<Value> {
    match kind {
        Type::String => Some(Value::String(text.to_owned())),
        Type::Integer => read_integer(text, sizes),
        Type::Number => read_integer(text, sizes).or_else(|| read_fraction(text, sizes)),
        Type::Boolean => match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        Type::Null => (text.is_empty() || text == "null").then_some(Value::Null),
        Type::Array | Type::Object => None,
    }
}

fn read_integer(text: &str, sizes: &Sizes) -> Option<Value> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = digits == "0" || (digits.starts_with(|c: char| ('1'..='9').contains(&c)));
    if !canonical || text.len() > sizes.max_number_chars || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<i64>().map(Value::from).ok().or_else(|| text.parse::<u64>().map(Value::from).ok())
}

fn read_fraction(text: &str, sizes: &Sizes) -> Option<Value> {
    let spelled = |byte: u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    // Only with a fraction or an exponent: a whole number beyond 64 bits is not rounded.
    let fractional = text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    if !fractional || text.len() > sizes.max_number_chars || !text.bytes().all(spelled) {
        return None;
    }
    serde_json::from_str(text).ok().filter(Value::is_number)
}

/// Names and values of an object spelled as one text: `a,1,b,2`. `None` for an odd number of pieces.
pub(super) fn pairs<'a>(pieces: &[&'a str]) -> Option<Vec<(&'a str, &'a str)>> {
    pieces.len().is_multiple_of(2).then(|| {
        let pair = |pair: &[&'a str]| match pair {
            [name, value] => Some((*name, *value)),
            _ => None,
        };
        pieces.chunks(2).filter_map(pair).collect()
    })
}
