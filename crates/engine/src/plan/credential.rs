//! Where credentials stand in a request, and what they look like (`docs/contracts.md` §8).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;

use super::path::hex_value;
use crate::request::Headers;

/// `stk_xx_`, 43 characters of randomness, 6 of checksum.
const OWN_LENGTH: usize = 7 + 43 + 6;
const CHECKSUM_LENGTH: usize = 6;
const OWN_PREFIX: &str = "stk_";
pub(crate) const ACCESS_TOKEN_PREFIX: &str = "stk_at_";
pub(crate) const API_KEY_PREFIX: &str = "stk_ak_";

/// How an access token is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Bearer,
    /// RFC 9449 §7.1: with a proof of possession.
    Dpop,
}

/// What `Authorization` holds.
pub(super) enum Authorization<'h> {
    Absent,
    /// Another scheme.
    Other,
    Malformed,
    Token(Scheme, &'h str),
}

/// Reads `Authorization: Bearer` (RFC 6750 §2.1) and `DPoP` (RFC 9449 §7.1); schemes have no case (RFC 9110 §11.1).
pub(super) fn authorization<'h>(headers: &'h dyn Headers) -> Authorization<'h> {
    let Some(value) = headers.first("authorization") else { return Authorization::Absent };
    let Some(scheme) = scheme(value) else { return Authorization::Other };
    let token = value.get(scheme.name().len()..).unwrap_or_default();
    match std::str::from_utf8(token.trim_ascii_start()) {
        Ok(token) if is_b64token(token) => Authorization::Token(scheme, token),
        _ => Authorization::Malformed,
    }
}

fn scheme(value: &[u8]) -> Option<Scheme> {
    [Scheme::Bearer, Scheme::Dpop].into_iter().find(|scheme| {
        let name = scheme.name().as_bytes();
        value.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && matches!(value.get(name.len()), None | Some(b' '))
    })
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Bearer => "Bearer",
            Scheme::Dpop => "DPoP",
        }
    }
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// Whether a credential may be what it claims: one of ours has the right kind and checksum, any other is visible ASCII.
pub(super) fn is_plausible(secret: &str, own_prefix: &str) -> bool {
    if secret.starts_with(OWN_PREFIX) {
        return secret.starts_with(own_prefix) && checksum_holds(secret);
    }
    !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic())
}

/// CRC-32 of everything before it, as base64url of its four bytes.
fn checksum_holds(secret: &str) -> bool {
    if secret.len() != OWN_LENGTH {
        return false;
    }
    let Some((body, checksum)) = secret.split_at_checked(OWN_LENGTH - CHECKSUM_LENGTH) else { return false };
    let mut random = [0; 33];
    let well_formed = body.get(7..).is_some_and(|text| URL_SAFE_NO_PAD.decode_slice(text, &mut random).is_ok());
    let mut expected = [0; CHECKSUM_LENGTH];
    let written = URL_SAFE_NO_PAD.encode_slice(crc32(body.as_bytes()).to_be_bytes(), &mut expected);
    well_formed && written.is_ok() && checksum.as_bytes() == expected
}

/// CRC-32 of ISO 3309 (reflected, polynomial 0xEDB88320), a byte at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    let entry = |crc: u32| TABLE.get((crc & 0xff) as usize).copied().unwrap_or_default();
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ entry(crc ^ u32::from(byte)))
}

/// A value that stands once, more than once, or not at all.
pub(super) enum Presented<T> {
    Absent,
    Once(T),
    Several,
}

impl<T> Presented<T> {
    fn add(self, value: T) -> Presented<T> {
        match self {
            Presented::Absent => Presented::Once(value),
            _ => Presented::Several,
        }
    }
}

/// The header `name` (lower case).
pub(super) fn in_header<'h>(headers: &'h dyn Headers, name: &str) -> Presented<Cow<'h, str>> {
    match headers.count(name) {
        0 => Presented::Absent,
        1 => Presented::Once(headers.first(name).map(String::from_utf8_lossy).unwrap_or_default()),
        _ => Presented::Several,
    }
}

/// The cookie `name`, over all `Cookie` fields (RFC 6265 §4.2.1; names have case).
pub(super) fn in_cookie<'h>(headers: &'h dyn Headers, name: &str) -> Presented<Cow<'h, str>> {
    let mut found = Presented::Absent;
    if headers.count("cookie") > 1 {
        headers.each(&mut |field, value| {
            if field == "cookie" {
                let owned = String::from_utf8_lossy(value).into_owned();
                for value in cookie_values(&owned, name) {
                    found = std::mem::replace(&mut found, Presented::Absent).add(Cow::Owned(value.to_owned()));
                }
            }
            true
        });
        return found;
    }
    let Some(Ok(line)) = headers.first("cookie").map(std::str::from_utf8) else { return found };
    for value in cookie_values(line, name) {
        found = found.add(Cow::Borrowed(value));
    }
    found
}

fn cookie_values<'a>(line: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    line.split(';').filter_map(move |pair| {
        let (key, value) = pair.trim_ascii().split_once('=')?;
        (key.trim_ascii_end() == name).then(|| unquoted(value.trim_ascii()))
    })
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// The query parameter `name`, decoded as a form has it (`+` is a space).
pub(super) fn in_query<'h>(query: Option<&'h str>, name: &str) -> Presented<Cow<'h, str>> {
    let mut found = Presented::Absent;
    for pair in query.unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if is_spelling_of(key, name) {
            found = found.add(decoded(value));
        }
    }
    found
}

fn decoded(value: &str) -> Cow<'_, str> {
    match value.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        false => Cow::Borrowed(value),
        true => Cow::Owned(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned()),
    }
}

/// Whether `raw`, once decoded, is `name`; without building it.
fn is_spelling_of(raw: &str, name: &str) -> bool {
    let mut rest = raw.as_bytes();
    for wanted in name.bytes() {
        let (byte, tail) = match rest {
            [b'%', high, low, tail @ ..] => match (hex_value(*high), hex_value(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, tail),
                _ => return false,
            },
            [b'+', tail @ ..] => (b' ', tail),
            [byte, tail @ ..] => (*byte, tail),
            [] => return false,
        };
        if byte != wanted {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

/// Whether one of our access tokens or client secrets stands anywhere in the query.
pub(super) fn query_leaks_token(query: &str) -> bool {
    let bytes = query.as_bytes();
    memchr::memmem::find_iter(bytes, OWN_PREFIX).any(|at| {
        let kind = bytes.get(at..).unwrap_or_default();
        kind.starts_with(ACCESS_TOKEN_PREFIX.as_bytes()) || kind.starts_with(b"stk_cs_")
    })
}

/// Makes a well-formed credential that no server ever issued: for the self-check and for tests.
pub(crate) fn counterfeit(prefix: &str, seed: u8) -> String {
    let mut text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode([seed; 32]));
    let checksum = URL_SAFE_NO_PAD.encode(crc32(text.as_bytes()).to_be_bytes());
    text.push_str(&checksum);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        fields.iter().map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn crc32_has_the_standard_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn our_credentials_need_kind_length_and_checksum() {
        let token = counterfeit(ACCESS_TOKEN_PREFIX, 1);
        assert_eq!(token.len(), OWN_LENGTH);
        assert!(is_plausible(&token, ACCESS_TOKEN_PREFIX));
        assert!(!is_plausible(&token, API_KEY_PREFIX));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(!changed.starts_with("stk_") || !is_plausible(&changed, ACCESS_TOKEN_PREFIX), "{at}");
        }
        assert!(!is_plausible(&token[..55], ACCESS_TOKEN_PREFIX));
        assert!(!is_plausible(&(token + "A"), ACCESS_TOKEN_PREFIX));
        assert!(is_plausible("eyJhbGciOi.x.y", ACCESS_TOKEN_PREFIX));
        assert!(!is_plausible("", API_KEY_PREFIX));
        assert!(!is_plausible("a b", API_KEY_PREFIX));
    }

    #[test]
    fn bearer_follows_rfc_6750() {
        for (value, wanted) in [
            ("Bearer abc", Some("abc")),
            ("bEARER   a.b_c~d+e/f==", Some("a.b_c~d+e/f==")),
            ("Bearer a b", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("Bearer =", None),
            ("Bearer a=b", None),
            ("Bearer a,b", None),
        ] {
            let headers = headers(&[("authorization", value)]);
            match (authorization(&headers), wanted) {
                (Authorization::Token(Scheme::Bearer, token), Some(wanted)) => assert_eq!(token, wanted),
                (Authorization::Malformed, None) => {}
                _ => panic!("{value}"),
            }
        }
        let read = |value| matches!(authorization(&headers(&[("authorization", value)])), Authorization::Other);
        assert!(read("Basic YQ==") && read("Bearerabc x") && read("DPoPx y") && read("DPo") && read(""));
        let bound = headers(&[("authorization", "dPoP abc")]);
        assert!(matches!(authorization(&bound), Authorization::Token(Scheme::Dpop, "abc")));
        assert!(matches!(authorization(&headers(&[])), Authorization::Absent));
    }

    #[test]
    fn names_are_compared_decoded() {
        assert!(is_spelling_of("access%5ftoken", "access_token"));
        assert!(is_spelling_of("a+b", "a b"));
        for raw in ["access_toke", "access_token1", "%", "%zz", "access%5", ""] {
            assert!(!is_spelling_of(raw, "access_token"), "{raw}");
        }
    }

    #[test]
    fn a_credential_that_stands_twice_is_noticed() {
        assert!(matches!(in_query(Some("k=1&k=2"), "k"), Presented::Several));
        assert!(matches!(in_query(Some("k=1&%6b=2"), "k"), Presented::Several));
        assert!(matches!(in_cookie(&headers(&[("cookie", "k=1; k=2")]), "k"), Presented::Several));
        assert!(matches!(in_cookie(&headers(&[("cookie", "k=1"), ("cookie", "a=b; k=2")]), "k"), Presented::Several));
        assert!(matches!(in_header(&headers(&[("k", "1"), ("k", "1")]), "k"), Presented::Several));
        assert!(matches!(in_query(Some("k=a%2Bb+c"), "k"), Presented::Once(v) if v == "a+b c"));
        assert!(matches!(in_cookie(&headers(&[("cookie", "a=b; k=\"1\"")]), "k"), Presented::Once(v) if v == "1"));
        assert!(matches!(in_cookie(&headers(&[("cookie", "K=1")]), "k"), Presented::Absent));
    }
}
