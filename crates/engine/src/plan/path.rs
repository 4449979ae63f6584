//! One spelling for a path (RFC 3986 §6.2.2): unreserved characters plain, everything else in upper-case escapes,
//! and nothing that two readers could split differently.

/// A path in its canonical spelling. The first byte is `/`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CanonicalPath {
    pub text: String,
    /// Whether `text` holds escapes; without them, decoding is the identity.
    pub escaped: bool,
    /// Whether `text` holds a `;`, which only a `matrix` variable may.
    pub semicolon: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `pchar` without `%` and `;`: stays as it is.
    Plain,
    Slash,
    Semicolon,
    Percent,
    /// Printable but not allowed in a URI; browsers send some of them. Escaped.
    Escape,
    Forbidden,
}

const CLASSES: [Class; 256] = {
    let mut table = [Class::Forbidden; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = match byte as u8 {
            b'/' => Class::Slash,
            b';' => Class::Semicolon,
            b'%' => Class::Percent,
            b'\\' | b'#' | b'?' => Class::Forbidden,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Escape,
            _ => Class::Plain,
        };
        byte += 1;
    }
    table
};

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Forbidden)
}

/// Brings a raw path to its canonical spelling, or says what makes it ambiguous.
pub(crate) fn canonicalise(raw: &str) -> Result<CanonicalPath, &'static str> {
    let mut semicolon = false;
    let mut plain = true;
    for &byte in raw.as_bytes() {
        match class(byte) {
            Class::Plain | Class::Slash => {}
            Class::Semicolon => semicolon = true,
            Class::Percent | Class::Escape => plain = false,
            Class::Forbidden => return Err(forbidden(byte)),
        }
    }
    let (text, escaped) = if plain { (raw.to_owned(), false) } else { normalise(raw)? };
    check_segments(&text)?;
    Ok(CanonicalPath { text, escaped, semicolon })
}

fn forbidden(byte: u8) -> &'static str {
    match byte {
        b'\\' => "the path holds a backslash",
        0..=0x20 | 0x7f => "the path holds a control character or a space",
        _ => "the path holds a character that RFC 3986 does not allow",
    }
}

/// The slow way, for a path with escapes. Returns the canonical text and whether escapes are left in it.
fn normalise(raw: &str) -> Result<(String, bool), &'static str> {
    let mut text = String::with_capacity(raw.len() + 16);
    let mut decoded = Vec::with_capacity(raw.len());
    let mut escaped = false;
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let value = match class(byte) {
            Class::Percent => {
                let digits = (bytes.next().and_then(hex_value), bytes.next().and_then(hex_value));
                let (Some(high), Some(low)) = digits else { return Err("the path holds a malformed escape") };
                high << 4 | low
            }
            Class::Escape => byte,
            _ => {
                text.push(char::from(byte));
                decoded.push(byte);
                continue;
            }
        };
        match value {
            b'/' | b'\\' => return Err("the path holds an encoded slash or backslash"),
            0..=0x1f | 0x7f => return Err("the path holds an encoded control character"),
            _ => {}
        }
        decoded.push(value);
        if is_unreserved(value) {
            text.push(char::from(value));
        } else {
            escaped = true;
            push_escape(&mut text, value);
        }
    }
    let decoded = std::str::from_utf8(&decoded).map_err(|_| "the path is not UTF-8")?;
    if decoded.contains(|c: char| ('\u{80}'..='\u{9f}').contains(&c)) {
        return Err("the path holds an encoded control character");
    }
    Ok((text, escaped))
}

/// No empty segment but the last, and no segment that a reader could take for `.` or `..`.
fn check_segments(text: &str) -> Result<(), &'static str> {
    let mut segments = text.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err("the path holds an empty segment");
        }
        if segment.starts_with('.') && matches!(before_parameters(segment), "." | "..") {
            return Err("the path holds a dot segment");
        }
    }
    Ok(())
}

fn before_parameters(segment: &str) -> &str {
    let plain = segment.split(';').next().unwrap_or(segment);
    plain.split("%3B").next().unwrap_or(plain)
}

pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

pub(super) fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn push_escape(text: &mut String, value: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    text.push('%');
    for digit in [value >> 4, value & 15] {
        text.push(DIGITS.get(usize::from(digit)).copied().unwrap_or('0'));
    }
}

/// Literal text of a template as it stands in a canonical path.
pub(super) fn push_literal(text: &mut String, literal: &str) {
    for &byte in literal.as_bytes() {
        match class(byte) {
            Class::Plain => text.push(char::from(byte)),
            _ => push_escape(text, byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(raw: &str) -> String {
        canonicalise(raw).unwrap().text
    }

    #[test]
    fn equivalent_spellings_become_one() {
        assert_eq!(text("/orders/%61%2D%7e"), "/orders/a-~");
        assert_eq!(text("/a%3ab%2cc"), "/a%3Ab%2Cc");
        assert_eq!(text("/a:b,c"), "/a:b,c");
        assert_eq!(text("/caf%c3%a9"), "/caf%C3%A9");
        assert_eq!(text("/{x}|y"), "/%7Bx%7D%7Cy");
        assert_eq!(text("/a/"), "/a/");
    }

    #[test]
    fn canonical_is_a_fixed_point() {
        for raw in ["/", "/a", "/%41%20%25%2B", "/a%3bb", "/x%7Cy", "/%252F"] {
            let once = text(raw);
            assert_eq!(text(&once), once);
        }
    }

    #[test]
    fn a_doubly_encoded_slash_stays_encoded() {
        assert_eq!(text("/a%252fb"), "/a%252fb");
        assert_eq!(text("/%252e%252e"), "/%252e%252e");
    }

    #[test]
    fn what_readers_could_split_differently_is_refused() {
        for raw in [
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/.",
            "/%2e",
            "/%2e%2E/a",
            "/.%2e",
            "/a/..;x/b",
            "/a/..%3bx/b",
            "/.;",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a b",
            "/a\tb",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%c3",
            "/a%c0%af",
            "/a%ed%a0%80",
            "/a%ff",
            "/é",
            "/a#b",
            "/a?b",
            "/a%c2%85",
        ] {
            assert!(canonicalise(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn names_that_only_start_with_dots_are_kept() {
        for raw in ["/.well-known/x", "/...", "/..a", "/a..", "/.git"] {
            assert_eq!(text(raw), raw);
        }
    }
}
