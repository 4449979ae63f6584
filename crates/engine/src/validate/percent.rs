//! Percent-decoding, exactly once and without guessing (RFC 3986 §2.1).

use std::borrow::Cow;

/// Whether `+` is a space: in queries and forms it is (WHATWG URL §5.1), elsewhere it is itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Plus {
    Space,
    Literal,
}

/// Why a text cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PercentError {
    /// `%` without two hexadecimal digits.
    Escape,
    Utf8,
}

impl PercentError {
    pub(super) fn evidence(self) -> &'static str {
        match self {
            PercentError::Escape => "a `%` is not followed by two hexadecimal digits",
            PercentError::Utf8 => "the decoded text is not UTF-8",
        }
    }
}

/// Decodes `text`, without a copy where nothing is encoded.
pub(super) fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, PercentError> {
    let encoded = |byte: &u8| *byte == b'%' || (plus == Plus::Space && *byte == b'+');
    if !text.as_bytes().iter().any(encoded) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = bytes.next().and_then(hexadecimal).ok_or(PercentError::Escape)?;
                let low = bytes.next().and_then(hexadecimal).ok_or(PercentError::Escape)?;
                high << 4 | low
            }
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| PercentError::Utf8)
}

fn hexadecimal(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_exactly_once() {
        assert_eq!(decode("a%2520b", Plus::Literal).unwrap(), "a%20b");
        assert_eq!(decode("a+b%2B", Plus::Space).unwrap(), "a b+");
        assert_eq!(decode("a+b", Plus::Literal).unwrap(), "a+b");
        assert_eq!(decode("%C3%a9", Plus::Literal).unwrap(), "é");
    }

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(decode("plain", Plus::Space), Ok(Cow::Borrowed("plain"))));
    }

    #[test]
    fn bad_escapes_are_refused() {
        for text in ["%", "%4", "%zz", "a%4", "%%41", "%+1", "% 41"] {
            assert_eq!(decode(text, Plus::Space), Err(PercentError::Escape), "{text}");
        }
        for text in ["%ff", "%c0%af", "%ed%a0%80", "%f5%80%80%80", "%c3"] {
            assert_eq!(decode(text, Plus::Space), Err(PercentError::Utf8), "{text}");
        }
    }
}
