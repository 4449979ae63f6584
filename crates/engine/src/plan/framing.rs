//! What a head must be like before anything else looks at it: the checks that need no socket.

use std::collections::HashSet;
use std::net::Ipv6Addr;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::decision::{Denial, Layer, Reason};
use crate::gate_fields::is_gate_field;
use crate::request::RequestHead;

/// Fields that frame the message, name the caller or route it. A name that turns into one of these when `_` is read as
/// `-` (CGI, WSGI) is refused, and so is one that `Connection` nominates for removal.
const GUARDED: &[&str] = &[
    "authorization",
    "client-ip",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "x-client-ip",
    "x-real-ip",
    "x-cluster-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-rewrite-url",
];

/// Fields that `Connection` nominates in the ordinary run of HTTP/1.1 (RFC 9110 §7.6.1).
const NOMINATED_BY_RIGHT: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Fields that ask an upstream to take the request for another one.
const OVERRIDES: &[&str] = &[
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-rewrite-url",
];

/// The plan's part of the checks.
pub(super) struct Framing {
    hosts: HashSet<Box<str>, RandomState>,
    /// `GUARDED` and the headers that carry API keys.
    guarded: HashSet<Box<str>, RandomState>,
    pub max_target_bytes: usize,
    /// A host that is accepted, for the self-check.
    pub sample_host: String,
}

impl Framing {
    pub fn new(hosts: &[String], key_headers: impl Iterator<Item = String>, max_target_bytes: usize) -> Framing {
        Framing {
            hosts: hosts.iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase().into()).collect(),
            guarded: GUARDED.iter().map(|name| Box::from(*name)).chain(key_headers.map(Into::into)).collect(),
            max_target_bytes,
            sample_host: hosts.first().cloned().unwrap_or_else(|| "localhost".to_owned()),
        }
    }

    pub fn check(&self, head: &RequestHead<'_>) -> Result<(), Denial> {
        if head.path.len() + head.query.map_or(0, |query| query.len() + 1) > self.max_target_bytes {
            return Err(refuse(Reason::TargetTooLong, "the target is longer than the limit"));
        }
        if matches!(head.method, "CONNECT" | "TRACE") {
            return Err(refuse(Reason::MethodNotAllowed, "the method is never served"));
        }
        if head.method.is_empty() || !head.method.bytes().all(is_token) {
            return Err(refuse(Reason::BadRequest, "the method is not a token"));
        }
        let whole_server = head.path == "*" && head.method == "OPTIONS";
        if !head.path.starts_with('/') && !whole_server {
            return Err(refuse(Reason::BadRequest, "the target is not in origin form"));
        }
        if head.query.is_some_and(|query| query.bytes().any(|byte| matches!(byte, 0..=0x20 | 0x7f.. | b'#'))) {
            return Err(refuse(Reason::BadRequest, "the query holds a byte that RFC 3986 does not allow"));
        }
        self.check_host(head.host)?;
        self.check_fields(head)
    }

    /// RFC 9110 §7.2 with RFC 3986 §3.2.2, narrowed to what names and addresses look like.
    fn check_host(&self, host: &str) -> Result<(), Denial> {
        let Some(name) = host_name(host) else { return Err(refuse(Reason::BadHost, "the host is malformed")) };
        if self.hosts.is_empty() {
            return Ok(());
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let known = self.hosts.contains(name)
            || (name.bytes().any(|b| b.is_ascii_uppercase())
                && self.hosts.contains(name.to_ascii_lowercase().as_str()));
        if known { Ok(()) } else { Err(refuse(Reason::Misdirected, "the host is not one of this API's")) }
    }

    fn check_fields(&self, head: &RequestHead<'_>) -> Result<(), Denial> {
        let mut seen = Seen::default();
        let mut found = Ok(());
        head.headers.each(&mut |name, value| {
            found = self.check_field(name, value, &mut seen);
            found.is_ok()
        });
        found?;
        if seen.content_length && seen.transfer_encoding {
            return Err(refuse(Reason::BadRequest, "both content-length and transfer-encoding are present"));
        }
        Ok(())
    }

    fn check_field(&self, name: &str, value: &[u8], seen: &mut Seen) -> Result<(), Denial> {
        let mut underscore = false;
        for byte in name.bytes() {
            underscore |= byte == b'_';
            if !is_token(byte) {
                return Err(refuse(Reason::BadRequest, "a field name is not a token"));
            }
        }
        if name.is_empty() || value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err(refuse(Reason::BadRequest, "a field holds a control character"));
        }
        if underscore && self.is_twin(name) {
            return Err(refuse(Reason::HeaderForbidden, "a field name is an underscore twin of a guarded field"));
        }
        match name {
            "authorization" => once(&mut seen.authorization, "authorization stands twice"),
            "content-type" => once(&mut seen.content_type, "content-type stands twice"),
            "host" => once(&mut seen.host, "host stands twice"),
            "content-length" => {
                once(&mut seen.content_length, "content-length stands twice")?;
                match content_length(value) {
                    Some(_) => Ok(()),
                    None => Err(refuse(Reason::BadRequest, "content-length is not a number")),
                }
            }
            "transfer-encoding" => {
                once(&mut seen.transfer_encoding, "transfer-encoding stands twice")?;
                if value.eq_ignore_ascii_case(b"chunked") {
                    return Ok(());
                }
                Err(refuse(Reason::BadRequest, "transfer-encoding is not exactly chunked"))
            }
            "expect" if !value.eq_ignore_ascii_case(b"100-continue") => {
                Err(refuse(Reason::ExpectationFailed, "the expectation is not 100-continue"))
            }
            "connection" => self.check_nominated(value),
            _ if name.starts_with("x-") && OVERRIDES.contains(&name) => {
                Err(refuse(Reason::HeaderForbidden, "a field asks for another method or target"))
            }
            _ => Ok(()),
        }
    }

    fn is_twin(&self, name: &str) -> bool {
        let dashed: SmallVec<[u8; 64]> = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte }).collect();
        std::str::from_utf8(&dashed).is_ok_and(|name| self.is_guarded(name))
    }

    fn is_guarded(&self, name: &str) -> bool {
        is_gate_field(name) || self.guarded.contains(name)
    }

    fn check_nominated(&self, value: &[u8]) -> Result<(), Denial> {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            let lower: SmallVec<[u8; 64]> = option.iter().map(u8::to_ascii_lowercase).collect();
            let Ok(name) = std::str::from_utf8(&lower) else {
                return Err(refuse(Reason::BadRequest, "connection holds a byte that is not ASCII"));
            };
            if self.is_guarded(name) && !NOMINATED_BY_RIGHT.contains(&name) {
                return Err(refuse(Reason::HeaderForbidden, "connection nominates a guarded field"));
            }
        }
        Ok(())
    }
}

/// Which of the fields that may stand once have been seen.
#[derive(Default)]
struct Seen {
    authorization: bool,
    content_type: bool,
    host: bool,
    content_length: bool,
    transfer_encoding: bool,
}

fn once(seen: &mut bool, evidence: &'static str) -> Result<(), Denial> {
    if std::mem::replace(seen, true) {
        return Err(refuse(Reason::HeaderDuplicated, evidence));
    }
    Ok(())
}

fn refuse(reason: Reason, evidence: &'static str) -> Denial {
    Denial::new(Layer::Framing, reason, None, evidence)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Digits only: no sign, no list, no white space (RFC 9110 §8.6).
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The host without its port, or `None` when the value is not `uri-host [":" port]`.
fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (host.get(..address.len() + 2)?, port)
        }
        None => {
            let end = host.find(':').unwrap_or(host.len());
            let name = host.get(..end)?;
            is_reg_name(name).then_some(())?;
            (name, host.get(end..)?)
        }
    };
    match port.strip_prefix(':') {
        None => port.is_empty().then_some(name),
        Some(digits) => (digits.len() <= 5 && content_length(digits.as_bytes())? <= 65_535).then_some(name),
    }
}

/// Names as DNS and hosts files have them: labels of letters, digits, `-`, `_` and `~`, one dot between them.
fn is_reg_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.len() <= 253
        && !name.starts_with('.')
        && !name.contains("..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn check(method: &str, path: &str, host: &str, fields: Fields<'_>) -> Result<(), Reason> {
        let headers: Vec<(String, Vec<u8>)> =
            fields.iter().map(|(n, v)| ((*n).into(), v.as_bytes().to_vec())).collect();
        let head = RequestHead {
            method,
            path,
            query: None,
            host,
            headers: &headers,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            client_certificate: false,
            certificate_thumbprint: None,
        };
        let framing = Framing::new(&[], std::iter::once("x-api-key".to_owned()), 100);
        framing.check(&head).map_err(|denial| denial.reason)
    }

    fn fields(fields: Fields<'_>) -> Result<(), Reason> {
        check("GET", "/", "a", fields)
    }

    #[test]
    fn hosts_are_names_or_addresses_with_an_optional_port() {
        for host in ["a", "a.example", "A.example.", "127.0.0.1:80", "[::1]", "[2001:db8::1]:8443", "x_y-z", "a:65535"]
        {
            assert_eq!(check("GET", "/", host, &[]), Ok(()), "{host}");
        }
        for host in [
            "",
            " ",
            "a b",
            "a,b",
            "u@a",
            "a/b",
            "a:",
            "a:x",
            "a:65536",
            "a:080800",
            "a:-1",
            "[::1",
            "::1",
            "[::g]",
            "[::1]x",
            "a..b",
            ".a",
            "a%2e",
            "[v1.x]",
            "é",
            "a:80:80",
            "a?b",
            "a#b",
            ".",
            "[fe80::1%25eth0]",
        ] {
            assert_eq!(check("GET", "/", host, &[]), Err(Reason::BadHost), "{host}");
        }
    }

    #[test]
    fn hosts_are_compared_without_case_port_and_final_dot() {
        let framing = Framing::new(&["api.example".into(), "[::1]".into()], std::iter::empty(), 100);
        for host in ["api.example", "API.example:444", "api.example.", "[::1]:1"] {
            assert!(framing.check_host(host).is_ok(), "{host}");
        }
        assert_eq!(framing.check_host("other.example").unwrap_err().reason, Reason::Misdirected);
    }

    #[test]
    fn underscore_twins_are_refused() {
        for name in [
            "content_length",
            "transfer_encoding",
            "host_",
            "x_forwarded_for",
            "x-forwarded_for",
            "x_api_key",
            "content_type",
            "x_real_ip",
            "proxy_authorization",
            "x_stockade_client",
        ] {
            let wanted = if name == "host_" { Ok(()) } else { Err(Reason::HeaderForbidden) };
            assert_eq!(fields(&[(name, "1")]), wanted, "{name}");
        }
        assert_eq!(fields(&[("my_field", "1")]), Ok(()));
    }

    #[test]
    fn override_fields_are_refused() {
        for name in OVERRIDES {
            assert_eq!(fields(&[(name, "DELETE")]), Err(Reason::HeaderForbidden), "{name}");
        }
    }

    #[test]
    fn fields_that_may_stand_once_stand_once() {
        for name in ["authorization", "content-type", "content-length", "host"] {
            assert_eq!(fields(&[(name, "1"), ("a", "b"), (name, "1")]), Err(Reason::HeaderDuplicated), "{name}");
        }
    }

    #[test]
    fn length_and_coding_have_one_reading() {
        assert_eq!(fields(&[("content-length", "18446744073709551615")]), Ok(()));
        for value in ["", "+1", "-1", "1, 1", " 1", "0x1", "18446744073709551616", "1_0"] {
            assert_eq!(fields(&[("content-length", value)]), Err(Reason::BadRequest), "{value}");
        }
        assert_eq!(fields(&[("transfer-encoding", "Chunked")]), Ok(()));
        for value in ["gzip, chunked", "identity", "chunked, chunked", "\tchunked", ""] {
            assert_eq!(fields(&[("transfer-encoding", value)]), Err(Reason::BadRequest), "{value}");
        }
        assert_eq!(fields(&[("content-length", "1"), ("transfer-encoding", "chunked")]), Err(Reason::BadRequest));
    }

    #[test]
    fn a_client_may_not_nominate_guarded_fields() {
        for value in ["close, Authorization", "host", "X-Forwarded-For", "content-length", "cookie", "x-api-key"] {
            assert_eq!(fields(&[("connection", value)]), Err(Reason::HeaderForbidden), "{value}");
        }
        for value in ["close", "keep-alive, Upgrade", "TE", "x-own", ""] {
            assert_eq!(fields(&[("connection", value)]), Ok(()), "{value}");
        }
    }

    #[test]
    fn other_heads_that_are_refused() {
        assert_eq!(check("CONNECT", "/", "a", &[]), Err(Reason::MethodNotAllowed));
        assert_eq!(check("TRACE", "/", "a", &[]), Err(Reason::MethodNotAllowed));
        assert_eq!(check("G T", "/", "a", &[]), Err(Reason::BadRequest));
        assert_eq!(check("GET", "*", "a", &[]), Err(Reason::BadRequest));
        assert_eq!(check("OPTIONS", "*", "a", &[]), Ok(()));
        assert_eq!(check("GET", "http://a/", "a", &[]), Err(Reason::BadRequest));
        assert_eq!(check("GET", &format!("/{}", "a".repeat(100)), "a", &[]), Err(Reason::TargetTooLong));
        assert_eq!(fields(&[("expect", "200-ok")]), Err(Reason::ExpectationFailed));
        assert_eq!(fields(&[("expect", "100-Continue")]), Ok(()));
        assert_eq!(fields(&[("x", "a\0b")]), Err(Reason::BadRequest));
        assert_eq!(fields(&[("x y", "a")]), Err(Reason::BadRequest));
    }
}
