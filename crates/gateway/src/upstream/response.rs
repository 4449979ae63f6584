//! A strict reading of an answer's head: what hyper accepts and the next hop might read otherwise is refused.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Version, response};
use hyper::ext::ReasonPhrase;

use super::Asked;

/// Checks `head`, takes its framing and hop-by-hop fields away, and answers with the length that the body must have.
///
/// RFC 9112 §6: one `Content-Length` of digits or one `Transfer-Encoding: chunked`, never both. `Err` says what is wrong.
pub(crate) fn inspect(head: &mut response::Parts, asked: &Asked) -> Result<Option<u64>, &'static str> {
    let status = head.status.as_u16();
    let length = content_length(&head.headers)?;
    let chunked = transfer_encoding(head)?;
    if length.is_some() && chunked {
        return Err("the answer has both a length and a transfer coding");
    }
    // The text is the upstream's, and hyper would repeat it.
    head.extensions.remove::<ReasonPhrase>();
    match status {
        101 => {
            switching(head, asked.upgrade.as_ref())?;
            if chunked || length.is_some_and(|length| length > 0) {
                return Err("the switch of protocols has a body");
            }
            head.headers.remove(header::CONTENT_LENGTH);
            return Ok(None);
        }
        204 if chunked || length.is_some_and(|length| length > 0) => {
            return Err("an answer that has no body announces one");
        }
        204 => {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        200..=599 => {}
        _ => return Err("the status is not one that HTTP knows"),
    }
    remove_hop_by_hop(&mut head.headers);
    let without_body = asked.head || status == 204 || status == 304;
    Ok(if without_body { None } else { length })
}

/// Whether long pauses are part of the answer: events and calls that go on for as long as the client listens.
pub(super) fn may_pause(head: &response::Parts) -> bool {
    let media_type = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let starts = |prefix: &[u8]| media_type.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts(b"text/event-stream") || starts(b"application/grpc")
}

/// Whether the comma-separated list has `token`, without regard to case.
pub(super) fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("the answer has two lengths");
    }
    let digits = value.as_bytes();
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err("the answer's length is not a number");
    }
    Ok(Some(digits.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0'))))
}

fn transfer_encoding(head: &response::Parts) -> Result<bool, &'static str> {
    let mut values = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(false) };
    if head.version != Version::HTTP_11 {
        return Err("a transfer coding in a version of HTTP that has none");
    }
    if values.next().is_some() || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err("the answer's transfer coding is not `chunked` alone");
    }
    Ok(true)
}

/// RFC 9110 §7.8: only what was asked for may be switched to.
fn switching(head: &response::Parts, asked: Option<&HeaderValue>) -> Result<(), &'static str> {
    let asked = asked.ok_or("the upstream switches protocols unasked")?;
    let mut chosen = head.headers.get_all(header::UPGRADE).iter();
    match (chosen.next(), chosen.next()) {
        (Some(chosen), None) if chosen.to_str().is_ok_and(|chosen| has_token(asked, chosen.trim())) => Ok(()),
        _ => Err("the upstream switches to another protocol than was asked for"),
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    if headers.contains_key(header::CONNECTION) {
        remove_nominated(headers);
        headers.remove(header::CONNECTION);
    }
    for name in [header::TRANSFER_ENCODING, KEEP_ALIVE, PROXY_CONNECTION, header::UPGRADE] {
        headers.remove(name);
    }
}

/// The fields that `Connection` names (RFC 9110 §7.6.1), but not those that say what the body is.
fn remove_nominated(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| ![header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING].contains(name))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}
