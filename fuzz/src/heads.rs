//! Heads at the gateway: what goes on to the upstream, and what comes back from it.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri, Version};
use stockade_engine::is_gate_field;
use stockade_gateway::fuzzing::{
    asks_upgrade, client_address, ensure_trace, host, join_cookies, strip_cookies, to_client, to_upstream,
    upstream_head as inspect,
};

use crate::support::{fields, fingerprint};

pub const WORDS: &[&str] = &[
    "host: ",
    "connection: ",
    "cookie: ",
    "__Host-stockade_session=",
    "x-forwarded-for: ",
    "forwarded: for=",
    "x-forwarded-host: ",
    "x-forwarded-user: ",
    "te: trailers",
    "transfer-encoding: chunked",
    "content-length: ",
    "upgrade: websocket",
    "keep-alive",
    "x-real-ip: ",
    "traceparent: ",
    "tracestate: ",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "192.0.2.1",
    "[2001:db8::1]:5",
    ", ",
    "; ",
    "=",
    "\n",
    "\"",
    "sid=",
    "a.example",
    "x_forwarded_user: ",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 101 x\r\n",
    "\r\n",
    "204",
    "304",
    "chunked, chunked",
    "0",
    "00000000000000000000",
];
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// Data: a line with the target (or an authority), then header lines.
pub fn headers(data: &[u8]) -> u64 {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(parts) = parts(lines.next().unwrap_or_default(), lines) else { return 0 };
    let http1 = check_host(&parts);
    let upgrade = asks_upgrade(&parts).is_some();
    let mut headers = parts.headers;
    check_cookies(&mut headers);
    assert_eq!(client_address(PEER, false, &[], &headers), PEER, "an untrusted peer speaks for itself");
    let trusted = client_address(PEER, true, &[], &headers);
    for speaks_for_others in [false, true] {
        check_upstream(headers.clone(), speaks_for_others);
    }
    let mut answer = headers.clone();
    to_client(&mut answer);
    for name in ["connection", "transfer-encoding", "server", "upgrade", "keep-alive"] {
        assert!(!answer.contains_key(name), "{name} reaches the client");
    }
    fingerprint((http1.is_some(), upgrade, headers.len().min(12), trusted == PEER))
}

fn parts<'d>(target: &[u8], lines: impl Iterator<Item = &'d [u8]>) -> Option<Parts> {
    let uri = Uri::try_from(target).ok()?;
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.version_mut() = if target.starts_with(b"http") { Version::HTTP_2 } else { Version::HTTP_11 };
    *request.method_mut() = Method::GET;
    for (name, value) in fields(lines).into_iter().take(100) {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) else { continue };
        request.headers_mut().append(name, value);
    }
    Some(request.into_parts().0)
}

fn check_host(parts: &Parts) -> Option<usize> {
    let fields: Vec<&HeaderValue> = parts.headers.get_all(header::HOST).iter().collect();
    let host = host(parts).ok()?;
    assert!(fields.len() <= 1, "two hosts");
    let named = fields.iter().map(|field| field.as_bytes()).chain(parts.uri.authority().map(|a| a.as_str().as_bytes()));
    for name in named {
        assert!(name.eq_ignore_ascii_case(host.as_bytes()), "hosts differ");
    }
    Some(host.len())
}

fn crumbs(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    lines.map(|crumb| crumb.trim_ascii().to_vec()).filter(|crumb| !crumb.is_empty()).collect()
}

fn check_cookies(headers: &mut HeaderMap) {
    let before = crumbs(headers);
    join_cookies(headers);
    assert!(headers.get_all(header::COOKIE).iter().count() <= 1);
    assert_eq!(crumbs(headers), before, "joined cookies are the same cookies");
    let mut stripped = headers.clone();
    strip_cookies(&mut stripped, &["sid"]);
    let is_session = |crumb: &Vec<u8>| {
        let name = crumb.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        name == b"sid" || name.to_ascii_lowercase().starts_with(b"__host-stockade_")
    };
    assert!(!crumbs(&stripped).iter().any(is_session), "a key or a session reaches the upstream");
    let others = before.into_iter().filter(|crumb| !is_session(crumb));
    assert_eq!(crumbs(&stripped), others.collect::<Vec<_>>(), "only the key is stripped");
}

/// Nothing that the client says of itself or of the connection gets through; what the gate says stands there once.
fn check_upstream(mut headers: HeaderMap, trusted: bool) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    ensure_trace(&mut headers);
    assert_eq!(headers.get_all("traceparent").iter().count(), 1);
    let host = HeaderValue::from_static("api.example");
    to_upstream(&mut headers, PEER, trusted, &host, &["x-api-key", "authorization"]).expect("an address is a value");
    const OURS: &[&str] = &["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
    for name in headers.keys() {
        let ours = OURS.contains(&name.as_str());
        assert!(ours || !is_gate_field(name.as_str()), "{name} reaches the upstream");
        assert!(
            ours || *name == header::VIA || *name == header::TE || !nominated.contains(name),
            "{name} was nominated"
        );
        assert!(!["connection", "transfer-encoding", "upgrade", "authorization", "x-api-key"].contains(&name.as_str()));
    }
    for name in OURS {
        assert_eq!(headers.get_all(*name).iter().count(), 1, "{name}");
    }
    if !trusted {
        assert_eq!(headers["x-forwarded-for"], PEER.to_string());
        assert_eq!(
            (&headers["x-forwarded-proto"], &headers["x-forwarded-host"]),
            (&"https".parse().unwrap(), &"api.example".parse().unwrap())
        );
    }
}

/// Data: the head of an upstream's answer, as it is on the wire.
pub fn upstream_head(data: &[u8]) -> u64 {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut slots);
    let Ok(httparse::Status::Complete(_)) = parsed.parse(data) else { return 0 };
    let mut response = http::Response::new(());
    let Ok(status) = http::StatusCode::from_u16(parsed.code.unwrap_or_default()) else { return 1 };
    *response.status_mut() = status;
    *response.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    for field in parsed.headers.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(field.name), HeaderValue::from_bytes(field.value)) {
            response.headers_mut().append(name, value);
        }
    }
    let (parts, ()) = response.into_parts();
    let mut prints = Vec::new();
    for (to_head, upgrade) in [(false, None), (true, None), (false, Some(HeaderValue::from_static("websocket")))] {
        let mut head = parts.clone();
        let asked = upgrade.is_some();
        let found = inspect(&mut head, to_head, upgrade);
        prints.push(fingerprint(found.map(|length| length.map(|length| length.min(2)))));
        if let Ok(length) = found {
            check_answer(&parts, &head, length, to_head, asked);
        }
    }
    fingerprint(prints)
}

fn check_answer(
    before: &http::response::Parts,
    after: &http::response::Parts,
    length: Option<u64>,
    to_head: bool,
    asked: bool,
) {
    let lengths: Vec<&HeaderValue> = before.headers.get_all(header::CONTENT_LENGTH).iter().collect();
    let codings = before.headers.get_all(header::TRANSFER_ENCODING).iter().count();
    assert!(lengths.len() + codings <= 1, "two framings");
    let status = before.status.as_u16();
    if status == 101 {
        assert!(asked, "protocols are switched unasked");
        return;
    }
    let said = lengths.first().and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    assert_eq!(length, if to_head || status == 204 || status == 304 { None } else { said });
    for name in ["connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection"] {
        assert!(!after.headers.contains_key(name), "{name} is passed on");
    }
}
