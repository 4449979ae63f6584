//! `htu`: the address that a proof is for, without query and fragment (RFC 9449 §4.2, §4.3 check 9).

use crate::plan::canonicalise;

/// Scheme and authority in one spelling (RFC 3986 §6.2.2.1, §6.2.3): lower case, without the scheme's own port. `None`: no http(s) origin.
pub(super) fn origin_of(scheme: &str, authority: &str) -> Option<String> {
    let scheme = scheme.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if authority.is_empty() || !authority.bytes().all(plain) {
        return None;
    }
    let authority = authority.to_ascii_lowercase();
    let authority = authority.strip_suffix(port).or_else(|| authority.strip_suffix(':')).unwrap_or(&authority);
    Some(format!("{scheme}://{authority}"))
}

/// An origin of the bundle; it has no path.
pub(super) fn read_origin(text: &str) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    origin_of(scheme, authority.strip_suffix('/').unwrap_or(authority))
}

/// Whether `htu` names `path` (raw, as received) at one of the `origins`.
pub(super) fn is_target(htu: &str, origins: &[String], path: &str) -> bool {
    let Some((scheme, rest)) = htu.split_once("://") else { return false };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, named) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
    let Some(origin) = origin_of(scheme, authority) else { return false };
    origins.contains(&origin) && same_path(named, path)
}

/// RFC 3986 §6.2.2: equal once escapes have one spelling. What two readers could split differently equals nothing but itself.
fn same_path(named: &str, path: &str) -> bool {
    named == path
        || matches!((canonicalise(named), canonicalise(path)), (Ok(named), Ok(path)) if named.text == path.text)
}
