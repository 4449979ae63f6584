//! Media types and ranges (RFC 9110 §8.3).

use std::borrow::Cow;

/// `type/subtype; name=value …`, split; names in lower case. Borrowed where nothing is quoted.
pub(super) struct MediaType<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: Vec<(String, Cow<'a, str>)>,
}

impl<'a> MediaType<'a> {
    /// `None` where `value` is no media type, or names a parameter twice.
    pub(super) fn parse(value: &'a [u8]) -> Option<MediaType<'a>> {
        let value = std::str::from_utf8(value).ok()?;
        let (essence, rest) = match value.find(';') {
            Some(at) => value.split_at(at),
            None => (value, ""),
        };
        let (kind, subtype) = essence.trim_matches([' ', '\t']).split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        Some(MediaType { kind, subtype, parameters: parameters(rest)? })
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_ref())
    }

    /// `application/json` or anything with the suffix `+json` (RFC 6839 §3.1).
    pub(super) fn is_json(&self) -> bool {
        let suffix = self.subtype.len().checked_sub(5).and_then(|at| self.subtype.get(at..));
        (self.kind.eq_ignore_ascii_case("application") && self.subtype.eq_ignore_ascii_case("json"))
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
    }

    pub(super) fn is_text(&self) -> bool {
        self.kind.eq_ignore_ascii_case("text")
    }

    /// Whether a text in this media type can be read as UTF-8: no charset, or one that is part of it.
    pub(super) fn is_utf8(&self) -> bool {
        self.parameter("charset")
            .is_none_or(|charset| ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known)))
    }
}

/// `; name=value` any number of times. An empty parameter is permitted (RFC 9110 §5.6.6).
pub(super) fn parameters(mut rest: &str) -> Option<Vec<(String, Cow<'_, str>)>> {
    let mut found: Vec<(String, Cow<'_, str>)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Some(found);
        }
        rest = rest.strip_prefix(';')?.trim_start_matches([' ', '\t']);
        if rest.is_empty() || rest.starts_with(';') {
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = parameter_value(after)?;
        let name = name.to_ascii_lowercase();
        if !is_token(&name) || found.iter().any(|(other, _)| *other == name) {
            return None;
        }
        found.push((name, value));
        rest = after;
    }
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return is_token(value).then_some((Cow::Borrowed(value), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A declared media type or range; parameters are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MediaRange {
    /// `None` is `*`.
    kind: Option<String>,
    subtype: Option<String>,
}

impl MediaRange {
    pub(super) fn parse(text: &str) -> Option<MediaRange> {
        let media = MediaType::parse(text.as_bytes())?;
        let part = |text: &str| (text != "*").then(|| text.to_ascii_lowercase());
        Some(MediaRange { kind: part(media.kind), subtype: part(media.subtype) })
    }

    /// How closely the range fits: 2 for the type itself, 1 for `type/*`, 0 for `*/*`; `None` where it does not.
    pub(super) fn fit(&self, media: &MediaType<'_>) -> Option<u8> {
        let same = |range: &Option<String>, part: &str| range.as_ref().map(|range| range.eq_ignore_ascii_case(part));
        match (same(&self.kind, media.kind), same(&self.subtype, media.subtype)) {
            (Some(true), Some(true)) => Some(2),
            (Some(true), None) => Some(1),
            (None, None) => Some(0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_whether_quoted_or_not() {
        let media = MediaType::parse(br#"Text/Plain ; Charset="utf-8" ;; boundary=a'b; x="a\"b""#).unwrap();
        assert!(media.is_text());
        assert_eq!(media.parameter("charset"), Some("utf-8"));
        assert_eq!(media.parameter("boundary"), Some("a'b"));
        assert_eq!(media.parameter("x"), Some("a\"b"));
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        for text in [
            "",
            "json",
            "a/",
            "/b",
            "a/b/c",
            "a/b;c",
            "a/b; c=",
            "a/b; c=\"",
            "a/b; c=1; C=2",
            "a b/c",
            "a/b, c/d",
            "a/b c",
        ] {
            assert!(MediaType::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn json_is_known_by_its_suffix() {
        for text in ["application/json", "APPLICATION/JSON", "application/problem+json", "image/x+JSON"] {
            assert!(MediaType::parse(text.as_bytes()).unwrap().is_json(), "{text}");
        }
        for text in ["text/json", "application/jsonx", "application/xjson", "a/é"] {
            assert!(!MediaType::parse(text.as_bytes()).is_some_and(|media| media.is_json()), "{text}");
        }
    }

    #[test]
    fn ranges_fit_by_specificity() {
        let media = MediaType::parse(b"image/PNG; q=1").unwrap();
        let fit = |range: &str| MediaRange::parse(range).unwrap().fit(&media);
        assert_eq!(fit("image/png"), Some(2));
        assert_eq!(fit("image/*"), Some(1));
        assert_eq!(fit("*/*"), Some(0));
        assert_eq!(fit("text/*"), None);
        assert_eq!(fit("image/gif"), None);
    }
}
