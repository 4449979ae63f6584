//! JSON texts into values, strictly (RFC 8259).
//!
//! Two passes. The first only looks: UTF-8, and without allocating anything the depth, the number of values, the
//! length of numbers. The second is serde_json, into a visitor that refuses what serde_json alone would accept:
//! a name twice in one object (compared after unescaping) and strings over the limit. serde_json refuses trailing
//! bytes, a byte order mark, lone surrogates and numbers beyond a double.
//!
//! Numbers: a whole number written without fraction and exponent must fit 64 bits (signed or unsigned), so that
//! no bound is ever compared with a rounded value; a larger one is refused (`body_too_complex`). Any other number is
//! the nearest double.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use memchr::memchr2;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::{Refusal, Sizes};
use crate::decision::Reason;

/// serde_json's own recursion limit, which is not lifted: a larger `max_json_depth` has no effect.
const MAX_DEPTH: usize = 127;

/// Parses one JSON text, which is the whole of `bytes`.
pub(crate) fn parse_json(bytes: &[u8], sizes: &Sizes) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| malformed(format!("invalid UTF-8 after {} bytes", error.valid_up_to())))?;
    survey(text.as_bytes(), sizes)?;
    let fault = Cell::new(None);
    let seed = Seed { fault: &fault, max_string_bytes: sizes.max_json_string_bytes };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| match fault.get() {
        Some(Fault::DuplicateKey) => Refusal::new(
            Reason::BodyDuplicateKey,
            format!("a name stands twice in one object, before {}", place(&error)),
        ),
        Some(Fault::LongString) => {
            Refusal::new(Reason::BodyTooComplex, "a string is longer than `max_json_string_bytes`")
        }
        // Only the syntax errors of serde_json itself are left; they name positions and what was expected, no input.
        None => malformed(error.to_string()),
    })
}

fn malformed(evidence: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Reason::BodyMalformed, evidence)
}

fn place(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

/// Bounds the text before anything is built from it. Malformed texts may pass: the parser refuses them.
fn survey(bytes: &[u8], sizes: &Sizes) -> Result<(), Refusal> {
    let max_depth = sizes.max_json_depth.min(MAX_DEPTH);
    let mut depth = 0_usize;
    // One value, and one more for each comma and each container: never fewer than there are.
    let mut nodes = 1_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                nodes += 1;
                if depth > max_depth {
                    return Err(Refusal::new(Reason::BodyTooDeep, format!("deeper than {max_depth} levels")));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => nodes += 1,
            b'-' | b'0'..=b'9' => {
                let number = number_at(bytes, at - 1);
                survey_number(number, sizes)?;
                at = at - 1 + number.len();
            }
            _ => {}
        }
        if nodes > sizes.max_json_nodes {
            return Err(Refusal::new(Reason::BodyTooComplex, format!("more than {} values", sizes.max_json_nodes)));
        }
    }
    Ok(())
}

/// The position after the quotation mark that ends the string which starts at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match memchr2(b'"', b'\\', rest) {
            Some(found) if rest.get(found) == Some(&b'"') => return at + found + 1,
            Some(found) => at += found + 2,
            None => return bytes.len(),
        }
    }
}

fn number_at(bytes: &[u8], start: usize) -> &[u8] {
    let rest = bytes.get(start..).unwrap_or_default();
    let length = rest
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        .unwrap_or(rest.len());
    rest.get(..length).unwrap_or_default()
}

fn survey_number(number: &[u8], sizes: &Sizes) -> Result<(), Refusal> {
    if number.len() > sizes.max_number_chars {
        return Err(Refusal::new(
            Reason::BodyTooComplex,
            format!("a number is longer than {} characters", sizes.max_number_chars),
        ));
    }
    // Up to 18 digits always fit.
    if number.len() > 18 && number.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-')) {
        let text = std::str::from_utf8(number).unwrap_or_default();
        if text.parse::<i64>().is_err() && text.parse::<u64>().is_err() {
            return Err(Refusal::new(Reason::BodyTooComplex, "a whole number does not fit 64 bits"));
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Fault {
    DuplicateKey,
    LongString,
}

/// Deserializes one value; `fault` tells why it did not, where the reason is ours.
#[derive(Clone, Copy)]
struct Seed<'f> {
    fault: &'f Cell<Option<Fault>>,
    max_string_bytes: usize,
}

impl Seed<'_> {
    fn fail<E: serde::de::Error>(self, fault: Fault) -> E {
        self.fault.set(Some(fault));
        E::custom("")
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    #[inline]
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        if value.len() > self.max_string_bytes {
            return Err(self.fail(Fault::LongString));
        }
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.len() > self.max_string_bytes {
                return Err(self.fail(Fault::LongString));
            }
            match object.entry(name) {
                Entry::Occupied(_) => return Err(self.fail(Fault::DuplicateKey)),
                Entry::Vacant(entry) => entry.insert(members.next_value_seed(self)?),
            };
        }
        Ok(Value::Object(object))
    }
}
