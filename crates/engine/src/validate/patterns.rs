//! Patterns that start with look-ahead, which the linear-time engine does not have.
//!
//! `^(?=A)(?!B)C` holds exactly where `^(?:A)` and `^(?:C)` match and `^(?:B)` does not: look-ahead at the start of an
//! anchored pattern consumes nothing, so each part is searched alone, in linear time. Password and name rules are
//! written like that. Look-ahead anywhere else, look-behind and back-references stay refused.
//!
//! Such a `pattern` is moved to a keyword of ours before the schemas are compiled; violations name it `pattern` again.

use jsonschema::json::Node as _;
use jsonschema::paths::Location;
use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::schema::{Options, base_options};
use super::view::{View, ViewNode};

/// Where a `pattern` with look-ahead is moved.
pub(super) const KEYWORD: &str = "x-stockade-pattern";

/// Moves every `pattern` of `schema` and its subschemas that starts with look-ahead.
pub(super) fn move_patterns(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    if members.get("pattern").and_then(Value::as_str).is_some_and(|pattern| split(pattern).is_some())
        && let Some(pattern) = members.remove("pattern")
    {
        members.insert(KEYWORD.to_owned(), pattern);
    }
    for (keyword, value) in members.iter_mut() {
        match keyword.as_str() {
            "properties" | "patternProperties" | "dependentSchemas" | "dependencies" | "$defs" | "definitions" => {
                value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(move_patterns);
            }
            "items"
            | "prefixItems"
            | "additionalItems"
            | "unevaluatedItems"
            | "contains"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "propertyNames"
            | "allOf"
            | "anyOf"
            | "oneOf"
            | "not"
            | "if"
            | "then"
            | "else" => match value {
                Value::Array(schemas) => schemas.iter_mut().for_each(move_patterns),
                schema => move_patterns(schema),
            },
            _ => {}
        }
    }
}

/// Adds the keyword that patterns are moved to.
pub(super) fn with_moved_patterns(options: Options<'_>, draft: Draft) -> Options<'_> {
    options.with_keyword(KEYWORD, move |_: &Map<String, Value>, pattern: &Value, _: Location| {
        let keyword: Box<dyn for<'i> Keyword<'i, View>> = Box::new(Conjunction::build(pattern, draft)?);
        Ok(keyword)
    })
}

/// The parts of a pattern: whether each must match or must not.
struct Conjunction(Vec<(bool, Validator<View>)>);

impl Conjunction {
    fn build(pattern: &Value, draft: Draft) -> Result<Conjunction, ValidationError<'static>> {
        let pattern = pattern.as_str().unwrap_or_default();
        let build = |(wanted, part): (bool, String)| {
            let built = base_options(draft).build(&json!({"pattern": part}));
            built.map(|validator| (wanted, validator)).map_err(|_| ValidationError::schema(refusal(pattern)))
        };
        split(pattern).unwrap_or_default().into_iter().map(build).collect::<Result<_, _>>().map(Conjunction)
    }
}

/// Why a pattern is not taken.
pub(super) fn refusal(pattern: &str) -> String {
    format!(
        "the regular expression `{pattern}` cannot be used: it is malformed, too large, or needs look-around or \
         back-references, which do not run in linear time"
    )
}

impl<'i> Keyword<'i, View> for Conjunction {
    fn validate(&self, instance: ViewNode<'i>) -> Result<(), ValidationError<'i>> {
        if Keyword::<View>::is_valid(self, instance) { Ok(()) } else { Err(ValidationError::custom("pattern")) }
    }

    fn is_valid(&self, instance: ViewNode<'i>) -> bool {
        !instance.is_string() || self.0.iter().all(|(wanted, part)| part.is_valid(instance) == *wanted)
    }
}

/// The parts of a pattern that starts with look-ahead; `None` for any other.
fn split(pattern: &str) -> Option<Vec<(bool, String)>> {
    // Without `^` in front, a first look-ahead that is anchored itself anchors the whole.
    let mut rest = match pattern.strip_prefix('^') {
        Some(rest) => rest,
        None if pattern.starts_with("(?=^") => pattern,
        None => return None,
    };
    let mut parts = Vec::new();
    while let Some((wanted, inside)) = rest
        .strip_prefix("(?=")
        .map(|inside| (true, inside))
        .or_else(|| rest.strip_prefix("(?!").map(|inside| (false, inside)))
    {
        let end = top_level(inside, ')')?;
        parts.push((wanted, format!("^(?:{})", inside.get(..end)?)));
        rest = inside.get(end + 1..)?;
        if rest.starts_with(['*', '+', '?', '{']) {
            return None;
        }
    }
    if parts.is_empty() || top_level(rest, '|').is_some() {
        return None;
    }
    if !rest.is_empty() {
        parts.push((true, format!("^(?:{rest})")));
    }
    Some(parts)
}

/// The first `wanted` outside of groups, classes and escapes.
fn top_level(pattern: &str, wanted: char) -> Option<usize> {
    let (mut depth, mut in_class, mut escaped) = (0_usize, false, false);
    for (at, character) in pattern.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            _ if in_class => {}
            _ if depth == 0 && character == wanted => return Some(at),
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ahead_at_the_start_is_split_off() {
        let parts = split(r"^(?=.*[)\]])(?!(?:a|b)\))c|d$");
        assert_eq!(parts, None, "the alternative is not anchored");
        let parts = split(r"^(?=.*[)\]])(?!(?:a|b)\))(c|d)$").unwrap();
        let parts: Vec<(bool, &str)> = parts.iter().map(|(wanted, part)| (*wanted, part.as_str())).collect();
        assert_eq!(parts, [(true, r"^(?:.*[)\]])"), (false, r"^(?:(?:a|b)\))"), (true, "^(?:(c|d)$)")]);
    }

    #[test]
    fn other_patterns_are_left_alone() {
        for pattern in ["", "^a", "(?=a)b", "a(?=b)", "^(?=a)*b", "^(?=a", "(?!^a)b", "^(?:a)(?=b)", "^(?<=a)b"] {
            assert_eq!(split(pattern), None, "{pattern}");
        }
    }
}
