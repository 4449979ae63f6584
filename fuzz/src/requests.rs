//! Requests and answers through the engine: path and query, parameters of every style, credentials, responses.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use stockade_engine::{
    Confirmation, Credential, CredentialKind, Credentials, Identity, Lookup, RequestHead, ResponseHead, Route,
    WholeRequest, WholeResponse, decide_request, decide_response,
};
use stockade_gateway::fuzzing::upstream_target;

use crate::support::{
    AREAS, Area, CANARY, Fields, Message, NOW, area, check_decision, check_denial, decision_print, denial_print,
    fields, fingerprint, form_decode, head, proofs,
};

pub const PATH_WORDS: &[&str] = &[
    "/",
    "//",
    "/.",
    "/..",
    "%2e",
    "%2E%2e",
    "%2f",
    "%5c",
    "\\",
    ";",
    "%3b",
    "%00",
    "%25",
    "%252e",
    "%c0%af",
    "%e2%80%ae",
    "%C2%80",
    "?",
    "#",
    "&",
    "=",
    "+",
    "[",
    "]",
    "{",
    "}",
    "|",
    ".json",
    "~",
    "*",
    "access_token=",
    "stk_at_",
    "é",
    " ",
    "/.;x/",
    "%3B..",
];

pub const WORDS: &[&str] = &[
    "\n\n",
    "\n",
    ": ",
    "application/json",
    "multipart/form-data; boundary=B",
    "application/x-www-form-urlencoded",
    "text/plain",
    "cookie: ",
    "content-type: ",
    "content-length: ",
    "transfer-encoding: chunked",
    "content-encoding: gzip",
    "host: ",
    "origin: https://app.example",
    "access-control-request-method: POST",
    "connection: ",
    "expect: ",
    "x-api-key: ",
    "authorization: Bearer ",
    "GET ",
    "POST ",
    "OPTIONS ",
    "HEAD ",
    "200",
    "404",
    "204",
    "101",
    "304",
    "0",
    "-1",
    "1e400",
    "1.0",
    "18446744073709551616",
    "true",
    "null",
    "\"",
    "%2C",
    "%7C",
    "%20",
    ",",
    "|",
    "[x]",
    "&",
    "=",
    ";",
    "{\"qty\":1}",
    "[1,2]",
    CANARY,
];

pub const CREDENTIAL_WORDS: &[&str] = &[
    "Bearer ",
    "bearer ",
    "Basic ",
    "stk_at_",
    "stk_ak_",
    "stk_cs_",
    "\n",
    "sid=",
    "key=",
    "app=",
    "access_token=",
    "; ",
    "&",
    "%73",
    "\"",
    "=",
    " ",
    "\t",
    CANARY,
];

/// Data: a request target. Every bundle looks it up.
pub fn path(data: &[u8]) -> u64 {
    let target = String::from_utf8_lossy(data);
    let headers: Fields = vec![("host".to_owned(), b"api.example".to_vec())];
    let mut prints = Vec::new();
    for area in AREAS.iter() {
        for method in ["GET", "POST"] {
            let head = head(method, &target, &headers, false);
            match area.plan.look_up(&head) {
                Lookup::Route(route) => {
                    prints.push(fingerprint(route.operation_id()));
                    check_route(area, &route, &head);
                    prints.push(denial_print(route.validate_head(&head).err().as_ref()));
                }
                Lookup::Answer(answer) => assert_eq!(answer.status, 200),
                Lookup::Deny(denial, _) => {
                    check_denial(&denial);
                    prints.push(denial_print(Some(&denial)));
                }
            }
        }
    }
    fingerprint(prints)
}

/// One spelling: nothing ambiguous is left, and the upstream gets exactly this path.
fn check_route(area: &Area, route: &Route<'_>, head: &RequestHead<'_>) {
    let canonical = route.canonical_path();
    assert!(canonical.starts_with('/') && !canonical.contains("//"), "{canonical:?}");
    assert!(canonical.bytes().all(|b| b.is_ascii_graphic() && !b"\\#?\"<>".contains(&b)), "{canonical:?}");
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(canonical).collect();
    let decoded = String::from_utf8(decoded).expect("the decoded path is UTF-8");
    assert!(!decoded.chars().any(char::is_control) && !decoded.contains('\\'), "{canonical:?}");
    assert_eq!(canonical.matches('/').count(), decoded.matches('/').count(), "an encoded slash: {canonical:?}");
    let names = decoded.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    assert!(names.into_iter().all(|name| name != "." && name != ".."), "{canonical:?}");

    let again = RequestHead { path: canonical, ..*head };
    if canonical.len() + head.query.map_or(0, |query| query.len() + 1) <= area.plan.max_target_bytes() {
        match area.plan.look_up(&again) {
            Lookup::Route(same) => {
                assert_eq!((same.canonical_path(), same.operation_index()), (canonical, route.operation_index()));
            }
            Lookup::Deny(denial, _) => panic!("the canonical path is refused: {canonical:?} {denial:?}"),
            Lookup::Answer(_) => panic!("the canonical path is answered: {canonical:?}"),
        }
    }
    // hyper has parsed the target before; what it cannot hold does not come here.
    let query = head.query;
    let received = format!("{}{}{}", head.path, query.map_or("", |_| "?"), query.unwrap_or_default());
    let Ok(received) = received.parse::<http::Uri>() else { return };
    let target = upstream_target(&received, canonical, route.strip_query()).expect("what was admitted is a target");
    assert_eq!(target.path(), canonical);
    for pair in target.query().unwrap_or_default().split('&') {
        let name = form_decode(pair.split('=').next().unwrap_or_default());
        assert!(!route.strip_query().iter().any(|key| key.as_bytes() == name), "a key is passed on: {target}");
    }
    if route.strip_query().is_empty() {
        assert_eq!(target.query(), query);
    }
}

pub fn path_seeds() -> Vec<Vec<u8>> {
    AREAS
        .iter()
        .flat_map(|area| area.cases().iter().map(move |case| (area, case)))
        .filter_map(|(area, case)| {
            case["request"]["target"].as_str().map(|target| area.with_secrets(target).into_bytes())
        })
        .collect()
}

/// Data: `<bundle> <METHOD> <target>`, header lines, an empty line, the body.
pub fn request(data: &[u8]) -> u64 {
    let message = Message::read(data);
    let mut words = message.first.splitn(3, ' ');
    let area = area(words.next().unwrap_or_default());
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
    let certificate = message.headers.iter().any(|(name, _)| name == "x-with-certificate");
    let head = head(method, target, &message.headers, certificate);
    let whole = WholeRequest { head, body: &message.body };
    let known = |credential: &Credential<'_>| Ok(resolve(area, credential));
    let decided = decide_request(&area.plan, None, &proofs(), &whole, &known, NOW);
    check_decision(&decided);
    let again = decide_request(&area.plan, None, &proofs(), &whole, &known, NOW);
    assert_eq!(format!("{decided:?}"), format!("{again:?}"), "the same request, another decision");
    if decided.outcome == "allow"
        && let Lookup::Route(route) = area.plan.look_up(&whole.head)
    {
        check_route(area, &route, &whole.head);
    }
    check_nobody_passes(area, &whole);
    decision_print(&decided)
}

fn resolve(area: &Area, credential: &Credential<'_>) -> Option<Identity> {
    let mut known = area.file["credentials"].as_object()?.values();
    let identity = &known.find(|known| known["secret"] == *credential.secret)?["identity"];
    let text = |name: &str| identity[name].as_str().unwrap_or_default().to_owned();
    let texts = |name: &str| -> Vec<String> {
        identity[name].as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    identity.is_object().then(|| Identity {
        kind: if identity["kind"] == "api_key" { CredentialKind::ApiKey } else { CredentialKind::AccessToken },
        client_id: text("client_id"),
        subject: text("subject"),
        scopes: texts("scopes"),
        issuer: text("issuer"),
        audience: texts("audience"),
        expires_at: identity["expires_at"].as_u64(),
        confirmation: Confirmation {
            jkt: identity["jkt"].as_str().and_then(|jkt| URL_SAFE_NO_PAD.decode(jkt).ok()?.try_into().ok()),
            certificate: identity["certificate"].is_string().then_some([1; 32]),
        },
        acr: identity["acr"].as_str().map(str::to_owned),
        auth_time: identity["auth_time"].as_u64(),
    })
}

/// Whoever proves nothing gets nothing that is not public, whatever he sends.
fn check_nobody_passes(area: &Area, whole: &WholeRequest<'_>) {
    let nobody = |_: &Credential<'_>| Ok(None);
    let whole = WholeRequest { head: RequestHead { client_certificate: false, ..whole.head }, body: whole.body };
    let decided = decide_request(&area.plan, None, &proofs(), &whole, &nobody, NOW);
    let Some(id) = decided.operation.as_deref().filter(|_| decided.outcome == "allow") else { return };
    let operation = area.operation(id);
    let alternatives = operation["security"].as_array().map(Vec::as_slice).unwrap_or_default();
    let public = alternatives.is_empty() || alternatives.iter().any(|all| all.as_array().is_some_and(Vec::is_empty));
    let enforced = operation["modes"]["authenticate"] == "enforce";
    assert!(public || !enforced, "{id} was allowed to nobody");
}

fn pairs(headers: &Value, area: &Area) -> Vec<(String, String)> {
    let text = |value: &Value| area.with_secrets(value.as_str().unwrap_or_default());
    headers.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn body(message: &Value) -> Vec<u8> {
    match (&message["body"], message["body"]["base64"].as_str()) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Some(encoded)) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn request_of(area: &Area, request: &Value) -> (String, Vec<(String, String)>) {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let mut headers = pairs(&request["headers"], area);
    if let Some(caller) = request["as"].as_str() {
        headers.push(("authorization".to_owned(), area.with_secrets(&format!("Bearer {{{caller}}}"))));
    }
    (format!("{} {} {}", area.name, text("method"), area.with_secrets(text("target"))), headers)
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for area in AREAS.iter() {
        for case in area.cases().iter().filter(|case| case["request"].is_object()) {
            let (first, headers) = request_of(area, &case["request"]);
            seeds.push(Message::write(&first, &headers, &body(&case["request"])));
        }
    }
    seeds
}

/// Data: the lines `Authorization`, `Cookie`, query and `X-API-Key`.
pub fn credentials(data: &[u8]) -> u64 {
    let area = area("security");
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (authorization, cookie, query, key) = (next(), next(), next(), next());
    let query = String::from_utf8_lossy(query);
    let mut headers: Fields = Vec::new();
    for (name, value) in [("authorization", authorization), ("cookie", cookie), ("x-api-key", key)] {
        if !value.is_empty() {
            headers.extend(value.split(|byte| *byte == 0x1e).map(|value| (name.to_owned(), value.to_vec())));
        }
    }
    let mut prints = Vec::new();
    for operation in area.file["payload"]["operations"].as_array().into_iter().flatten() {
        let path = operation["paths"][0].as_str().unwrap_or_default();
        let method = operation["method"].as_str().unwrap_or_default();
        for certificate in [false, true] {
            let mut head = head(method, path, &headers, certificate);
            head.query = (!query.is_empty()).then_some(&*query);
            if let Lookup::Route(route) = area.plan.look_up(&head) {
                prints.push(check_credentials(&route, &head));
            }
        }
    }
    fingerprint(prints)
}

fn check_credentials(route: &Route<'_>, head: &RequestHead<'_>) -> u64 {
    let found = match route.credentials(head) {
        Ok(Credentials::Public) => return 0,
        Ok(Credentials::Present(found)) => found,
        Err(denial) => {
            check_denial(&denial);
            return denial_print(Some(&denial));
        }
    };
    assert!(!found.is_empty());
    for credential in &found {
        check_secret(credential);
    }
    let identity = |kind, audience: &str, scopes: &[&str]| Identity {
        kind,
        client_id: "c".to_owned(),
        subject: "s".to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        issuer: "https://auth.example".to_owned(),
        audience: vec![audience.to_owned()],
        expires_at: Some(NOW + 1),
        confirmation: Confirmation::default(),
        acr: None,
        auth_time: None,
    };
    let all = |audience: &str, scopes: &[&str]| -> Vec<Identity> {
        found.iter().map(|credential| identity(credential.kind, audience, scopes)).collect()
    };
    let authorize = |identities: &[Identity], now| {
        let borrowed: Vec<&Identity> = identities.iter().collect();
        route.authorize(head, &borrowed, &proofs(), now)
    };
    let good = all("https://api.example", &["admin", "orders:read", "orders:write"]);
    authorize(&good, NOW).expect("every scope is there");
    if !route.allows_anonymous() {
        assert!(authorize(&[], NOW).is_err(), "nobody is authorized");
        assert!(authorize(&all("https://other.example", &["admin", "orders:read", "orders:write"]), NOW).is_err());
        assert!(authorize(&good, NOW + 1).is_err(), "an expired credential is taken");
    }
    fingerprint((found.len(), route.operation_index()))
}

/// A credential of our own form has the right kind, length and checksum; any other is visible ASCII (contracts §8).
fn check_secret(credential: &Credential<'_>) {
    let secret: &Cow<'_, str> = &credential.secret;
    assert!(!secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic()));
    if !secret.starts_with("stk_") {
        return;
    }
    let prefix = if credential.kind == CredentialKind::AccessToken { "stk_at_" } else { "stk_ak_" };
    assert!(secret.starts_with(prefix) && secret.len() == 56, "of another kind or length");
    let (text, checksum) = secret.split_at(50);
    let crc = !text.bytes().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    assert_eq!(checksum, URL_SAFE_NO_PAD.encode(crc.to_be_bytes()), "the checksum does not hold");
}

pub fn credential_seeds() -> Vec<Vec<u8>> {
    let area = area("security");
    let known = area.file["credentials"].as_object().into_iter().flatten();
    known
        .filter_map(|(_, credential)| credential["secret"].as_str())
        .map(|secret| format!("Bearer {secret}\nsid={secret}; b=c\nkey={secret}&app={secret}\n{secret}").into_bytes())
        .collect()
}

/// Data: `<bundle> <METHOD> <target>`, request header lines, a line `= <status>`, header lines of the answer, an empty line, its body.
pub fn response(data: &[u8]) -> u64 {
    let message = Message::read(data);
    let mut words = message.first.splitn(3, ' ');
    let area = area(words.next().unwrap_or_default());
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
    let split = message.headers.iter().position(|(name, _)| name.starts_with("= "));
    let split = split.unwrap_or(message.headers.len());
    let status = message.headers.get(split).and_then(|(name, _)| name.get(2..)?.parse().ok()).unwrap_or(200);
    let asked: Fields = message.headers[..split].to_vec();
    let answered: Fields = message.headers.get(split + 1..).unwrap_or_default().to_vec();
    let head = head(method, target, &asked, false);
    let request = WholeRequest { head, body: b"" };
    let answer = WholeResponse { head: ResponseHead { status, headers: &answered }, body: &message.body };
    let decided = decide_response(&area.plan, &request, &answer);
    for denial in decided.denial.iter().chain(&decided.observed) {
        check_denial(denial);
    }
    assert_eq!(decided.outcome == "allow", decided.denial.is_none());
    if decided.outcome == "sanitise" {
        assert_eq!(
            decided.denial.as_ref().map(|denial| denial.status),
            Some(status),
            "a sanitised error keeps its status"
        );
    }
    let again = decide_response(&area.plan, &request, &answer);
    assert_eq!(format!("{decided:?}"), format!("{again:?}"), "the same answer, another decision");
    fingerprint((decided.outcome, denial_print(decided.denial.as_ref()), decided.observed.len()))
}

pub fn response_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for area in AREAS.iter() {
        for case in area.cases().iter().filter(|case| case["response"].is_object()) {
            let (first, mut headers) = request_of(area, &case["request"]);
            headers.push((format!("= {}", case["response"]["status"]), String::new()));
            headers.extend(pairs(&case["response"]["headers"], area));
            seeds.push(Message::write(&first, &headers, &body(&case["response"])));
        }
    }
    seeds
}

/// Header lines for a body of one media type.
pub fn content_type(value: &[u8]) -> Fields {
    fields([b"host: api.example", [b"content-type: ", value].concat().as_slice()].into_iter())
}
