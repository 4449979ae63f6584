//! Heads between hyper's types and the engine's, and what of them may go on to the other side.

use std::net::IpAddr;

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Uri, Version};
use ipnet::IpNet;
use smallvec::SmallVec;
use stockade_engine::{Denial, Headers, Layer, Reason, is_gate_field};

use crate::connection::Peer;

/// What the names of the authorization server's cookies start with.
const OWN_COOKIES: &[u8] = b"__Host-stockade_";
/// Steps back through forwarding headers; longer chains are not believed.
const MAX_FORWARDERS: usize = 32;

/// hyper's header map as the engine reads it.
pub struct Fields<'a>(pub &'a HeaderMap);

impl Headers for Fields<'_> {
    fn first(&self, name: &str) -> Option<&[u8]> {
        known(name).map_or_else(|| self.0.get(name), |name| self.0.get(name)).map(HeaderValue::as_bytes)
    }

    fn count(&self, name: &str) -> usize {
        self.0.get_all(name).iter().count()
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &[u8]) -> bool) {
        for (name, value) in self.0 {
            if !visit(name.as_str(), value.as_bytes()) {
                return;
            }
        }
    }
}

/// Constants are found without parsing the name.
fn known(name: &str) -> Option<HeaderName> {
    Some(match name {
        "accept" => header::ACCEPT,
        "authorization" => header::AUTHORIZATION,
        "connection" => header::CONNECTION,
        "content-encoding" => header::CONTENT_ENCODING,
        "content-length" => header::CONTENT_LENGTH,
        "content-type" => header::CONTENT_TYPE,
        "cookie" => header::COOKIE,
        "expect" => header::EXPECT,
        "host" => header::HOST,
        "origin" => header::ORIGIN,
        "transfer-encoding" => header::TRANSFER_ENCODING,
        "upgrade" => header::UPGRADE,
        _ => return None,
    })
}

fn deny(reason: Reason, evidence: &'static str) -> Denial {
    Denial::new(Layer::Framing, reason, None, evidence)
}

/// The one host of a request: `Host`, `:authority` and an absolute target must agree, without case (RFC 9112 §3.2, RFC 9113 §8.3.1).
pub fn host(parts: &Parts) -> Result<HeaderValue, Denial> {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (_, Some(_)) => return Err(deny(Reason::HeaderDuplicated, "several Host fields")),
        (Some(value), None) if value.to_str().is_err() => {
            return Err(deny(Reason::BadHost, "Host has bytes beyond visible ASCII"));
        }
        (Some(value), None) => Some(value),
        (None, None) if parts.version < Version::HTTP_2 => return Err(deny(Reason::BadHost, "no Host field")),
        (None, None) => None,
    };
    match (authority, field) {
        (Some(authority), Some(field)) if !field.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            Err(deny(Reason::BadHost, "Host and the target's authority differ"))
        }
        (_, Some(field)) => Ok(field.clone()),
        (Some(authority), None) => {
            HeaderValue::from_str(authority).map_err(|_| deny(Reason::BadHost, ":authority is malformed"))
        }
        (None, None) => Err(deny(Reason::BadHost, "neither :authority nor Host")),
    }
}

/// RFC 9113 §8.2.3: cookie crumbs of HTTP/2 are one field for whoever reads HTTP/1.
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut whole = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    // The crumbs were valid values, so their sum is.
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(whole)) {
        headers.insert(header::COOKIE, value);
    }
}

/// The client's address: the peer, or what the trusted proxies before it say (RFC 7239, `X-Forwarded-For`).
pub fn client_address(peer: IpAddr, trusted: bool, proxies: &[IpNet], headers: &HeaderMap) -> IpAddr {
    if !trusted {
        return peer;
    }
    let believed = |address: IpAddr| proxies.iter().any(|net| net.contains(&address));
    let mut address = peer;
    for hop in forwarders(headers).into_iter().rev().take(MAX_FORWARDERS) {
        // The nearest address that no trusted proxy vouches past; an unreadable one ends the chain.
        let Some(hop) = hop else { break };
        address = hop.to_canonical();
        if !believed(address) {
            break;
        }
    }
    address
}

/// The addresses of a chain, farthest first; `X-Forwarded-For` goes before `Forwarded`, as two lists cannot be merged.
fn forwarders(headers: &HeaderMap) -> SmallVec<[Option<IpAddr>; 4]> {
    let list = |name: &HeaderName| -> SmallVec<[Option<IpAddr>; 4]> {
        headers
            .get_all(name)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .map(|item| std::str::from_utf8(item).ok().map(str::trim))
            .map(|item| item.and_then(if *name == FORWARDED { forwarded_for } else { parse_node }))
            .collect()
    };
    let found = list(&X_FORWARDED_FOR);
    if found.is_empty() { list(&FORWARDED) } else { found }
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    element
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
        .and_then(|(_, value)| parse_node(value.trim().trim_matches('"')))
}

/// `1.2.3.4`, `1.2.3.4:5`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:5`.
fn parse_node(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let node = bare.unwrap_or(node);
    node.parse().ok().or_else(|| node.split_once(':').and_then(|(address, _)| address.parse().ok()))
}

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const FORWARDED: HeaderName = header::FORWARDED;
const VIA: HeaderValue = HeaderValue::from_static("1.1 stockade");

/// What the protocol of the request was, as `X-Forwarded-*` say it.
pub struct Forwarding<'a> {
    pub peer: &'a Peer,
    pub host: &'a HeaderValue,
}

/// Makes a client's fields fit for the upstream: hop-by-hop, identity and forwarding fields go, ours come.
///
/// `credentials` are field names that carry the route's credentials.
pub fn to_upstream(headers: &mut HeaderMap, forwarding: &Forwarding<'_>, credentials: &[&str]) {
    let keep_te = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let chain = forwarding.peer.trusted.then(|| chain(headers, forwarding.peer.address)).flatten();
    let proto = forwarding.peer.trusted.then(|| headers.get(X_FORWARDED_PROTO).cloned()).flatten();
    let told_host = forwarding.peer.trusted.then(|| headers.get(X_FORWARDED_HOST).cloned()).flatten();
    remove(headers, |name| is_hop_by_hop(name) || is_gate_field(name) || credentials.contains(&name));
    if keep_te {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers.insert(X_FORWARDED_FOR, chain.unwrap_or_else(|| forwarding.peer.address_value.clone()));
    let own = HeaderValue::from_static(if forwarding.peer.tls { "https" } else { "http" });
    headers.insert(X_FORWARDED_PROTO, proto.unwrap_or(own));
    headers.insert(X_FORWARDED_HOST, told_host.unwrap_or_else(|| forwarding.host.clone()));
    headers.append(header::VIA, VIA);
}

/// A trusted proxy's chain, with itself at the end.
fn chain(headers: &HeaderMap, peer: IpAddr) -> Option<HeaderValue> {
    let mut chain = String::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        chain.push_str(value.to_str().ok()?);
        chain.push_str(", ");
    }
    chain.push_str(&peer.to_string());
    HeaderValue::from_str(&chain).ok()
}

/// Makes an upstream's fields fit for the client.
pub fn to_client(headers: &mut HeaderMap) {
    remove(headers, |name| is_hop_by_hop(name) || tells_too_much(name));
    refuse_own_cookies(headers);
}

/// An upstream must not set the authorization server's cookies: it could sign a person in as somebody else.
fn refuse_own_cookies(headers: &mut HeaderMap) {
    if !headers.get_all(header::SET_COOKIE).iter().any(|cookie| is_own_cookie(cookie.as_bytes())) {
        return;
    }
    let Entry::Occupied(entry) = headers.entry(header::SET_COOKIE) else { return };
    let (name, cookies) = entry.remove_entry_mult();
    let others: Vec<HeaderValue> = cookies.filter(|cookie| !is_own_cookie(cookie.as_bytes())).collect();
    for cookie in others {
        headers.append(&name, cookie);
    }
}

/// Cookies know no port: in front of an API on the same host, those of the authorization server's pages come here too.
fn is_own_cookie(pair: &[u8]) -> bool {
    let pair = pair.trim_ascii_start();
    pair.get(..OWN_COOKIES.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_COOKIES))
}

/// Removes what `unwanted` says, and what `Connection` nominates (RFC 9110 §7.6.1).
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let mut names: SmallVec<[HeaderName; 8]> = SmallVec::new();
    for value in headers.get_all(header::CONNECTION) {
        let nominated = value.as_bytes().split(|b| *b == b',');
        names.extend(nominated.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()));
    }
    names.extend(headers.keys().filter(|name| unwanted(name.as_str())).cloned());
    for name in names {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "expect"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What an upstream runs on is nobody's business; where else it can be reached would lead around the gate.
fn tells_too_much(name: &str) -> bool {
    matches!(
        name,
        "server"
            | "x-powered-by"
            | "x-aspnet-version"
            | "x-aspnetmvc-version"
            | "x-runtime"
            | "x-generator"
            | "alt-svc"
    )
}

/// The upgrade protocols that a request asks for, if it does (RFC 9110 §7.8). The guard sees the same requests as such.
pub fn asks_upgrade(parts: &Parts) -> Option<HeaderValue> {
    let named =
        parts.headers.get_all(header::CONNECTION).iter().any(|value| crate::guard::lists(value.as_bytes(), b"upgrade"));
    (parts.version == Version::HTTP_11 && named).then(|| parts.headers.get(header::UPGRADE).cloned()).flatten()
}

/// The target for the upstream: the canonical path, and the query without what only the gate may see.
pub fn upstream_target(received: &Uri, path: &str, strip: &[&str]) -> Result<Uri, http::uri::InvalidUri> {
    let query = received.query();
    if received.authority().is_none() && received.path() == path && (query.is_none() || strip.is_empty()) {
        return Ok(received.clone());
    }
    let mut target = String::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
    target.push_str(path);
    let mut separator = '?';
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let name = pair.split('=').next().unwrap_or_default();
        if strip.is_empty() || !strip.iter().any(|stripped| names_equal(name, stripped)) {
            target.push(separator);
            target.push_str(pair);
            separator = '&';
        }
    }
    Uri::from_maybe_shared(bytes::Bytes::from(target))
}

/// Whether a query's percent-encoded name is `plain`.
fn names_equal(encoded: &str, plain: &str) -> bool {
    let mut bytes = encoded.bytes();
    let mut decoded = std::iter::from_fn(|| match bytes.next()? {
        b'+' => Some(b' '),
        b'%' => {
            let mut digit = || bytes.next().and_then(|b| (b as char).to_digit(16));
            Some((digit()? << 4 | digit()?) as u8)
        }
        b => Some(b),
    });
    plain.bytes().all(|b| decoded.next() == Some(b)) && decoded.next().is_none()
}

/// Removes the cookies called `names`, and the authorization server's own.
pub fn strip_cookies(headers: &mut HeaderMap, names: &[&str]) {
    let Some(cookies) = headers.get(header::COOKIE) else { return };
    if names.is_empty() && !cookies.as_bytes().split(|b| *b == b';').any(is_own_cookie) {
        return;
    }
    let Some(cookies) = headers.remove(header::COOKIE) else { return };
    let kept: Vec<&[u8]> = cookies
        .as_bytes()
        .split(|b| *b == b';')
        .map(<[u8]>::trim_ascii)
        .filter(|pair| {
            // As the engine finds the key: white space before `=` is no part of the name.
            let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii_end();
            !pair.is_empty() && !is_own_cookie(pair) && !names.iter().any(|stripped| stripped.as_bytes() == name)
        })
        .collect();
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect("name"), value.parse().expect("value"));
        }
        headers
    }

    fn forwarding(trusted: bool) -> Forwarding<'static> {
        let peer = Box::leak(Box::new(Peer::new("203.0.113.9".parse().expect("address"), trusted)));
        peer.tls = true;
        let host = Box::leak(Box::new(HeaderValue::from_static("api.example")));
        Forwarding { peer, host }
    }

    #[test]
    fn a_client_cannot_speak_for_others_nor_name_its_own_user() {
        let mut headers = map(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-user", "admin"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("x-user-id", "1"),
            ("x-userid", "1"),
            ("x-remote-user", "root"),
            ("ssl-client-verify", "SUCCESS"),
            ("true-client-ip", "10.0.0.1"),
            ("x-request-id", "kept"),
            ("authorization", "Bearer x"),
        ]);
        to_upstream(&mut headers, &forwarding(false), &["authorization"]);
        let mut left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("text"))).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "via: 1.1 stockade",
                "x-forwarded-for: 203.0.113.9",
                "x-forwarded-host: api.example",
                "x-forwarded-proto: https",
                "x-request-id: kept"
            ]
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_joins_the_chain() {
        let mut headers = map(&[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "http")]);
        to_upstream(&mut headers, &forwarding(true), &[]);
        assert_eq!(headers[X_FORWARDED_FOR], "192.0.2.7, 203.0.113.9");
        assert_eq!(headers[X_FORWARDED_PROTO], "http");
    }

    #[test]
    fn nominated_and_hop_by_hop_fields_stay_at_their_hop() {
        let mut headers =
            map(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("te", "trailers"), ("upgrade", "h2c")]);
        to_upstream(&mut headers, &forwarding(false), &[]);
        assert!(["connection", "x-secret", "upgrade"].iter().all(|name| !headers.contains_key(*name)));
        assert_eq!(headers[header::TE], "trailers");
    }

    #[test]
    fn the_nearest_untrusted_hop_is_the_client() {
        let proxies = ["10.0.0.0/8".parse().expect("net")];
        let peer = "10.0.0.1".parse().expect("address");
        let find = |fields: &[(&str, &str)], trusted| client_address(peer, trusted, &proxies, &map(fields)).to_string();
        assert_eq!(find(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.9.9.9")], true), "2.2.2.2");
        assert_eq!(find(&[("x-forwarded-for", "1.1.1.1")], false), "10.0.0.1");
        assert_eq!(find(&[("x-forwarded-for", "1.1.1.1, unknown")], true), "10.0.0.1");
        assert_eq!(find(&[("forwarded", "for=1.1.1.1;proto=http, for=\"[2001:db8::1]:4711\"")], true), "2001:db8::1");
        assert_eq!(find(&[], true), "10.0.0.1");
    }

    #[test]
    fn keys_in_queries_and_cookies_do_not_reach_the_upstream() {
        let target = |uri: &str, strip: &[&str]| {
            upstream_target(&uri.parse().expect("a target"), "/a", strip).expect("valid").to_string()
        };
        assert_eq!(target("/a?x=1&api%20key=s&y&api+key=t", &["api key"]), "/a?x=1&y");
        assert_eq!(target("/%61?api+key=s", &["api key"]), "/a");
        assert_eq!(target("/a?x&y", &[]), "/a?x&y");
        assert_eq!(target("http://b/a?x", &[]), "/a?x");
        let mut headers = map(&[("cookie", "a=1; key=s; b=2")]);
        strip_cookies(&mut headers, &["key"]);
        assert_eq!(headers[header::COOKIE], "a=1; b=2");
        // The engine takes this one for the key as well.
        let mut headers = map(&[("cookie", "key =s; a=1")]);
        strip_cookies(&mut headers, &["key"]);
        assert_eq!(headers[header::COOKIE], "a=1");
    }

    #[test]
    fn the_authorization_servers_cookies_pass_neither_way() {
        let mut headers = map(&[("cookie", "__Host-stockade_session=s; a=1; __host-Stockade_browser=b")]);
        strip_cookies(&mut headers, &[]);
        assert_eq!(headers[header::COOKIE], "a=1");
        let mut headers = map(&[("cookie", "__Host-stockade_session=s")]);
        strip_cookies(&mut headers, &[]);
        assert!(!headers.contains_key(header::COOKIE));
        let mut headers = map(&[("set-cookie", "a=1"), ("set-cookie", "__Host-stockade_session=s; Secure; Path=/")]);
        to_client(&mut headers);
        assert_eq!(headers.get_all(header::SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1"]);
    }

    #[test]
    fn crumbs_become_one_cookie_field() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }
}
