//! How the validators see an instance: a borrowed JSON value and a meter that every step of the work is charged to.
//!
//! The meter is what bounds validation. `anyOf` and `oneOf` over a recursive schema make the number of visits
//! exponential in the depth of the instance, above all when errors are collected, and a body of a few hundred bytes
//! would be enough. Once the meter is empty every container looks like a scalar, so the work winds down at once, and
//! the caller throws the answer away (`Meter::is_empty`).

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::ControlFlow;

use jsonschema::json::{Array, Json, Node, NodeIdentity, Object};
use jsonschema::types::JsonType;
use serde_json::{Map, Number, Value};

/// What one validation may still do. One unit is a visit to a container or one of its members.
pub(super) struct Meter {
    left: Cell<u64>,
    /// Whether a failure is being explained: values are then withheld, so that none is copied or shown.
    explaining: bool,
}

impl Meter {
    pub(super) fn new(units: u64) -> Meter {
        Meter { left: Cell::new(units), explaining: false }
    }

    pub(super) fn explaining(units: u64) -> Meter {
        Meter { left: Cell::new(units), explaining: true }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.get() == 0
    }

    /// Takes `units`, or all that is left and says no.
    #[inline]
    fn spend(&self, units: u64) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(units));
        left > units
    }
}

/// The instance a validation starts with: an object whose only member is `key`, holding `value`.
/// It exists as this view only; see `schema` for why the root schema wants it.
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a Value,
    pub(super) meter: &'a Meter,
}

/// The representation's marker type.
pub(super) struct View;

#[derive(Clone, Copy)]
pub(super) enum ViewNode<'a> {
    Entry(&'a Entry<'a>),
    Value(&'a Value, &'a Meter),
    /// A property name, as `propertyNames` sees it.
    Name(&'a str),
}

impl Json for View {
    type Node<'a> = ViewNode<'a>;
    type PreparedKey = String;
    type StringBuffer = ();

    // As for `serde_json`: its map is a B-tree, and one pass over few members beats several searches.
    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(ViewNode<'_>) -> T) -> T {
        f(ViewNode::Name(string))
    }
}

impl<'a> Node<'a, View> for ViewNode<'a> {
    type Object = ViewObject<'a>;
    type Array = ViewArray<'a>;
    type Number = &'a Number;

    #[inline]
    fn as_object(&self) -> Option<ViewObject<'a>> {
        match *self {
            ViewNode::Value(Value::Object(members), meter) if meter.spend(1) => {
                Some(ViewObject::Members(members, meter))
            }
            ViewNode::Entry(entry) => Some(ViewObject::Entry(entry)),
            _ => None,
        }
    }

    #[inline]
    fn as_array(&self) -> Option<ViewArray<'a>> {
        match *self {
            ViewNode::Value(Value::Array(items), meter) if meter.spend(1) => Some(ViewArray { items, meter }),
            _ => None,
        }
    }

    #[inline]
    fn as_string(&self) -> Option<Cow<'a, str>> {
        match *self {
            ViewNode::Value(Value::String(text), meter) if meter.spend(1 + text.len() as u64 / 64) => {
                Some(Cow::Borrowed(text))
            }
            ViewNode::Name(text) => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }

    #[inline]
    fn as_number(&self) -> Option<&'a Number> {
        match *self {
            ViewNode::Value(Value::Number(number), _) => Some(number),
            _ => None,
        }
    }

    #[inline]
    fn as_boolean(&self) -> Option<bool> {
        match *self {
            ViewNode::Value(Value::Bool(boolean), _) => Some(*boolean),
            _ => None,
        }
    }

    #[inline]
    fn is_null(&self) -> bool {
        matches!(self, ViewNode::Value(Value::Null, _))
    }

    #[inline]
    fn json_type(&self) -> JsonType {
        match self {
            ViewNode::Entry(_) => JsonType::Object,
            ViewNode::Name(_) => JsonType::String,
            ViewNode::Value(value, _) => match value {
                Value::Null => JsonType::Null,
                Value::Bool(_) => JsonType::Boolean,
                Value::Number(_) => JsonType::Number,
                Value::String(_) => JsonType::String,
                Value::Array(_) => JsonType::Array,
                Value::Object(_) => JsonType::Object,
            },
        }
    }

    #[inline]
    fn string_length(&self) -> Option<u64> {
        self.as_string().map(|text| text.chars().count() as u64)
    }

    /// A code point takes one to four bytes, which decides most lengths without counting.
    #[inline]
    fn string_length_within(&self, min: u64, max: u64) -> Option<bool> {
        let text = self.as_string()?;
        let most = text.len() as u64;
        let fewest = most.div_ceil(4);
        if most < min || fewest > max {
            return Some(false);
        }
        if min <= fewest && most <= max {
            return Some(true);
        }
        Some((min..=max).contains(&(text.chars().count() as u64)))
    }

    fn equals_value(&self, expected: &Value) -> bool {
        match self {
            ViewNode::Value(value, meter) => compare(value, expected, meter).is_eq(),
            ViewNode::Name(text) => expected.as_str() == Some(text),
            ViewNode::Entry(_) => false,
        }
    }

    /// Only errors and annotations ask for it. While a failure is explained the answer is `null`: the explanation
    /// reads the instance by its position, and nothing of it can leak through a message.
    fn to_value(&self) -> Cow<'a, Value> {
        match *self {
            ViewNode::Value(value, meter) if !meter.explaining => Cow::Borrowed(value),
            ViewNode::Value(..) | ViewNode::Entry(_) => Cow::Borrowed(&Value::Null),
            ViewNode::Name(text) => Cow::Owned(Value::String(text.to_owned())),
        }
    }

    #[inline]
    fn identity(&self) -> Option<NodeIdentity> {
        Some(match self {
            ViewNode::Value(value, _) => NodeIdentity::new(std::ptr::from_ref::<Value>(value) as usize),
            ViewNode::Entry(entry) => NodeIdentity::tagged(std::ptr::from_ref::<Entry<'_>>(entry) as usize, 1),
            ViewNode::Name(text) => NodeIdentity::tagged(text.as_ptr() as usize, 2),
        })
    }
}

/// A total order whose equality is JSON Schema's: numbers by value, objects without order of members.
fn compare(left: &Value, right: &Value, meter: &Meter) -> Ordering {
    if !meter.spend(1) {
        return Ordering::Equal;
    }
    match (left, right) {
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => left
            .len()
            .cmp(&right.len())
            .then_with(|| first_difference(left.iter().zip(right).map(|(left, right)| compare(left, right, meter)))),
        // Members are sorted by name: the map is a B-tree (a test holds serde_json to that).
        (Value::Object(left), Value::Object(right)) => left.len().cmp(&right.len()).then_with(|| {
            first_difference(left.iter().zip(right).map(|((left_name, left), (right_name, right))| {
                left_name.cmp(right_name).then_with(|| compare(left, right, meter))
            }))
        }),
        (left, right) => rank(left).cmp(&rank(right)),
    }
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// Two whole numbers compare exactly; a whole number and a fraction are never equal as doubles either.
fn compare_numbers(left: &Number, right: &Number) -> Ordering {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// The exact integer a number is, whether written as one or not.
pub(super) fn integer(number: &Number) -> Option<i128> {
    if let Some(value) = number.as_i64() {
        return Some(value.into());
    }
    if let Some(value) = number.as_u64() {
        return Some(value.into());
    }
    let value = number.as_f64()?;
    // Every double of that size is whole, and the cast is exact below 2^127.
    (value.fract() == 0.0 && value.abs() < 1e38).then_some(value as i128)
}

pub(super) enum ViewObject<'a> {
    Members(&'a Map<String, Value>, &'a Meter),
    Entry(&'a Entry<'a>),
}

impl<'a> Object<'a, View> for ViewObject<'a> {
    type Node = ViewNode<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    #[inline]
    fn len(&self) -> usize {
        match self {
            ViewObject::Members(members, _) => members.len(),
            ViewObject::Entry(_) => 1,
        }
    }

    #[inline]
    fn get(&self, key: &String) -> Option<ViewNode<'a>> {
        match self {
            ViewObject::Members(members, meter) => members.get(key).map(|value| ViewNode::Value(value, meter)),
            ViewObject::Entry(entry) => (entry.key == key).then_some(ViewNode::Value(entry.value, entry.meter)),
        }
    }

    #[inline]
    fn members(&self) -> Members<'a> {
        match *self {
            ViewObject::Members(members, meter) => Members::Of(members.iter(), meter),
            ViewObject::Entry(entry) => Members::Entry(Some(entry)),
        }
    }

    fn try_for_each_name_node<B>(
        &self,
        (): &mut (),
        mut f: impl FnMut(ViewNode<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (name, _) in self.members() {
            f(ViewNode::Name(name))?;
        }
        ControlFlow::Continue(())
    }
}

pub(super) enum Members<'a> {
    Of(serde_json::map::Iter<'a>, &'a Meter),
    Entry(Option<&'a Entry<'a>>),
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, ViewNode<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Members::Of(members, meter) => {
                let (name, value) = members.next()?;
                meter.spend(1).then_some((name.as_str(), ViewNode::Value(value, meter)))
            }
            Members::Entry(entry) => {
                let entry = entry.take()?;
                Some((entry.key, ViewNode::Value(entry.value, entry.meter)))
            }
        }
    }
}

pub(super) struct ViewArray<'a> {
    items: &'a [Value],
    meter: &'a Meter,
}

impl<'a> Array<'a, View> for ViewArray<'a> {
    type Node = ViewNode<'a>;
    type ElementsIter = Elements<'a>;

    #[inline]
    fn len(&self) -> usize {
        self.items.len()
    }

    #[inline]
    fn elements(&self) -> Elements<'a> {
        Elements { items: self.items.iter(), meter: self.meter }
    }

    /// Sorting first makes this `n log n` whatever the items are.
    fn is_unique(&self) -> bool {
        let mut items: Vec<&Value> = self.items.iter().collect();
        items.sort_unstable_by(|left, right| compare(left, right, self.meter));
        items.windows(2).all(|pair| match pair {
            [left, right] => compare(left, right, self.meter).is_ne(),
            _ => true,
        })
    }
}

pub(super) struct Elements<'a> {
    items: std::slice::Iter<'a, Value>,
    meter: &'a Meter,
}

impl<'a> Iterator for Elements<'a> {
    type Item = ViewNode<'a>;

    #[inline]
    fn next(&mut self) -> Option<ViewNode<'a>> {
        let value = self.items.next()?;
        self.meter.spend(1).then_some(ViewNode::Value(value, self.meter))
    }
}
