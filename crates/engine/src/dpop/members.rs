//! The JSON of a proof, strictly: no name stands twice in any object (RFC 7515 §4, RFC 7519 §4), and little fits in.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// More members than any proof has.
const MAX_MEMBERS: usize = 32;

/// One JSON value, as far as a proof's reader tells values apart.
pub(super) enum Item<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Object(Members<'a>),
    Other,
}

/// An object's members, in order.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, Item<'a>)>);

impl<'a> Members<'a> {
    pub fn parse(json: &'a [u8]) -> Option<Members<'a>> {
        match serde_json::from_slice(json).ok()? {
            Item::Object(members) => Some(members),
            _ => None,
        }
    }

    pub fn find(&self, name: &str) -> Option<&Item<'a>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, item)| item)
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.find(name)? {
            Item::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        match self.find(name)? {
            Item::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn object(&self, name: &str) -> Option<&Members<'a>> {
        match self.find(name)? {
            Item::Object(members) => Some(members),
            _ => None,
        }
    }
}

/// Borrows where nothing was escaped.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'de>, D::Error> {
        match Item::deserialize(deserializer)? {
            Item::Text(text) => Ok(Name(text)),
            _ => Err(serde::de::Error::custom("a name that is no text")),
        }
    }
}

impl<'de> Deserialize<'de> for Item<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item<'de>, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON without a doubled name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Item<'de>, E> {
        Ok(Item::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Item<'de>, E> {
        Ok(Item::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Item<'de>, E> {
        Ok(Item::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Item<'de>, E> {
        Ok(Item::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Item<'de>, E> {
        Ok(Item::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item<'de>, E> {
        Ok(Item::Other)
    }

    fn visit_unit<E>(self) -> Result<Item<'de>, E> {
        Ok(Item::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item<'de>, A::Error> {
        // Objects inside are held to the same rules.
        while items.next_element::<Item<'de>>()?.is_some() {}
        Ok(Item::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Item<'de>)> = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            if members.len() == MAX_MEMBERS || members.iter().any(|(known, _)| *known == name) {
                return Err(serde::de::Error::custom("a name stands twice, or there are too many"));
            }
            members.push((name, map.next_value()?));
        }
        Ok(Item::Object(Members(members)))
    }
}
